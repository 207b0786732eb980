"""Checkers of notebook 09: the head, batches by length, padding, rates by layer, what words say."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.checks import checker, expect, mistakes, require
from bertlib.checks.calling import Answer, NotYet

# What may go wrong in the head: each part, its right choice first, then mistakes in words.
HEAD_CHOICES: dict[str, dict[Any, str]] = {
    "read": {"first": "", "last": "you read the last token; [CLS] is the first one",
             "mean": "you read the mean of all tokens; read [CLS], the first one",
             "one": "you read the first text only; each text has its own [CLS]"},
    "bend": {"tanh": "", "none": "the tanh behind the pooler was forgotten",
             "relu": "the pooler bends by tanh, not by ReLU",
             "late": "the tanh stands behind the pooler, not behind the classifier"},
    "pool": {True: "", False: "the pooler was left out"},
    "drop": {"pooled": "", "none": "dropout was forgotten",
             "early": "dropout stands between pooler and classifier, not before the pooler",
             "logits": "dropout stands between pooler and classifier, not on the logits"},
}


def _logits(hidden: Tensor, pooler: Answer, dropout: Answer, classifier: Answer,
            choice: dict[str, Any]) -> Tensor:
    """The head with one choice for each part, right or wrong."""
    first = {"first": hidden[:, 0], "last": hidden[:, -1], "mean": hidden.mean(1),
             "one": hidden[0, :1].expand(len(hidden), -1)}[choice["read"]]  # [B, D]
    first = dropout(first) if choice["drop"] == "early" else first
    pooled = pooler(first) if choice["pool"] else first
    bent = {"tanh": pooled.tanh(), "relu": pooled.relu()}
    pooled = bent.get(choice["bend"], pooled)
    logits = classifier(dropout(pooled) if choice["drop"] == "pooled" else pooled)
    logits = torch.tanh(logits) if choice["bend"] == "late" else logits
    return dropout(logits) if choice["drop"] == "logits" else logits


def _visible_dropout(x: Tensor) -> Tensor:
    """A dropout without chance: each third feature goes, the others are scaled."""
    return 1.5 * x * (torch.arange(x.shape[-1]) % 3 != 1)


def _layer(width: int, out: int, draw: torch.Generator) -> nn.Linear:
    layer = nn.Linear(width, out).requires_grad_(False)
    layer.weight.normal_(generator=draw)
    layer.bias.normal_(generator=draw)
    return layer


@checker
def check_head(answer):
    """answer(hidden [B, T, D], pooler, dropout, classifier, labels [B]) -> (logits, loss)."""
    for seed, (texts, length, width, classes) in enumerate([(3, 4, 5, 2), (2, 6, 4, 3)]):
        draw = torch.Generator().manual_seed(seed)
        hidden = torch.randn(texts, length, width, generator=draw)  # [B, T, D]
        labels = torch.randint(classes, (texts,), generator=draw)
        parts = (hidden, _layer(width, width, draw), _visible_dropout,
                 _layer(width, classes, draw))
        make = partial(_logits, *parts)
        right = make({part: next(iter(ways)) for part, ways in HEAD_CHOICES.items()})
        got = answer(*parts, labels)
        require(isinstance(got, list | tuple) and len(got) == 2,
                "return two things: the logits [B, C] and the loss")
        expect(got[0], right, mistakes(HEAD_CHOICES, make, 2) | {
            "these are probabilities; logits come straight from the classifier":
                right.softmax(-1)},
            "classifier(dropout(tanh(pooler(state of the first token))))")
        _expect_loss(got[1], right, labels)


def _expect_loss(got: Any, logits: Tensor, labels: Tensor) -> None:
    """`NotYet` unless it is the mean cross-entropy."""
    chosen = logits.log_softmax(-1)[torch.arange(len(labels)), labels]  # [B]
    expect(got, -chosen.mean(), {
        "the loss is the sum over the texts; take the mean": -chosen.sum(),
        "cross_entropy takes logits; a softmax before it is one too many":
            F.cross_entropy(logits.softmax(-1), labels),
        "the sign of the loss is turned round": chosen.mean(),
        "that is the mean probability of the right class; take its negative logarithm":
            chosen.exp().mean(),
        "that is a squared error; classes take cross-entropy":
            F.mse_loss(logits.softmax(-1), F.one_hot(labels, logits.shape[1]).float()),
    }, "the logits are right; the loss is the mean cross-entropy of them and the labels")


@checker
def check_batches(answer):
    """answer(lengths, size) -> lists of places, each text once, the shortest texts first."""
    for lengths, size in (([7, 3, 9, 4, 8], 2), ([5, 1, 4, 1, 3, 2], 3), ([6, 2], 4)):
        got = answer(list(lengths), size)
        require(isinstance(got, list | tuple) and all(isinstance(one, list | tuple | Tensor)
                                                      for one in got),
                "return a list of batches, each a list of places")
        batches = [[int(place) for place in one] for one in got]
        found = sum(batches, [])
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        require(found != sorted(lengths), "these are the lengths; return the *places* of the texts")
        require(max(map(len, batches), default=0) <= size,
                f"a batch has more than size = {size} texts")
        whole = len(lengths) // size * size
        require(not (len(found) == whole < len(lengths)), "the last batch was dropped: it may be "
                "smaller, but each text is needed")
        require(sorted(found) == list(range(len(lengths))),
                f"each place 0..{len(lengths) - 1} should come once; yours come as {found}")
        require(all(batches), "one of the batches is empty")
        lined = [lengths[place] for place in found]
        require(found == list(range(len(lengths))) or lined != sorted(lengths, reverse=True),
                "the longest come first; begin with the shortest")
        require(lined == sorted(lengths), "texts of about one length should stand together: sort "
                "the places by length before you cut")
        require(len(batches) == -(-len(order) // size), "batches should be full, but for the last")
        require(all(len(batch) == size for batch in batches[:-1]),
                "only the last batch may be smaller")


@checker
def check_pad(answer):
    """answer(rows, pad) -> (ids [B, T], attention_mask [B, T], True at real tokens)."""
    for rows, pad in (([[2, 7, 3], [2, 9, 8, 5, 3], [2, 3]], 0), ([[4, 1], [6]], 9)):
        long = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (long - len(row)) for row in rows])  # [B, T]
        real = torch.arange(long) < torch.tensor([[len(row)] for row in rows])  # [B, T]
        got = answer([list(row) for row in rows], pad)
        require(isinstance(got, list | tuple) and len(got) == 2,
                "return two things: the ids [B, T] and the attention mask [B, T]")
        short = min(map(len, rows))
        expect(got[0], ids, {
            "the texts were cut to the shortest; fill up to the longest": ids[:, :short],
            "the padding stands before the text; put it behind, so that [CLS] stays at place 0":
                torch.tensor([[pad] * (long - len(row)) + row for row in rows]),
            f"it was filled up with 0; the id of [PAD] is given, here {pad}":
                ids.where(real, torch.tensor(0)),
        }, "each row: its ids, then pad until it is as long as the longest")
        require(isinstance(got[0], Tensor) and got[0].dtype == torch.int64, "the ids must be an "
                "int64 tensor: an embedding looks rows up by whole numbers")
        mask = torch.as_tensor(got[1])
        require(mask.shape == ids.shape, f"the mask has the shape {tuple(mask.shape)}, the ids "
                f"{tuple(ids.shape)}")
        require(not torch.equal(mask.bool(), ~real), "the mask is turned round: True is a real "
                "token, False is padding")
        require(not mask.bool().all(), "the mask is True everywhere; False stands at padding")
        expect(mask.bool(), real, {"False stands at padding alone; a token whose id is 0 is no "
                                   "padding unless pad is 0": ids != 0},
               "True at the tokens of each text, False behind them")
        require(mask.dtype == torch.bool, f"the mask is of type {mask.dtype}; make it bool")


@checker
def check_rates(answer):
    """answer(rate, decay, blocks) -> rates of the embeddings, each block from below, the head."""
    for rate, decay, blocks in ((0.8, 0.5, 2), (1e-3, 0.9, 4), (0.1, 1.0, 3)):
        right = [rate * decay ** (blocks + 1 - depth) for depth in range(blocks + 2)]
        got = answer(rate, decay, blocks)
        require(isinstance(got, list | tuple | Tensor), "return a list of rates")
        got = [float(value) for value in got]
        expect(got, right, {
            "the order is turned round: the embeddings come first and have the smallest rate":
                right[::-1],
            "the head has the full rate, without a factor": [value * decay for value in right],
            "the head has more than the full rate; its exponent is 0":
                [value / decay for value in right],
            "the last block is one layer below the head: its rate has one factor":
                [*right[1:-1], rate, rate],
            "the embeddings are missing: they are the lowest layer": right[1:],
            "the head is missing: it comes last, with the full rate": right[:-1],
            "that is the same rate for all; each layer further down has this share of the one "
            "above": [rate] * (blocks + 2),
            "the rates fall by steps of one size; multiply by decay, layer after layer":
                [rate * (1 - (1 - decay) * (blocks + 1 - depth)) for depth in range(blocks + 2)],
        }, f"for {blocks} blocks there are {blocks + 2} rates: the head has the full one, and each "
           "layer further down `decay` times that of the layer above", tolerance=1e-7)


@checker
def check_attribution(answer):
    """answer(score, x [T, D]) -> [T]: gradient times input, summed over the features."""
    for seed in range(3):
        draw = torch.Generator().manual_seed(seed)
        x, w = torch.randn(2, 6, 3, generator=draw)  # each [T, D]

        def score(x: Tensor, w: Tensor = w) -> Tensor:
            return (x * w).sum().tanh() + (x[0] * x[1]).sum()

        leaf = x.clone().requires_grad_()
        gradient, = torch.autograd.grad(score(leaf), leaf)  # [T, D]
        right = (gradient * x).sum(-1)  # [T]
        got = answer(score, x.clone())
        require(not isinstance(got, Tensor) or not got.requires_grad,
                "the weights still hang on the graph; detach x or the result")
        expect(got, right, {
            "that is the gradient times the input of each feature; sum over the features":
                gradient * x,
            "that is the gradient alone; multiply it by the input": gradient.sum(-1),
            "that is the gradient alone, [T, D]; multiply it by the input and sum": gradient,
            "that is the size of the gradient, which has no sign; multiply by the input and sum":
                gradient.norm(dim=-1),
            "the sign was lost: a word may speak against": right.abs(),
            "the sign is turned round": -right,
            "you summed over the tokens; one number a token is asked": (gradient * x).sum(0),
            "you took the mean over the features; take the sum": (gradient * x).mean(-1),
            "that is the input alone": x.sum(-1),
            "that is the whole sum, one number; a token has its own": right.sum(),
        }, "x.grad * x, summed over the last axis")


@checker
def check_matthews(answer):
    """answer(table [2, 2]: rows the truth, columns the guess) -> -1..1."""
    for table in ([[50, 10], [5, 35]], [[90, 0], [10, 0]], [[0, 7], [8, 0]], [[20, 20], [20, 20]],
                  [[3, 0], [0, 4]]):
        (a, b), (c, d) = table
        root = math.sqrt((a + b) * (c + d) * (a + c) * (b + d))
        right = (a * d - b * c) / root if root else 0.0
        whole = a + b + c + d
        try:
            got = float(answer(torch.tensor(table, dtype=torch.float64)))
        except (TypeError, ValueError):
            got = math.nan
        except NotYet as reason:  # a division by zero, told already
            if not isinstance(reason.__cause__, ZeroDivisionError):
                raise
            got = math.nan
        require(root > 0 or math.isfinite(got), "where one class was never guessed the root is 0; "
                "the correlation is 0 there, not a division by zero")
        wrong = {"that is the accuracy": (a + d) / whole}
        if root:
            wrong |= {
                "the sign was lost: where most guesses are wrong it is below 0": abs(right),
                "the sign is turned round": -right,
                "divide by the *root* of the product of the four sums": (a * d - b * c) / root**2,
                "the sums of the rows and those of the columns both go under the root":
                    (a * d - b * c) / math.sqrt((a + b) * (c + d)),
                "right minus wrong over all is accuracy in another unit": (a + d - b - c) / whole,
                "the two kinds of mistakes count against it: subtract their product":
                    (a * d + b * c) / root,
            }
        expect(got, right, {words: value for words, value in wrong.items()
                            if abs(value - right) > 1e-3},
               f"for {table} it should be {right:.3f}", tolerance=1e-5)
