"""The checkers of notebook 10 name the mistake that was made, and pass every right way."""

import math

import pytest
import torch
import torch.nn.functional as F

from bertlib.attention import causal_bias
from bertlib.checks.gpt import (
    check_causal,
    check_next_labels,
    check_temperature,
    check_top_k,
    check_top_p,
)
from bertlib.checks.kept import check_kept
from bertlib.gpt import next_shares
from bertlib.masking import NextToken


def by_rows(length):
    bias = torch.zeros(length, length)
    for t in range(length):
        bias[t, t + 1:] = -math.inf
    return bias


def labels(ids, never, shift=1, last=True, fill=-100):
    rest = F.pad(ids[:, shift:], (0, shift), value=fill)
    rest[torch.isin(rest, never)] = fill
    if last:
        rest[:, -2:] = fill
    return rest


def labels_by_loop(ids, never):
    rows = [[n if n not in never.tolist() and t < ids.shape[1] - 2 else -100
             for t, n in enumerate([*row[1:], 0])] for row in ids.tolist()]
    return torch.tensor(rows)


def heat(logits, temperature):
    powers = logits.softmax(-1) ** (1 / temperature)
    return powers / powers.sum(-1, keepdim=True)


def top_k(shares, k):
    least = shares.topk(min(k, shares.shape[-1])).values[..., -1:]
    kept = torch.where(shares >= least, shares, 0)
    return kept / kept.sum(-1, keepdim=True)


def top_k_of_logits(shares, k):
    place = shares.argsort(-1, descending=True).argsort(-1)
    return shares.log().masked_fill(place >= k, -math.inf).softmax(-1)


def kept_alone(shares, p):
    best, order = shares.sort(descending=True)
    return torch.zeros_like(shares).scatter(-1, order, best.where(best.cumsum(-1) - best < p, 0))


def top_p(shares, p):
    kept = kept_alone(shares, p)
    return kept / kept.sum(-1, keepdim=True)


def top_p_by_loop(shares, p):
    out = torch.zeros_like(shares).view(-1, shares.shape[-1])
    for row, line in zip(out, shares.reshape(-1, shares.shape[-1]), strict=True):
        total = 0.0
        for word in line.argsort(descending=True).tolist():
            if total >= p - 1e-9:
                break
            row[word] = line[word]
            total += float(line[word])
    return (out / out.sum(-1, keepdim=True)).view_as(shares)


def attend(x, w_q, w_k, w_v, kept, joined=True, scale=True, own=True):
    keys = torch.cat((kept[0], (x @ w_k)[None]))
    values = torch.cat((kept[1], (x @ w_v)[None]))
    k, v = (keys, values) if own else kept
    by = scale(x, k) if callable(scale) else math.sqrt(len(x)) if scale else 1
    scores = k @ (x @ w_q) / by
    return scores.softmax(0) @ v, (keys, values) if joined else kept


def attend_by_rows(x, w_q, w_k, w_v, kept):
    keys, values = [*kept[0], x @ w_k], [*kept[1], x @ w_v]
    scores = torch.stack([key @ (x @ w_q) for key in keys]) / len(x) ** 0.5
    mixed = sum(w * v for w, v in zip(scores.softmax(0), values, strict=True))
    return [mixed, [torch.stack(keys), torch.stack(values)]]


def attend_over_tokens(x, w_q, w_k, w_v, kept):
    seen = torch.cat((kept[0], x[None]))
    return attend(x, w_q, w_k, w_v, (seen[:-1] @ w_k, seen[:-1] @ w_v))[0], (seen, seen)


def in_front(x, w_q, w_k, w_v, kept):
    mixed, _ = attend(x, w_q, w_k, w_v, kept)
    return mixed, (torch.cat(((x @ w_k)[None], kept[0])), torch.cat(((x @ w_v)[None], kept[1])))


def turned(x, w_q, w_k, w_v, kept):
    mixed, (keys, values) = attend(x, w_q, w_k, w_v, kept[::-1])
    return mixed, (values, keys)


def queries_kept(x, w_q, w_k, w_v, kept):
    past = kept[0] @ torch.linalg.inv(w_q) @ w_k
    mixed, (_, values) = attend(x, w_q, w_k, w_v, (past, kept[1]))
    return mixed, (torch.cat((kept[0], (x @ w_q)[None])), values)


def by_x(x, w_q, w_k, w_v, kept):
    return attend(x, torch.eye(len(x)), w_k, w_v, kept)


def itself(x, w_q, w_k, w_v, kept):
    return x @ w_v, attend(x, w_q, w_k, w_v, kept)[1]


RIGHT = [
    (check_causal, by_rows), (check_causal, causal_bias),
    (check_causal, lambda n: torch.zeros(n, n).masked_fill(
        torch.arange(n) > torch.arange(n)[:, None], -math.inf)),
    (check_next_labels, labels), (check_next_labels, labels_by_loop),
    (check_temperature, heat), (check_temperature, next_shares),
    (check_temperature, lambda x, t: torch.exp(x / t - (x / t).logsumexp(-1, keepdim=True))),
    (check_top_k, top_k), (check_top_k, top_k_of_logits),
    (check_top_k, lambda shares, k: next_shares(shares.log(), top_k=k)),
    (check_top_p, top_p), (check_top_p, top_p_by_loop),
    (check_top_p, lambda shares, p: next_shares(shares.log(), top_p=p)),
    (check_kept, attend), (check_kept, attend_by_rows),
]

WRONG = [
    (check_causal, lambda n: torch.zeros(n, n), "everybody reads everything"),
    (check_causal, lambda n: by_rows(n).T, "it hides what came before; row"),
    (check_causal, lambda n: by_rows(n + 1)[1:, 1:].fill_diagonal_(-math.inf), "even read itself"),
    (check_causal, lambda n: torch.full((n, n), -math.inf).triu(2), "still sees the next one"),
    (check_causal, lambda n: torch.full((n, n), -math.inf).tril(), "before, and the token itself"),
    (check_causal, lambda n: by_rows(n) == 0, "a table of true and false"),
    (check_causal, lambda n: -math.inf * torch.ones(n, n).triu(1), "0 times -inf"),
    (check_causal, lambda n: torch.full((n, n), -1e9).triu(1), "there are other numbers"),
    (check_causal, lambda n: torch.ones(n, n).tril(), "there are other numbers"),
    (check_causal, lambda n: by_rows(n)[None], "the shape is (1, 4, 4)"),
    (check_causal, lambda n: by_rows(4), "the shape is (4, 4), it should be (1, 1)"),
    (check_causal, lambda n: by_rows(n).tolist(), "it returns list"),
    (check_causal, lambda n: None, "returns nothing"),
    (check_causal, lambda n: by_rows(n) if n < 7 else by_rows(n).T, "it hides what came before"),
    (check_causal, lambda n: by_rows(n).roll(1, 0) if n == 4 else by_rows(n), "row t must hide"),
    (check_next_labels, lambda ids, never: ids, "asked for itself"),
    (check_next_labels, lambda ids, never: labels(ids, never, last=False), "the last place is ask"),
    (check_next_labels, lambda ids, never: ids.roll(-1, 1), "torch.roll goes round"),
    (check_next_labels, lambda ids, never: ids.roll(1, 1), "it asks for the token before"),
    (check_next_labels, lambda ids, never: labels(ids, never, 2), "the token after the next"),
    (check_next_labels, lambda ids, never: labels(ids, never[:0]), "tokens of `never` are asked"),
    (check_next_labels, lambda ids, never: labels(ids, never[:0]).masked_fill(
        torch.isin(ids, never), -100), "where a token of `never` reads"),
    (check_next_labels, lambda ids, never: labels(ids, never, fill=0), "hold 0"),
    (check_next_labels, lambda ids, never: labels(ids, never, fill=-1), "hold -1"),
    (check_next_labels, lambda ids, never: ids[:, 1:], "T - 1 columns"),
    (check_next_labels, lambda ids, never: labels(ids, never).float(), "wants int64"),
    (check_next_labels, lambda ids, never: labels(ids, never).flatten(), "the shape is (27,)"),
    (check_next_labels, lambda ids, never: labels(ids.fill_(5), never), "ids itself was changed"),
    (check_next_labels, lambda ids, never: labels(ids, never).tolist(), "it returns list"),
    (check_temperature, lambda x, t: x.softmax(-1), "was not used"),
    (check_temperature, lambda x, t: (x * t).softmax(-1), "you multiplied"),
    (check_temperature, lambda x, t: x.softmax(-1) / t, "divide the logits"),
    (check_temperature, lambda x, t: x / t, "these are scores"),
    (check_temperature, lambda x, t: (x / t).exp(), "divide by the sum"),
    (check_temperature, lambda x, t: (x / t).log_softmax(-1), "leave out the log"),
    (check_temperature, lambda x, t: (x / t).softmax(0), "the wrong axis"),
    (check_temperature, lambda x, t: (x / t).softmax(1), "the middle axis"),
    (check_top_k, lambda s, k: s, "nothing was struck out"),
    (check_top_k, lambda s, k: s.where(s >= s.topk(k).values[..., -1:], 0), "sum to 1 again"),
    (check_top_k, lambda s, k: top_k(s, k + 1), "one word too many"),
    (check_top_k, lambda s, k: top_k(s, max(1, k - 1)), "one word too few"),
    (check_top_k, lambda s, k: s.topk(k).values / s.topk(k).values.sum(-1, keepdim=True),
     "the k largest alone, sorted"),
    (check_top_k, lambda s, k: s.where(top_k(1 / s, k) > 0, 0) / s.where(
        top_k(1 / s, k) > 0, 0).sum(-1, keepdim=True), "the k least likely words"),
    (check_top_k, lambda s, k: top_k(s, k) if k < 8 else s * 2, "nothing changes"),
    (check_top_k, lambda s, k: F.pad(s[..., :k], (0, 7 - k)) / s[..., :k].sum(-1, keepdim=True),
     "the first k of the vocabulary"),
    (check_top_k, lambda s, k: s - 1, "below 0"),
    (check_top_p, lambda s, p: s, "nothing was struck out"),
    (check_top_p, kept_alone, "sum to 1 again"),
    (check_top_p, lambda s, p: top_p(s, p) if p > 1e-3 else s * 0, "the likeliest word stays"),
    (check_top_p, lambda s, p: s.where(s >= p, 0) / s.where(s >= p, 0).sum(-1, keepdim=True),
     "own share is above p"),
    (check_top_p, lambda s, p: s.where(s.cumsum(-1) - s < p, 0) / s.where(
        s.cumsum(-1) - s < p, 0).sum(-1, keepdim=True), "in the order of the vocabulary"),
    (check_top_p, lambda s, p: top_p(s, p).sort(descending=True).values, "come back sorted"),
    (check_top_p, lambda s, p: s.where(top_p(1 / s, 0.4) > 0, 0), "sort, keep a word"),
    (check_kept, lambda x, w_q, w_k, w_v, kept: (x @ w_v, kept), "were not kept for the next"),
    (check_kept, itself, "reads itself alone"),
    (check_kept, lambda *a: attend(*a, scale=False), "not divided by the root"),
    (check_kept, lambda *a: attend(*a, scale=lambda x, k: len(x)), "divided by D; by its root"),
    (check_kept, lambda *a: attend(*a, scale=lambda x, k: len(k) ** 0.5), "number of keys"),
    (check_top_k, lambda s, k: s.where(top_k(s, k) > 0, 0) / s.where(top_k(s, k) > 0, 0).sum(),
     "each row sums to 1"),
    (check_top_k, lambda s, k: (top_k(s, k) > 0) / k, "made them all alike"),
    (check_kept, lambda *a: attend(*a, own=False), "does not read itself"),
    (check_kept, lambda *a: attend(*a, joined=False), "after token 1 there are 0 keys"),
    (check_kept, attend_over_tokens, "keep the tokens and make their keys"),
    (check_kept, in_front, "stands in front"), (check_kept, turned, "the wrong way round"),
    (check_kept, by_x, "the token itself asks"),
    (check_kept, queries_kept, "you keep queries"),
    (check_kept, lambda *a: attend(*a)[0], "return two things"),
    (check_kept, lambda *a: (attend(*a)[0], attend(*a)[1][0]), "two tensors"),
    (check_kept, lambda *a: (attend(*a)[0][None], attend(*a)[1]), "must be [D] = (4,)"),
    (check_kept, lambda *a: None, "returns nothing"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_wrong_answers_are_told_what_is_wrong(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def test_the_labels_asked_for_are_the_puzzle_of_the_course(tokenizer):
    special = tokenizer.special
    ids = torch.tensor([tokenizer.encode("the king went to the sea and saw it"),
                        [*tokenizer.encode("the king saw"), *[special.pad] * 6]])
    puzzle = NextToken(tokenizer).ask(ids)
    table = labels(ids, torch.tensor([special.pad, special.cls, special.unk])).flatten()
    assert torch.equal((table >= 0).nonzero().flatten(), puzzle.positions)
    assert torch.equal(table[puzzle.positions], puzzle.labels)
