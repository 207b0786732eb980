"""Checkers of notebook 00 name the true mistake, and accept right answers of any style."""

import pytest
import torch

from bertlib.checks.start import check_perplexity, check_rank, check_temperature, check_top_k


def placed(logits, label):
    """The first place at which the logit of `label` stands in falling order, counted from 1."""
    return (logits.sort(descending=True).values == logits[label]).nonzero()[:1] + 1


def hits(logits, labels, k):
    return (logits.topk(k, dim=-1).indices == labels[:, None]).any(-1)


def shifted(logits, temperature, largest):
    powers = ((logits - largest) / temperature).exp()
    return powers / powers.sum(-1, keepdim=True)


def powers(logits, temperature):
    """Without softmax: the largest logit of each row comes off before exp."""
    scaled = logits / temperature
    return shifted(scaled, 1, scaled.max(-1, keepdim=True).values)


def in_place(logits, temperature):
    logits /= temperature
    return logits.softmax(-1)


WRONG = [
    (check_rank, lambda x, y: 0, "0 is no rank"),
    (check_rank, lambda x, y: None, "end with return"),
    (check_rank, lambda x, y: (x > x[y]).sum(), "not 0; add 1"),
    (check_rank, lambda x, y: int((x < x[y]).sum()), "score lower"),
    (check_rank, lambda x, y: 1 + int((x < x[y]).sum()), "from the worst"),
    (check_rank, lambda x, y: int(x.argmax()), "id of the best word"),
    (check_rank, lambda x, y: x.argsort(descending=True)[y], "the other way round"),
    (check_rank, lambda x, y: x[y], "logit"),
    (check_rank, lambda x, y: x.softmax(-1)[y], "probability"),
    (check_rank, lambda x, y: 3, "not for a word of rank 1"),
    (check_rank, lambda x, y: int((x >= x[y]).sum()), "strictly higher"),
    (check_rank, lambda x, y: x >= x[y], "the shape is (8,), one number is asked"),
    (check_rank, lambda x, y: "3", "it returns str, not a number"),
    (check_rank, lambda x, y: x[y].nonsense, "AttributeError"),
    (check_top_k, lambda x, y, k: (x.argmax(-1) == y).float().mean(), "only the best guess"),
    (check_top_k, lambda x, y, k: hits(x, y, k - 1).float().mean(), "k - 1"),
    (check_top_k, lambda x, y, k: hits(x, y, k + 1).float().mean(), "k + 1"),
    (check_top_k, lambda x, y, k: (x.topk(k).indices[:, -1] == y).float().mean(), "k-th guess"),
    (check_top_k, lambda x, y, k: (x.topk(k, largest=False).indices == y[:, None]).any(-1)
     .float().mean(), "k worst words"),
    (check_top_k, lambda x, y, k: (~hits(x, y, k)).float().mean(), "share of misses"),
    (check_top_k, lambda x, y, k: (x.topk(k).indices == y[:, None]).float().mean(),
     "divided by the number of guesses"),
    (check_top_k, lambda x, y, k: int(hits(x, y, k).sum()), "divide by their number"),
    (check_top_k, lambda x, y, k: 100 * hits(x, y, k).float().mean(), "percentage"),
    (check_top_k, lambda x, y, k: hits(x, y, k), "take their mean"),
    (check_top_k, lambda x, y, k: hits(x, y, 3).float().mean(), "with k=1"),
    (check_perplexity, lambda x: x.exp().mean(), "one bad word drowns the others"),
    (check_perplexity, lambda x: x.mean(), "exp is missing"),
    (check_perplexity, lambda x: 2 ** x.mean(), "bits"),
    (check_perplexity, lambda x: 10 ** x.mean(), "10 to the power"),
    (check_perplexity, lambda x: x.sum().exp(), "took the sum"),
    (check_perplexity, lambda x: (-x).mean().exp(), "sign"),
    (check_perplexity, lambda x: x.exp(), "one value a word"),
    (check_perplexity, lambda x: x.exp().median(), "median"),
    (check_perplexity, lambda x: x.exp_().mean(), "x itself was changed"),
    (check_perplexity, lambda x: x.mean().exp() / 0, "infinite or not a number"),
    (check_temperature, lambda x, t: x.exp() / x.exp().sum(), "temperature was not used, and"),
    (check_temperature, lambda x, t: x.softmax(-1), "temperature was not used"),
    (check_temperature, lambda x, t: (x * t).softmax(-1), "you multiplied"),
    (check_temperature, lambda x, t: x.softmax(-1) / t, "after softmax"),
    (check_temperature, lambda x, t: x.exp() / t, "exp came first"),
    (check_temperature, lambda x, t: (x / t).exp(), "do not sum to 1"),
    (check_temperature, lambda x, t: (x / t).exp() / (x / t).exp().sum(), "whole table"),
    (check_temperature, lambda x, t: (x / t).softmax(0), "columns"),
    (check_temperature, lambda x, t: (x / t).log_softmax(-1), "logarithms"),
    (check_temperature, lambda x, t: x / t, "softmax is missing"),
    (check_temperature, lambda x, t: (x / t).exp() / (x / t).exp().sum(-1, keepdim=True),
     "exp(1000) is infinite"),
    (check_temperature, lambda x, t: (x / 2).softmax(-1), "not for 0.5"),
    (check_temperature, lambda x, t: shifted(x, t, x.max()), "its own largest"),
    (check_temperature, lambda x, t: (x / t).softmax(1), "IndexError"),
    (check_temperature, in_place, "itself was changed"),
    (check_temperature, lambda x, t: (x / t).softmax(-1), "do it with exp and a sum"),
    (check_temperature, lambda x, t: (x / t).long(), "these are whole numbers (torch.int64)"),
    (check_temperature, lambda x, t: powers(x, t).to("meta"), "on the device 'meta'"),
]
RIGHT = [
    (check_rank, lambda x, y: 1 + int((x > x[y]).sum())),
    (check_rank, placed),
    (check_rank, lambda x, y: sorted(x.tolist(), reverse=True).index(float(x[y])) + 1),
    (check_rank, lambda x, y: 1 + sum(score > x[y] for score in x)),
    (check_top_k, lambda x, y, k: hits(x, y, k).float().mean()),
    (check_top_k, lambda x, y, k: sum(int(label) in row.topk(k).indices.tolist()
                                      for row, label in zip(x, y, strict=True)) / len(y)),
    (check_top_k, lambda x, y, k: ((x > x.gather(1, y[:, None])).sum(1) < k).double().mean()),
    (check_perplexity, lambda x: x.mean().exp()),
    (check_perplexity, lambda x: x.mean(0, keepdim=True).exp().item()),
    (check_perplexity, lambda x: float(x.exp().prod() ** (1 / len(x)))),
    (check_temperature, lambda x, t: shifted(x, t, x.amax(-1, keepdim=True))),
    (check_temperature, lambda x, t: (x / t - (x / t).logsumexp(-1, keepdim=True)).exp()),
    (check_temperature, lambda x, t: powers(x.double(), t)),
    (check_temperature, lambda x, t: powers(x, t).tolist()),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_of_any_style_pass(check, answer):
    assert check(answer) == "right"


def test_no_two_mistakes_look_alike():
    """Else one of them would be accused of the other: each message is given by one answer only."""
    said = [check(answer) for check, answer, _ in WRONG]
    assert len(set(said)) == len(said)


@pytest.mark.parametrize("softmax", [
    lambda x: torch.nn.Softmax(-1)(x.double()), lambda x: torch.log_softmax(x, -1).exp(),
    lambda x: torch.nn.functional.softmin(-x, -1), lambda x: torch.special.softmax(x, -1)])
def test_a_softmax_of_pytorch_is_noticed_by_any_name(softmax):
    assert "exp and a sum" in check_temperature(lambda x, t: softmax(x / t))
