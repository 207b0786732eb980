"""Checkers of notebook 05: sinusoids, the sum of embeddings, tied logits, the loss, the size."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from bertlib.attention import sinusoids
from bertlib.checks import checker, expect, number, require, same
from bertlib.checks.calling import watched


def random(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers that leave the notebook's own random state alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def waves(length: int, rates: Tensor, first: int = 0) -> Tensor:
    """Sine and cosine side by side for each rate [D/2], from position `first` on: [T, D]."""
    angles = torch.arange(first, first + length)[:, None] * rates  # [T, D/2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)


def feature_waves(length: int, width: int, factor: int) -> Tensor:
    """What comes out if every feature, not every pair, has a rate of its own: [T, D]."""
    feature = torch.arange(width)
    angles = torch.arange(length)[:, None] * 10_000.0 ** (-factor * feature / width)
    return torch.where(feature % 2 == 0, angles.sin(), angles.cos())


@checker
def check_sinusoids(answer):
    """`answer(length, width)` returns the position codes [T, D] of Vaswani et al. 2017, 3.5."""
    length, width = 7, 6
    pair = torch.arange(width // 2)
    right = sinusoids(length, width)
    sines, cosines = right[:, 0::2], right[:, 1::2]
    got = answer(length, width)
    upside_down = waves(length, 10_000.0 ** (2 * pair / width))
    require(not same(got, upside_down, 1e-2),  # angles of thousands: sines are less exact
            "the rates grow; divide by 10000^(2i/D) instead of multiplying")
    expect(got, right, {
        "these are still zeros": torch.zeros(length, width),
        "all sines stand first and all cosines after them; let them alternate":
            torch.cat((sines, cosines), 1),
        "sine and cosine changed places; the even features are sines":
            torch.stack((cosines, sines), -1).flatten(1),
        "every feature is a sine; the odd ones must be cosines": sines.repeat_interleave(2, 1),
        "the exponent is i/D, it should be 2i/D: the slowest wave is too fast":
            waves(length, 10_000.0 ** (-pair / width)),
        "each feature has a rate of its own; a sine and its cosine share one":
            feature_waves(length, width, 1),
        "i counts the pairs of features, from 0 to D/2 - 1, not the features":
            feature_waves(length, width, 2),
        "the positions begin at 1; the first one is 0":
            waves(length, 10_000.0 ** (-2 * pair / width), first=1),
        "the table lies on its side; a row is a position": right.T,
    }, "the values are others; row 1 should begin with 0.841, 0.540 (sine and cosine of 1)")
    expect(answer(20, 16), sinusoids(20, 16), hint="it is right for 7 x 6 only; try 20 x 16")


@checker
def check_embeddings(answer):
    """`answer(input_ids, token_type_ids, token, position, token_type)`: the sum [B, T, D]."""
    ids, kinds = torch.tensor([[3, 1, 2], [0, 1, 4]]), torch.tensor([[0, 0, 1], [0, 1, 1]])
    token, position, token_type = random(5, 4), random(8, 4, seed=1), random(2, 4, seed=2)
    words, places, types = token[ids], position[:3], token_type[kinds]
    right = words + places + types  # [B, T, D]
    expect(answer(ids, kinds, token, position, token_type), right, {
        "only the words are there; add position and token type": words,
        "the positions count on over the batch; every sequence begins at 0":
            words + position[:6].view(2, 3, 4) + types,
        "all tokens of a sequence get one position, that of its row in the batch":
            words + position[:2, None] + types,
        "the position is looked up by the token's id; use its place": words + position[ids] + types,
        "the positions begin at 1; the first one is 0": words + position[1:4] + types,
        "the position is forgotten": words + types,
        "the token type is forgotten": words + places,
        "the token type is always 0; look it up by token_type_ids": words + places + token_type[0],
        "the position is multiplied; add it": words * places + types,
        "the position is multiplied with words and token types; add it": (words + types) * places,
        "all three are multiplied; add them": words * places * types,
        "that is the mean of the three; add them": right / 3,
        "the three stand side by side; add them":
            torch.cat((words, places.expand_as(words), types), -1),
        "that is the sum after a norm; here only the sum is asked": F.layer_norm(right, (4,)),
    }, "the sum is another one")
    short, kind = ids[:1, :2], kinds[1:, 1:]
    expect(answer(short, kind, token, position, token_type),
           token[short] + position[:2] + token_type[kind],
           hint="it is right for one batch only; try one sequence of two tokens")


@checker
def check_tied_logits(answer):
    """`answer(hidden, table, bias)`: hidden [.., D], table [V, D], bias [V] -> logits [.., V]."""
    hidden, table, bias = random(3, 4), random(4, 4, seed=1), random(4, seed=2)  # V = D
    right = hidden @ table.T + bias  # [K, V]
    expect(answer(hidden, table, bias), right, {
        "the bias is forgotten": hidden @ table.T,
        "the table is not turned: a word is a row of it, so use its transpose":
            hidden @ table + bias,
        "the table is not turned, and the bias is forgotten": hidden @ table,
        "the bias is subtracted; add it": hidden @ table.T - bias,
        "the logits are divided by the square root of D; that belongs to attention":
            hidden @ table.T / 2 + bias,
        "these are probabilities; logits come before the softmax": right.softmax(-1),
        "these are log probabilities; logits come before the softmax": right.log_softmax(-1),
        "these are cosines: do not normalise":
            F.normalize(hidden, dim=-1) @ F.normalize(table, dim=-1).T + bias,
    }, "the logits are others")
    hidden, table, bias = random(2, 3, 4), random(7, 4, seed=1), random(7, seed=2)
    table.requires_grad_()
    got = answer(hidden, table, bias)
    expect(got, hidden @ table.T + bias, hint="it is right for [K, D] only; try [B, T, D]")
    require(got.requires_grad, "no gradient reaches the table: it was detached or copied")


def loss_mistakes(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Mistake in words -> the loss that it returns."""
    flat, targets = logits.flatten(0, 1), labels.flatten()
    used = targets != -100
    filled = targets.clamp(min=0)
    each = F.cross_entropy(flat, filled, reduction="none")  # [B*T]
    right = each[used].mean()
    rows = (each * used).view(labels.shape).sum(1) / used.view(labels.shape).sum(1)  # [B]
    return {
        "the sum is divided by all positions; divide it by the number of labels":
            (each * used).mean(),
        "positions without a label count as if their label were 0: padding is trained on":
            each.mean(),
        "label 0 is ignored; it is a word like others, only -100 means no label":
            each[targets > 0].mean(),
        "the loss is in bits; nats need the natural logarithm": right / math.log(2),
        "the losses are added up; take their mean": each[used].sum(),
        "that is a mean of the means of the rows; every label should weigh the same": rows.mean(),
        "the sign is turned around": -right,
        "softmax is applied twice; cross-entropy takes logits":
            F.cross_entropy(flat.softmax(-1), targets),
        "logsumexp is missing: the other words do not count":
            -flat.gather(1, filled[:, None])[:, 0][used].mean(),
        "that is the mean probability of the right words; take its negative logarithm first":
            (-each).exp()[used].mean(),
        "that is the logarithm of the mean; take the mean of the logarithms":
            -(-each).exp()[used].mean().log(),
    }


@checker
def check_masked_loss(answer):
    """`answer(logits [B, T, V], labels [B, T])`: mean cross-entropy in nats where not -100."""
    answer, called = watched(answer)
    for seed, labels in enumerate(([[-100, 3, -100, 0], [-100, -100, 2, -100]],
                                   [[6], [-100], [1]])):
        labels = torch.tensor(labels)
        logits = 2 * random(*labels.shape, 5 + 2 * seed, seed=seed)
        expect(answer(logits.clone(), labels.clone()),
               F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
               loss_mistakes(logits, labels) if seed == 0 else {},
               "the loss is another number" if seed == 0 else
               "right for logits [2, 4, 5], but not for [3, 1, 7]")
    large = torch.tensor([[[200.0, 0.0], [0.0, 0.0]]])  # [1, 2, V]
    got = number(answer(large, torch.tensor([[1, -100]])))
    require(not isinstance(got, float) or math.isfinite(got), "a logit of 200 makes infinity; use "
            "logsumexp, which subtracts the largest logit before exp")
    expect(got, 200.0, hint="with a logit of 200 the loss should be 200")
    require("cross_entropy" not in called, "the loss is right, but F.cross_entropy makes it; do it "
            "without")


def bert_parts(vocab_size: int, seq_len: int, d_model: int, n_layer: int,
               d_ff: int) -> dict[str, int]:
    """What BERT with its tied head is made of, in numbers that are learned."""
    return {
        "token": vocab_size * d_model, "position": seq_len * d_model, "token type": 2 * d_model,
        "embedding norm": 2 * d_model,
        "attention": n_layer * 4 * d_model**2, "attention biases": n_layer * 4 * d_model,
        "feed-forward": n_layer * 2 * d_model * d_ff,
        "feed-forward biases": n_layer * (d_ff + d_model), "block norms": n_layer * 4 * d_model,
        "dense": d_model**2, "dense bias": d_model, "head norm": 2 * d_model,
        "decoder bias": vocab_size,
    }


# mistake -> the parts of BERT that are left out; some parts are equally large and stay undecided
FORGOTTEN = {
    "the position embeddings are forgotten": ("position",),
    "2 x D numbers are missing: the two rows of token types, or one norm": ("token type",),
    "position and token type embeddings are forgotten": ("position", "token type"),
    "the biases are forgotten": ("attention biases", "feed-forward biases", "dense bias",
                                 "decoder bias"),
    "the biases inside the blocks are forgotten": ("attention biases", "feed-forward biases"),
    "4 x D numbers a block are missing: the biases of attention, or the two norms":
        ("attention biases",),
    "the biases of the feed-forward layers are forgotten": ("feed-forward biases",),
    "the biases of the head are forgotten": ("dense bias", "decoder bias"),
    "the bias of the decoder is forgotten": ("decoder bias",),
    "the norms are forgotten": ("embedding norm", "block norms", "head norm"),
    "the dense layer of the head is forgotten": ("dense", "dense bias"),
    "dense layer and norm of the head are forgotten": ("dense", "dense bias", "head norm"),
    "the head is forgotten": ("dense", "dense bias", "head norm", "decoder bias"),
}


def size_mistakes(*sizes: int) -> dict[str, int]:
    """What counting BERT of these sizes (as in `bert_parts`) returns with one mistake each."""
    parts = bert_parts(*sizes)
    right, (_, _, width, layers, d_ff) = sum(parts.values()), sizes
    block = 4 * width**2 + 9 * width + 2 * width * d_ff + d_ff
    return {words: right - sum(parts[name] for name in names)
            for words, names in FORGOTTEN.items()} | {
        "only the token embeddings are counted": parts["token"],
        "the decoder is counted twice: it is the token table, tied": right + parts["token"],
        "only one block is counted": right - (layers - 1) * block,
        "attention has four matrices; the output projection is forgotten":
            right - layers * (width**2 + width),
        "a block has two norms, only one is counted": right - layers * 2 * width,
        "a norm has a weight and a bias; only one of them is counted":
            right - (2 + 2 * layers) * width,
        "a feed-forward layer has two matrices, up and down; only one is counted":
            right - layers * width * d_ff,
    }


@checker
def check_n_parameters(answer):
    """`answer(vocab_size, seq_len, d_model, n_layer, d_ff)`: the size of BERT, tied head."""
    sizes = (101, 17, 12, 3, 46)
    built = []
    note = register_module_parameter_registration_hook(lambda module, name, _: built.append(name))
    with note:
        right, got = sum(bert_parts(*sizes).values()), number(answer(*sizes))
        off = f"{got - right:+,.0f}" if isinstance(got, int | float) else ""
        expect(got, right, size_mistakes(*sizes), f"for the sizes {sizes} it is off by {off}", 1e-9)
    require(not built, "the number is right, but a model was built to count it; do it without")
    base = answer(30522, 512, 768, 12, 3072)
    expect(base, 109_514_298, hint=f"BERT base has 109,514,298 parameters, it returns {base}",
           tolerance=1e-12)
