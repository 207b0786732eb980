"""Checkers of notebook 05: the loss by hand, the size. Those of its classes are in `model`."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.module import register_module_parameter_registration_hook

from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import watched


def random(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers that leave the notebook's own random state alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


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
    for seed in range(2, 8):
        draw, words = torch.Generator().manual_seed(seed), 3 + seed
        labels = torch.randint(words, (1 + seed % 3, 2 + seed), generator=draw)
        labels[torch.rand(labels.shape, generator=draw) < 0.6] = -100
        labels[0, 0] = seed % words
        logits = 2 * random(*labels.shape, words, seed=seed)
        expect(answer(logits.clone(), labels.clone()),
               F.cross_entropy(logits.flatten(0, 1), labels.flatten()),
               hint=f"right for logits [2, 4, 5], but not for {list(logits.shape)}")
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
