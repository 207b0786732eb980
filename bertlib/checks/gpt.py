"""Checkers of notebook 10: the mask, the labels, and three ways to draw."""

from typing import Any

import torch
from torch import Tensor

from bertlib.checks import checker, expect, mistakes, require
from bertlib.gpt import next_shares

CLS, SEP, PAD, UNK = 2, 3, 0, 1  # ids of special tokens in these checks
HIDE = -100  # a label that F.cross_entropy leaves out


# -- the mask ----------------------------------------------------------------------------------


@checker
def check_causal(answer):
    """answer(length) -> what is added to scores, 0 or -inf: [T, T], row = who asks."""
    for length in (4, 1, 7):
        bias = answer(length)
        require(isinstance(bias, Tensor), f"it returns {type(bias).__name__}, not a tensor")
        require(bias.shape == (length, length), f"the shape is {tuple(bias.shape)}, it should be "
                f"({length}, {length})")
        require(bias.dtype != torch.bool, "it is a table of true and false; what is added to the "
                "scores are numbers, 0 and -inf")
        require(not bias.isnan().any(), "0 times -inf is not a number; begin with a table full of "
                "-inf and take one triangle of it, or use masked_fill")
        table = bias.float()
        require(bool(((table == 0) | table.isneginf()).all()), "what may be read gets 0 and what "
                "may not -inf, so that its weight is exactly 0 whatever the scores are; there are "
                "other numbers")
        _judge_triangle(table, length)


def _judge_triangle(table: Tensor, length: int) -> None:
    """`NotYet` unless exactly what comes later is hidden."""
    every = torch.ones(length, length)
    wrong = {} if length == 1 else {
        "everybody reads everything: what comes later must be -inf": 0 * every,
        "it hides what came before; row = who asks, column = who is read": every.tril(-1),
        "a token may not even read itself; it reads those before it and itself": every.triu(0),
        "it hides what came before, and the token itself": every.tril(0),
        "each token still sees the next one, and that is the answer": every.triu(2),
    }
    expect(table.isneginf().float(), every.triu(1), wrong,
           f"for {length} tokens, row t must hide exactly the columns after t")


# -- the labels --------------------------------------------------------------------------------

LABEL_CHOICES: dict[str, dict[Any, str]] = {  # each part: the right choice first, then mistakes
    "shift": {-1: "", 0: "each token is asked for itself; the label is the token after it",
              1: "it asks for the token before, not for the one after",
              -2: "it asks for the token after the next"},
    "ends": {2: "", 1: "what stands in the last place is asked for; it is [SEP] or [PAD] in every "
             "chunk, so that to know it is no merit: the last two columns hold -100",
             0: "the last place asks for the first token of its row: torch.roll goes round; the "
             "last two columns hold -100"},
    "never": {"asked": "", "reader": "you left out where a token of `never` reads; leave out where "
              "it is asked for", "nothing": "tokens of `never` are asked for"},
    "hidden": {HIDE: "", 0: "the other places hold 0, which is a token; -100 says: do not grade",
               -1: "the other places hold -1; F.cross_entropy leaves out -100"},
}


def _labels(ids: Tensor, never: Tensor, choice: dict[str, Any]) -> Tensor:
    """Labels with one choice for each part, right or wrong."""
    labels = ids.roll(choice["shift"], dims=1)
    if choice["never"] != "nothing":
        where = labels if choice["never"] == "asked" else ids
        labels = labels.masked_fill(torch.isin(where, never), choice["hidden"])
    if choice["ends"]:
        labels[:, -choice["ends"]:] = choice["hidden"]
    return labels


def _chunks(seed: int, rows: int, length: int) -> Tensor:
    """Chunks as in a file: [CLS], words, an end within, a word unknown, and padding."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, 90, (rows, length), generator=draw)
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[0, 3], ids[1, 2] = SEP, UNK
    ids[-1, -4:] = torch.tensor([SEP, PAD, PAD, PAD])
    return ids


@checker
def check_next_labels(answer):
    """answer(ids [B, T], never [n]) -> labels [B, T], the next token or -100."""
    never, right = torch.tensor([PAD, UNK, CLS]), {part: next(iter(ways))
                                                   for part, ways in LABEL_CHOICES.items()}
    for seed, rows, length in ((0, 3, 9), (1, 2, 12), (2, 4, 8)):
        ids = _chunks(seed, rows, length)
        got = answer(ids.clone(), never.clone())
        require(isinstance(got, Tensor), f"it returns {type(got).__name__}, not a tensor")
        require(got.shape != (rows, length - 1), "there are T - 1 columns; keep all T, with -100 "
                "where nothing follows")
        wrong = {"each token is asked for itself, and it stands in plain view; the label is the "
                 "token after it": ids} | mistakes(
            LABEL_CHOICES, lambda choice, ids=ids: _labels(ids, never, choice), 3, "; and ")
        expect(got, _labels(ids, never, right), wrong,
               "label t is token t + 1, or -100 if that is one of `never` or in the last place")
        require(got.dtype == torch.int64, f"the labels are {got.dtype}; F.cross_entropy wants "
                "int64, as ids are")


# -- ways to draw ------------------------------------------------------------------------------


def _logits(seed: int) -> Tensor:
    """Scores [2, 3, 7] without equals, so that orders are unique."""
    return 2 * torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(seed))


def _judge_shares(got: Any) -> None:
    require(isinstance(got, Tensor), f"it returns {type(got).__name__}, not a tensor")
    require(not bool((got < 0).any()), "there are shares below 0")


@checker
def check_temperature(answer):
    """answer(logits [.., V], temperature) -> probabilities [.., V]."""
    for seed, heat in ((0, 0.5), (1, 2.0), (2, 0.8)):
        logits = _logits(seed)
        plain = logits.softmax(-1)
        wrong = {
            "the temperature was not used": plain,
            "you multiplied by the temperature: that sharpens where it should soften; divide":
                (logits * heat).softmax(-1),
            "the probabilities were divided; divide the logits, before the softmax": plain / heat,
            "these are scores; a softmax makes them probabilities": logits / heat,
            "these are log probabilities; leave out the log": (logits / heat).log_softmax(-1),
            "exp alone is no probability; divide by the sum": (logits / heat).exp(),
            "the softmax runs over the wrong axis; words are the last one": (logits / heat).softmax(
                0),
            "the softmax runs over the middle axis; words are the last one":
                (logits / heat).softmax(1),
        }
        expect(answer(logits.clone(), heat), next_shares(logits, heat), wrong,
               "softmax of logits / temperature, over the last axis", tolerance=1e-5)


def _renormed(shares: Tensor) -> Tensor:
    return shares / shares.sum(-1, keepdim=True)


@checker
def check_top_k(answer):
    """answer(shares [.., V], k) -> the k largest, the others 0, summing to 1: [.., V]."""
    for seed, k in ((0, 3), (1, 1), (2, 5)):
        shares = _logits(seed).softmax(-1)
        place = shares.argsort(-1, descending=True).argsort(-1)  # 0: the likeliest
        kept = shares.where(place < k, 0)
        wrong = {
            "nothing was struck out": shares,
            "what is left must sum to 1 again: divide by its sum": kept,
            "each row sums to 1 by itself: divide by its own sum, over the last axis":
                kept / kept.sum(),
            "the words that stay keep their shares; you made them all alike": (place < k) / k,
            "these are the k largest alone, sorted; put each back in its place": _renormed(
                shares.topk(k).values),
            "it keeps one word too many": _renormed(shares.where(place < k + 1, 0)),
            "it keeps the k least likely words": _renormed(shares.where(place >= 7 - k, 0)),
            "it strikes out the k likeliest words; keep them": _renormed(
                shares.where(place >= k, 0)),
            "it keeps the first k of the vocabulary; keep the k likeliest": _renormed(
                shares.where(torch.arange(7) < k, 0)),
            "a softmax over shares, with zeros in it, revives what was struck out; divide by the "
            "sum": kept.softmax(-1),
        }
        if k > 1:
            wrong["it keeps one word too few"] = _renormed(shares.where(place < k - 1, 0))
        got = answer(shares.clone(), k)
        _judge_shares(got)
        expect(got, _renormed(kept), wrong, "keep the k largest of the last axis, 0 elsewhere, "
               "divide by the sum", tolerance=1e-5)
    expect(answer(shares.clone(), 100), shares,
           hint="with k above the size of the vocabulary nothing changes", tolerance=1e-5)


@checker
def check_top_p(answer):
    """answer(shares [.., V], p) -> the fewest words whose shares reach p, summing to 1: [.., V]."""
    for seed, p in ((0, 0.6), (1, 0.9), (2, 0.3)):
        shares = _logits(seed).softmax(-1)
        best, order = shares.sort(descending=True)  # [.., V]
        before = best.cumsum(-1) - best  # what the likelier words have together

        def back(keep: Tensor, best=best, order=order, shares=shares) -> Tensor:
            return torch.zeros_like(shares).scatter(-1, order, best.where(keep, 0))

        right = back(before < p)
        wrong = {
            "nothing was struck out": shares,
            "what is left must sum to 1 again: divide by its sum": right,
            "the word that carries the sum to p is left out; keep a word if the likelier ones "
            "together have less than p": _renormed(back(before + best < p)),
            "it keeps one word too many": _renormed(back(before - best.roll(1, -1) < p)),
            "the shares come back sorted; put each back in its place": _renormed(
                best.where(before < p, 0)),
            "it sums in the order of the vocabulary; sort first, the likeliest in front":
                _renormed(shares.where(shares.cumsum(-1) - shares < p, 0)),
            "it begins with the least likely words; sort in falling order": _renormed(
                shares.where(_below(shares) < p, 0)),
            "it keeps each word whose own share is above p; sum them up": _renormed(
                shares.where(shares >= p, 0)),
        }
        got = answer(shares.clone(), p)
        _judge_shares(got.nan_to_num() if isinstance(got, Tensor) else got)
        expect(got, _renormed(right), wrong, "sort, keep a word while the likelier ones have less "
               "than p, put back, divide by the sum", tolerance=1e-5)
    first = torch.eye(7)[shares.argmax(-1)]
    expect(answer(shares.clone(), 1e-6), first, hint="however small p is, the likeliest word stays")
    expect(answer(shares.clone(), 1.0), shares, hint="with p = 1 nothing changes", tolerance=1e-5)


def _below(shares: Tensor) -> Tensor:
    """For each word, what the less likely ones have together."""
    worst, order = shares.sort()
    return torch.zeros_like(shares).scatter(-1, order, worst.cumsum(-1) - worst)
