"""Checkers of notebook 09 name the true mistake, and accept right answers of any style."""

import pytest
import torch
import torch.nn.functional as F

from bertlib.checks.finetune import (
    check_attribution,
    check_batches,
    check_head,
    check_matthews,
    check_pad,
    check_rates,
)


def head(h, p, d, c, y):
    logits = c(d(torch.tanh(p(h[:, 0]))))
    return logits, F.cross_entropy(logits, y)


def with_loss(logits, y):
    return logits, F.cross_entropy(logits, y)


def batches(lengths, size):
    order = sorted(range(len(lengths)), key=lambda place: lengths[place])
    return [order[start : start + size] for start in range(0, len(order), size)]


def pad(rows, pad):
    longest = max(map(len, rows))
    ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
    return ids, torch.tensor([[place < len(row) for place in range(longest)] for row in rows])


def rates(rate, decay, blocks):
    return [rate * decay ** (blocks + 1 - depth) for depth in range(blocks + 2)]


def attribution(score, x):
    x = x.detach().requires_grad_()
    score(x).backward()
    return (x.grad * x).sum(-1).detach()


def gradient(score, x):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(score(x), x)[0]


def matthews(table):
    (a, b), (c, d) = table.tolist()
    root = ((a + b) * (c + d) * (a + c) * (b + d)) ** 0.5
    return (a * d - b * c) / root if root else 0.0


def unguarded(table):
    (a, b), (c, d) = table
    return (a * d - b * c) / ((a + b) * (c + d) * (a + c) * (b + d)).sqrt()


WRONG = [
    (check_head, lambda h, p, d, c, y: with_loss(c(d(torch.tanh(p(h[:, -1])))), y), "last token"),
    (check_head, lambda h, p, d, c, y: with_loss(c(d(torch.tanh(p(h.mean(1))))), y), "the mean of"),
    (check_head, lambda h, p, d, c, y: with_loss(
        c(d(torch.tanh(p(h[0, :1]))).expand(len(h), -1)), y), "first text only"),
    (check_head, lambda h, p, d, c, y: with_loss(c(d(p(h[:, 0]))), y), "tanh behind the pooler"),
    (check_head, lambda h, p, d, c, y: with_loss(c(d(F.relu(p(h[:, 0])))), y), "not by ReLU"),
    (check_head, lambda h, p, d, c, y: with_loss(c(d(p(h[:, 0]))).tanh(), y), "not behind the cla"),
    (check_head, lambda h, p, d, c, y: with_loss(c(d(torch.tanh(h[:, 0]))), y), "pooler was left"),
    (check_head, lambda h, p, d, c, y: with_loss(c(torch.tanh(p(h[:, 0]))), y), "dropout was forg"),
    (check_head, lambda h, p, d, c, y: with_loss(c(torch.tanh(p(d(h[:, 0])))), y), "before the po"),
    (check_head, lambda h, p, d, c, y: with_loss(d(c(torch.tanh(p(h[:, 0])))), y), "on the logits"),
    (check_head, lambda h, p, d, c, y: with_loss(c(p(h[:, 0])), y),
     "tanh behind the pooler was forgotten and dropout was forgotten"),
    (check_head, lambda h, p, d, c, y: (head(h, p, d, c, y)[0].softmax(-1), 0), "probabilities"),
    (check_head, lambda h, p, d, c, y: head(h, p, d, c, y)[0], "return two things"),
    (check_head, lambda h, p, d, c, y: (head(h, p, d, c, y)[0], F.cross_entropy(
        head(h, p, d, c, y)[0], y, reduction="sum")), "sum over the texts"),
    (check_head, lambda h, p, d, c, y: (head(h, p, d, c, y)[0], F.cross_entropy(
        head(h, p, d, c, y)[0].softmax(-1), y)), "one too many"),
    (check_head, lambda h, p, d, c, y: (head(h, p, d, c, y)[0], -head(h, p, d, c, y)[1]), "sign"),
    (check_batches, lambda lengths, size: lengths, "list of batches"),
    (check_batches, lambda lengths, size: [sorted(lengths)[i : i + size] for i in
                                           range(0, len(lengths), size)], "*places*"),
    (check_batches, lambda lengths, size: [list(range(len(lengths)))[i : i + size] for i in
                                           range(0, len(lengths), size)], "sort the places"),
    (check_batches, lambda lengths, size: batches([-n for n in lengths], size), "longest come"),
    (check_batches, lambda lengths, size: [b for b in batches(lengths, size) if len(b) == size],
     "last batch was dropped"),
    (check_batches, lambda lengths, size: [sum(batches(lengths, size), [])], "more than size"),
    (check_batches, lambda lengths, size: batches(lengths, 1), "should be full"),
    (check_batches, lambda lengths, size: batches(lengths, size)[:-1] * 2, "should come once"),
    (check_pad, lambda rows, p: pad(rows, p)[0], "return two things"),
    (check_pad, lambda rows, p: (pad([r[: min(map(len, rows))] for r in rows], p)), "shortest"),
    (check_pad, lambda rows, p: (torch.tensor([
        [p] * (max(map(len, rows)) - len(r)) + r for r in rows]), pad(rows, p)[1]), "stands befor"),
    (check_pad, lambda rows, p: pad(rows, 0), "filled up with 0"),
    (check_pad, lambda rows, p: (pad(rows, p)[0].float(), pad(rows, p)[1]), "whole numbers"),
    (check_pad, lambda rows, p: (pad(rows, p)[0], ~pad(rows, p)[1]), "turned round"),
    (check_pad, lambda rows, p: (pad(rows, p)[0], pad(rows, p)[1] | True), "True everywhere"),
    (check_pad, lambda rows, p: (pad(rows, p)[0], pad(rows, p)[0] != 0), "True everywhere"),
    (check_pad, lambda rows, p: (pad(rows, p)[0], pad(rows, p)[1].long()), "make it bool"),
    (check_rates, lambda r, d, b: rates(r, d, b)[::-1], "order is turned round"),
    (check_rates, lambda r, d, b: [x * d for x in rates(r, d, b)], "without a factor"),
    (check_rates, lambda r, d, b: [x / d for x in rates(r, d, b)], "its exponent is 0"),
    (check_rates, lambda r, d, b: rates(r, d, b)[1:], "embeddings are missing"),
    (check_rates, lambda r, d, b: rates(r, d, b)[:-1], "head is missing"),
    (check_rates, lambda r, d, b: [r] * (b + 2), "same rate for all"),
    (check_rates, lambda r, d, b: [*rates(r, d, b)[1:-1], r, r], "one layer below the head"),
    (check_rates, lambda r, d, b: [r * (1 - (1 - d) * (b + 1 - n)) for n in range(b + 2)],
     "steps of one size"),
    (check_rates, lambda r, d, b: r, "list of rates"),
    (check_attribution, lambda s, x: gradient(s, x) * x, "sum over the features"),
    (check_attribution, lambda s, x: gradient(s, x), "gradient alone, [T, D]"),
    (check_attribution, lambda s, x: gradient(s, x).sum(-1), "multiply it by the input"),
    (check_attribution, lambda s, x: gradient(s, x).norm(dim=-1), "no sign"),
    (check_attribution, lambda s, x: attribution(s, x).abs(), "sign was lost"),
    (check_attribution, lambda s, x: -attribution(s, x), "sign is turned"),
    (check_attribution, lambda s, x: (gradient(s, x) * x).sum(0), "over the tokens"),
    (check_attribution, lambda s, x: (gradient(s, x) * x).mean(-1), "mean over the features"),
    (check_attribution, lambda s, x: x.sum(-1), "input alone"),
    (check_attribution, lambda s, x: attribution(s, x).sum(), "one number; a token has its own"),
    (check_attribution, lambda s, x: (gradient(s, x) * x.requires_grad_()).sum(-1), "detach"),
    (check_matthews, lambda t: float(t.trace() / t.sum()), "accuracy"),
    (check_matthews, unguarded, "not a division by zero"),
    (check_matthews, lambda t: 1 / 0 if 0 in (*t.sum(0), *t.sum(1)) else float(matthews(t)),
     "not a division by zero"),
    (check_matthews, lambda t: abs(matthews(t)), "sign was lost"),
    (check_matthews, lambda t: -matthews(t), "sign is turned"),
    (check_matthews, lambda t: (t[0, 0] * t[1, 1] - t[0, 1] * t[1, 0]) / max(1, (
        t.sum(0).prod() * t.sum(1).prod())), "*root*"),
    (check_matthews, lambda t: (t[0, 0] * t[1, 1] - t[0, 1] * t[1, 0]) / t.sum(1).prod().sqrt(),
     "both go under the root"),
    (check_matthews, lambda t: (2 * t.trace() - t.sum()) / t.sum(), "another unit"),
    (check_matthews, lambda t: (t[0, 0] * t[1, 1] + t[0, 1] * t[1, 0]) / max(
        1e-9, float((t.sum(0).prod() * t.sum(1).prod()).sqrt())), "subtract their product"),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_the_mistake_is_named(diagnosed, check, answer, words):
    diagnosed(check, answer, words)


@pytest.mark.parametrize(("check", "answer"), [
    (check_head, head), (check_batches, batches), (check_pad, pad), (check_rates, rates),
    (check_attribution, attribution), (check_matthews, matthews),
    (check_head, lambda h, p, d, c, y: (c(d(p(h[:, 0]).tanh())), -c(d(p(h[:, 0]).tanh()))
                                        .log_softmax(1)[range(len(y)), y].mean())),
    (check_batches, lambda lengths, size: torch.tensor(lengths).argsort(stable=True).split(size)),
    (check_rates, lambda r, d, b: r * d ** torch.arange(b + 1, -1, -1.0, dtype=torch.float64)),
    (check_attribution, lambda s, x: (gradient(s, x) * x).sum(-1)),
    (check_matthews, lambda t: torch.nan_to_num(unguarded(t))),
])
def test_right_answers_of_any_style_are_accepted(check, answer):
    assert check(answer) == "right"
