"""Checkers of notebook 08: each names the mistake that was made, and takes a right answer."""

import itertools
import math

import pytest
import torch

from bertlib.analysis import calibration, calibration_error
from bertlib.checks import predict as checks
from bertlib.checks import same


def by_class(rank, group, k, size=None, keep=torch.le):
    rows = []
    for n in range(int(group.max()) + 1):
        hit = keep(rank[group == n], k).double()
        p = float(hit.mean())
        rows.append((p, math.sqrt(p * (1 - p) / (size or len(hit)))))
    return torch.tensor(rows)


def of_all(rank, group, k):
    hits = torch.bincount(group[rank <= k], minlength=int(group.max()) + 1) / len(rank)
    return torch.stack([hits, (hits * (1 - hits) / torch.bincount(group)).sqrt()], 1)


BY_CLASS = [
    (lambda r, g, k: torch.zeros(int(g.max()) + 1, 2), "still zeros"),
    (lambda r, g, k: by_class(r, g, 1), "k is not used"),
    (lambda r, g, k: by_class(r, g, k, keep=torch.lt), "ranks begin with 1"),
    (lambda r, g, k: by_class(r, g, k, keep=torch.eq), "only rank k itself"),
    (lambda r, g, k: by_class(r, g, k, keep=torch.gt), "the misses"),
    (lambda r, g, k: by_class(r, g, k, size=len(r)), "divides by all holes"),
    (lambda r, g, k: by_class(r, g, k, size=1), "that of one hole"),
    (lambda r, g, k: by_class(r, g, k) ** torch.tensor([1, 2]), "needs a root"),
    (of_all, "shares are of all holes"),
    (lambda r, g, k: by_class(r, g, k).flip(1), "turn them around"),
    (lambda r, g, k: by_class(r, g, k).T, "should be a row"),
    (lambda r, g, k: 100 * by_class(r, g, k), "percents"),
    (lambda r, g, k: by_class(r, g, k)[:, 0], "the shape is (3,)"),
    (lambda r, g, k: by_class(r, g, 3), "five and k = 6"),
    (lambda r, g, k: by_class(r, g, k).abs() + 0.01, "a row for each class"),
    (lambda r, g, k: by_class(r.sub_(1), g, k), "r itself was changed"),
    (lambda r, g, k: None, "returns nothing"),
]


def bins_of(confidence, right, bins):
    for n in range(bins):
        inside = (confidence > n / bins) & (confidence <= (n + 1) / bins)
        yield inside, inside.float().mean()


def gap(confidence, right, inside):
    return right[inside].mean() - confidence[inside].mean() if inside.any() else torch.tensor(0.0)


def gaps(c, r, bins):
    return torch.stack([gap(c, r, inside) for inside, _ in bins_of(c, r, bins)])


def right_error(c, r, bins):
    return sum(share * gap(c, r, inside).abs() for inside, share in bins_of(c, r, bins))


def with_nan(c, r, bins):
    return sum(share * (r[inside].mean() - c[inside].mean()).abs()
               for inside, share in bins_of(c, r, bins))


def floor_loop(c, r, bins):
    number = (c * bins).long()  # 1.0 lands in a bin that the loop does not visit
    return sum((number == n).float().mean() * gap(c, r, number == n).abs() for n in range(bins))


def middles(c, r, bins):
    return sum(share * (r[inside].mean() - (n + 0.5) / bins).abs()
               for n, (inside, share) in enumerate(bins_of(c, r, bins)) if inside.any())


CALIBRATION = [
    (lambda c, r, bins: 0.0, "still 0"),
    (lambda c, r, bins: gaps(c, r, bins).abs().sum() / 4, "weighted equally;"),
    (lambda c, r, bins: gaps(c, r, bins).abs().mean(), "the empty one too"),
    (lambda c, r, bins: (r - c).mean(), "cancel"),
    (lambda c, r, bins: abs(r.mean() - c.mean()), "not at the end"),
    (lambda c, r, bins: gaps(c, r, bins).abs().max(), "largest gap"),
    (middles, "middle of the bin"),
    (lambda c, r, bins: len(c) * right_error(c, r, bins), "divide by the number"),
    (lambda c, r, bins: gaps(c, r, bins).abs().sum(), "weight each by its share"),
    (lambda c, r, bins: 100 * right_error(c, r, bins), "percent"),
    (lambda c, r, bins: right_error(c, r, 10), "ten bins"),
    (lambda c, r, bins: (r - c).abs().mean(), "without bins"),
    (floor_loop, "exactly 1"),
    (with_nan, "without guesses"),
    (lambda c, r, bins: sum(s * gap(c, r, i) ** 2 for i, s in bins_of(c, r, bins)), "squared"),
    (lambda c, r, bins: 0.123, "in each bin"),
    (lambda c, r, bins: right_error(c, r, 5), "but not for 60 in 7"),
    (lambda c, r, bins: gaps(c, r, bins), "the shape is (5,), one number is asked"),
    (lambda c, r, bins: str(right_error(c, r, bins)), "it returns str, not a number"),
]


def likelihood(model, ids, mask, places=None, reduce=torch.sum, log=torch.log):
    values = []
    for place in places or range(1, len(ids) - 1):
        hidden = ids.clone()
        hidden[place] = mask
        values.append(log(model(hidden[None]).logits[0, place].softmax(-1)[ids[place]]))
    return reduce(torch.stack(values))


def at_once(model, ids, mask):
    hidden = ids.clone()
    hidden[1:-1] = mask
    return model(hidden[None]).logits[0].log_softmax(-1)[range(1, 4), ids[1:-1]].sum()


def unhidden(model, ids, mask):
    return model(ids[None]).logits[0].log_softmax(-1)[range(1, 4), ids[1:-1]].sum()


def spoiling(model, ids, mask, keep_labels=True):
    total, labels = 0.0, ids.clone() if keep_labels else ids
    for place in range(1, len(ids) - 1):
        ids[place] = mask
        total = total + model(ids[None]).logits[0, place].log_softmax(-1)[labels[place]]
    return total


def putting_back(model, ids, mask):
    total = likelihood(model, ids, mask)
    ids[1] = mask
    return total


def raw_logits(model, ids, mask):
    return likelihood(lambda x: type("Out", (), {"logits": model(x).logits}), ids, mask,
                      log=lambda p: p)


LIKELIHOOD = [
    (lambda m, i, k: 0.0, "still 0"),
    (at_once, "all words were hidden at once"),
    (unhidden, "nothing was hidden"),
    (spoiling, "words stay hidden once"),
    (lambda m, i, k: spoiling(m, i, k, False), "look up is [MASK]"),
    (lambda m, i, k: likelihood(m, i, k, range(len(i))), "[CLS] and [SEP]"),
    (lambda m, i, k: likelihood(m, i, k, range(1, len(i))), "[SEP] is scored"),
    (lambda m, i, k: likelihood(m, i, k, range(len(i) - 1)), "[CLS] is scored"),
    (lambda m, i, k: likelihood(m, i, k, reduce=torch.mean), "mean"),
    (lambda m, i, k: -likelihood(m, i, k), "sign"),
    (lambda m, i, k: -likelihood(m, i, k, reduce=torch.mean), "sign is turned around, and"),
    (raw_logits, "probabilities are added"),
    (lambda m, i, k: likelihood(m, i, k).exp(), "product"),
    (lambda m, i, k: likelihood(m, i, k, log=torch.log2), "base 2"),
    (lambda m, i, k: likelihood(m, i, k, log=torch.log10), "base 10"),
    (putting_back, "ids itself was changed"),
    (lambda m, i, k: likelihood(m, i, 4), "and mask_id=5"),
    (lambda m, i, k: likelihood(m, i, k, [1, 2, 3]), "IndexError"),
    (lambda m, i, k: m(i).logits.sum(), "your line"),
]


def merged(tokens, shares, join=math.prod, glue=""):
    words = []
    for token, share in zip(tokens, shares, strict=True):
        if token.startswith("##") and words:
            words[-1][0] += glue + token[2:]
            words[-1][1].append(share)
        else:
            words.append([token, [share]])
    return [(word, join(parts)) for word, parts in words]


def forgetful(tokens, shares):
    words, word, product = [], "", 1.0
    for token, share in zip(tokens, shares, strict=True):
        if not token.startswith("##") and word:
            words.append((word, product))
            word, product = "", 1.0
        word, product = word + token.removeprefix("##"), product * share
    return words


def ends_badly(tokens, shares):
    return merged(tokens, shares) if tokens[-1][0] != "#" else merged(tokens, shares)[:-1]


PIECES = [
    (lambda t, s: list(zip(t, s, strict=True)), "nothing was merged"),
    (lambda t, s: [], "empty"),
    (lambda t, s: merged(t, s, lambda p: sum(p) / len(p)), "averaged"),
    (lambda t, s: merged(t, s, lambda p: math.prod(p) ** (1 / len(p))), "geometric"),
    (lambda t, s: merged(t, s, sum), "added"),
    (lambda t, s: merged(t, s, min), "least share"),
    (lambda t, s: merged(t, s, lambda p: p[0]), "first piece"),
    (lambda t, s: merged(t, s, lambda p: p[-1]), "last piece"),
    (lambda t, s: merged(t, s, glue="##"), "## is left"),
    (lambda t, s: merged(t, s, glue=" "), "space"),
    (lambda t, s: [p for p in zip(t, s, strict=True) if "#" not in p[0]], "dropped"),
    (forgetful, "last word is lost"),
    (ends_badly, "ends in a word piece"),
    (lambda t, s: merged(["##" if x == "#" else x for x in t], s), "a lone # begins a word"),
    (lambda t, s: [t.pop(), s], "t itself was changed"),
    (lambda t, s: {"the": 0.5}, "four pairs"),
]

WRONG = {checks.check_top_k_by_class: BY_CLASS,
         checks.check_calibration_error: CALIBRATION,
         checks.check_pseudo_log_likelihood: LIKELIHOOD, checks.check_merge_pieces: PIECES}


@pytest.mark.parametrize(
    ("check", "answer", "words"),
    [(check, answer, words) for check, wrong in WRONG.items() for answer, words in wrong],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "__name__", ""),
)
def test_a_wrong_answer_is_told_what_is_wrong(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def in_one_batch(model, ids, mask):
    places = torch.arange(1, len(ids) - 1)
    batch = ids.repeat(len(places), 1)
    batch[torch.arange(len(places)), places] = mask
    logits = model(batch).logits[torch.arange(len(places)), places]
    return float(logits.log_softmax(-1).gather(1, ids[places][:, None]).sum())


def by_sums(rank, group, k):
    count = torch.bincount(group)
    p = torch.bincount(group[rank <= k], minlength=len(count)) / count
    return torch.stack([p, (p * (1 - p) / count).sqrt()], 1)


def floor_bins(confidence, right, bins):
    number = (confidence * bins).long().clamp(max=bins - 1)
    return right_error_of(confidence, right, [number == n for n in range(bins)])


def right_error_of(confidence, right, groups):
    return sum(float(g.float().mean() * gap(confidence, right, g).abs()) for g in groups)


RIGHT = [
    (checks.check_top_k_by_class, by_class), (checks.check_top_k_by_class, by_sums),
    (checks.check_calibration_error, right_error), (checks.check_calibration_error, floor_bins),
    (checks.check_calibration_error, lambda c, r, bins: calibration_error(calibration(c, r, bins))),
    (checks.check_pseudo_log_likelihood, likelihood),
    (checks.check_pseudo_log_likelihood, in_one_batch),
    (checks.check_merge_pieces, merged),
    (checks.check_merge_pieces, lambda t, s: [list(pair) for pair in merged(t, s)]),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_a_right_answer_is_taken_however_it_is_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize("values", [
    checks.calibration_mistakes(torch.tensor(checks.CONFIDENCE), torch.tensor(checks.RIGHT).float(),
                                5),
    torch.no_grad()(checks.likelihood_mistakes)(checks.tiny(), torch.tensor([2, 5, 7, 6, 3]), 4),
])
def test_no_two_mistakes_look_alike(values):
    alike = [pair for pair in itertools.combinations(values, 2)
             if same(float(values[pair[0]]), float(values[pair[1]]))]
    assert not alike
