"""Checkers of notebook 08: top-k by class, calibration, pseudo-log-likelihood, whole words."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checks import checker, expect, require, same


def group_mistakes(rank: Tensor, group: Tensor, k: int) -> dict[str, Tensor]:
    """Mistake in words -> the table [n, 2] that it returns; under "" the right one."""
    n = int(group.max()) + 1
    count = torch.bincount(group, minlength=n).double()

    def share(keep: Tensor) -> Tensor:
        return torch.stack([keep[group == one].double().mean() for one in range(n)])

    def table(p: Tensor, size: Tensor | float = count, root: float = 0.5) -> Tensor:
        return torch.stack([p, (p * (1 - p) / size)**root], 1)

    p, whole = share(rank <= k), (rank <= k).double().mean()
    return {
        "": table(p),
        "these are still zeros": torch.zeros(n, 2),
        "only the first guess counts; k is not used": table(share(rank == 1)),
        "ranks begin with 1: rank k itself is among the k best": table(share(rank < k)),
        "only rank k itself counts; all up to k should": table(share(rank == k)),
        "these are the misses": table(1 - p),
        "all classes have the share of all holes": table(whole.expand(n)),
        "the error needs a root": table(p, root=1.0),
        "the error is that of one hole; divide p(1 - p) by the holes of the class":
            table(p, 1.0),
        "the error divides by all holes; divide by those of the class": table(p, len(rank)),
        "shares are of all holes; divide by those of the class": table(p * count / len(rank)),
        "error first, share second: turn them around": table(p).flip(1),
        "each pair should be a row: [n, 2]": table(p).T,
        "these are percents; return shares between 0 and 1": table(p) * 100,
    }


@checker
def check_top_k_by_class(answer):
    """`answer(rank [K], group [K], k)` returns share of ranks up to k and its error: [n, 2]."""
    rank = torch.tensor([1, 3, 2, 9, 1, 4, 3, 1, 7, 2, 30, 3])
    group = torch.tensor([0, 0, 1, 1, 2, 2, 2, 0, 1, 1, 1, 2])
    mistakes = group_mistakes(rank, group, 3)
    right = mistakes.pop("")
    expect(answer(rank.clone(), group.clone(), 3), right, mistakes,
           "a row for each class: the share p of ranks up to k, and the root of p(1 - p) / count")
    more = torch.arange(30) % 5
    expect(answer(1 + torch.arange(30) // 3, more, 6),
           group_mistakes(1 + torch.arange(30) // 3, more, 6)[""],
           hint="right for three classes and k = 3, but not for five and k = 6")


def binned(confidence: Tensor, right: Tensor, bins: int) -> list[tuple[int, float, float, float]]:
    """(count, mean confidence, accuracy, middle) of each bin that is not empty."""
    number = (confidence.double() * bins).ceil().long().clamp(min=1) - 1
    return [(int((number == n).sum()), float(confidence[number == n].mean()),
             float(right[number == n].mean()), (n + 0.5) / bins) for n in number.unique().tolist()]


def weighted(rows: list[tuple], gap: Callable[..., float], total: int = 0) -> float:
    """Gaps of bins, weighted by their counts."""
    return sum(row[0] * gap(*row[1:]) for row in rows) / (total or sum(row[0] for row in rows))


CONFIDENCE = [0.05, 0.08, 0.11, 0.15, 0.12, 0.31, 0.35, 0.45, 0.82, 0.85, 0.93, 0.97, 1.0, 1.0]
RIGHT = [1, 1, 0, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 0]


def calibration_mistakes(confidence: Tensor, hit: Tensor, bins: int) -> dict[str, float]:
    """Mistake in words -> the value that it returns; under "" the right value."""
    rows, inside = binned(confidence, hit, bins), confidence < 1
    open_end = binned(confidence[inside], hit[inside], bins)

    def apart(sure: float, accuracy: float, _middle: float) -> float:
        return abs(accuracy - sure)

    gaps, signed = [apart(*row[1:]) for row in rows], float((hit - confidence).mean())
    right = weighted(rows, apart)
    squared = weighted(rows, lambda sure, accuracy, _middle: (accuracy - sure) ** 2)
    return {
        "": right,
        "it is still 0": 0.0,
        "it is not a number: a bin without guesses has no mean; skip it": math.nan,
        "the bins are weighted equally; weight each by the number of its guesses":
            sum(gaps) / len(gaps),
        "the bins are weighted equally, the empty one too; weight by the number of guesses":
            sum(gaps) / bins,
        "gaps of different sign cancel; take the absolute value in each bin": signed,
        "gaps of different sign cancel; take the absolute value in each bin, not at the end":
            abs(signed),
        "that is the largest gap (the maximum calibration error); take the weighted mean":
            max(gaps),
        "the middle of the bin is taken; use the mean confidence of the guesses in it":
            weighted(rows, lambda _sure, accuracy, middle: abs(accuracy - middle)),
        "the gaps are added up by count; divide by the number of guesses": right * len(hit),
        "the gaps are added up; weight each by its share of the guesses": sum(gaps),
        "it is in percent; return a share between 0 and 1": right * 100,
        "the gaps are squared; take absolute values": squared,
        "the gaps are squared (and the root is taken); take absolute values": math.sqrt(squared),
        "a confidence of exactly 1 falls out of the last bin": weighted(open_end, apart, len(hit)),
        "a confidence of exactly 1 falls out of the last bin, and out of the count":
            weighted(open_end, apart),
        "there are ten bins whatever `bins` says": weighted(binned(confidence, hit, 10), apart),
        "each guess is compared by itself, without bins: a lone guess is never 70% right":
            float((hit - confidence).abs().mean()),
    }


@checker
def check_calibration_error(answer):
    """`answer(confidence [K], right [K] of 0 and 1, bins)` returns the gap of Guo et al. 2017."""
    confidence, hit, bins = torch.tensor(CONFIDENCE), torch.tensor(RIGHT).float(), 5
    mistakes = calibration_mistakes(confidence, hit, bins)
    right = mistakes.pop("")
    expect(answer(confidence.clone(), hit.clone(), bins), right, mistakes,
           "in each bin |accuracy - mean confidence|, weighted by its share of the guesses")
    confidence, hit = torch.rand(2, 60, generator=torch.Generator().manual_seed(1))
    expect(answer(confidence, hit.round(), 7), calibration_mistakes(confidence, hit.round(), 7)[""],
           hint="right for 14 guesses in 5 bins, but not for 60 in 7")


def tiny() -> BertForMaskedLM:
    """A small random model; the reader's own random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = BertConfig(vocab_size=8, seq_len=8, d_model=16, n_head=2, n_layer=2, init_std=0.3)
        return BertForMaskedLM(config).eval()


def hidden_logs(model, ids: Tensor, mask: int, places: list[int], labels: Tensor | None = None,
                hide: Callable[[int], list[int]] = lambda place: [place], raw: bool = False):
    """ln p of `labels` at each of the places, while `hide(place)` is hidden: [n]."""
    labels, values = ids if labels is None else labels, []
    for place in places:
        hidden = ids.clone()
        hidden[hide(place)] = mask
        logits = model(hidden[None]).logits[0, place]  # [V]
        values.append((logits if raw else logits.log_softmax(-1))[labels[place]])
    return torch.stack(values)


def likelihood_mistakes(model, ids: Tensor, mask: int) -> dict[str, Tensor]:
    """Mistake in words -> the value that it returns; under "" the right value."""
    end = len(ids) - 1
    words, masks = list(range(1, end)), torch.full_like(ids, mask)

    def logs(places: list[int] = words, **options) -> Tensor:
        return hidden_logs(model, ids, mask, places, **options)

    def before(place: int) -> list[int]:
        return list(range(1, place + 1))

    alone = logs()
    right = alone.sum()
    return {
        "": right,
        "it is still 0": torch.tensor(0.0),
        "all words were hidden at once; each must see the others":
            logs(hide=lambda _place: words).sum(),
        "nothing was hidden: the model reads the word that it should guess":
            logs(hide=lambda _place: []).sum(),
        "words stay hidden once they were; copy the ids anew for each word":
            logs(hide=before).sum(),
        "words stay hidden, and the answer that you look up is [MASK]; copy the ids for each word":
            logs(hide=before, labels=masks).sum(),
        "you look up the probability of [MASK]; take that of the word that it hides":
            logs(labels=masks).sum(),
        "[CLS] and [SEP] are scored, too; they are no words": logs([0, *words, end]).sum(),
        "[SEP] is scored, too; it is no word": logs([*words, end]).sum(),
        "[CLS] is scored, too; it is no word": logs([0, *words]).sum(),
        "it is the mean; take the sum": alone.mean(),
        "the sign is turned around: that is a loss": -right,
        "the sign is turned around, and it is the mean: that is a loss": -alone.mean(),
        "probabilities are added; add their logarithms": alone.exp().sum(),
        "it is the product of the probabilities; return its logarithm": right.exp(),
        "the logarithm has base 2; nats need the natural one": right / math.log(2),
        "the logarithm has base 10; nats need the natural one": right / math.log(10),
        "logits are added; log_softmax turns them into log-probabilities": logs(raw=True).sum(),
    }


@partial(checker, guard=False)
@torch.no_grad()
def check_pseudo_log_likelihood(answer):
    """`answer(model, ids [T], mask_id)` returns the sum of Salazar 2020 for [CLS] .. [SEP]."""
    model, ids, mask = tiny(), torch.tensor([2, 5, 7, 6, 3]), 4
    mistakes = likelihood_mistakes(model, ids, mask)
    right, sent = mistakes.pop(""), ids.clone()
    require((got := answer(model, sent, mask)) is not None, "it returns nothing; end with return")
    expect(got, right, mistakes, "hide each word alone, add up ln p(word)")
    require(same(sent, ids), "ids itself was changed; work on a copy")
    for others, mask in (([2, 1, 3], 4), ([2, 6, 6, 0, 1, 6, 3], 5)):
        ids = torch.tensor(others)
        expect(answer(model, ids.clone(), mask), likelihood_mistakes(model, ids, mask)[""],
               hint=f"right for five ids, but not for {others} and mask_id={mask}")


@checker
def check_merge_pieces(answer):
    """`answer(tokens, shares)` returns (word, share) pairs: pieces joined, shares multiplied."""
    tokens = ["the", "spo", "##ke", "##n", "word", "##s", "went"]
    shares = [0.5, 0.8, 0.5, 0.25, 0.4, 0.9, 0.125]
    spoken, plural = shares[1:4], shares[4:6]

    def words(join: Callable[[list[float]], float], names=("spoken", "words")) -> list:
        return [("the", 0.5), (names[0], join(spoken)), (names[1], join(plural)), ("went", 0.125)]

    right = words(math.prod)
    expect(answer(list(tokens), list(shares)), right, {
        "nothing was merged": list(zip(tokens, shares, strict=True)),
        "the list is empty": [],
        "the shares of the pieces are averaged; all pieces must be right, so multiply":
            words(lambda parts: sum(parts) / len(parts)),
        "the geometric mean is taken; multiply, without the root":
            words(lambda parts: math.prod(parts) ** (1 / len(parts))),
        "the shares of the pieces are added; all pieces must be right, so multiply": words(sum),
        "the least share of the pieces is taken; multiply them": words(min),
        "only the first piece's share is taken; multiply those of all pieces":
            words(lambda parts: parts[0]),
        "only the last piece's share is taken; multiply those of all pieces":
            words(lambda parts: parts[-1]),
        "the ## is left in the words": words(math.prod, ("spo##ke##n", "word##s")),
        "a space stands between the pieces": words(math.prod, ("spo ke n", "word s")),
        "the pieces are dropped, only whole tokens are left":
            [pair for pair in zip(tokens, shares, strict=True) if pair[0][0] != "#"],
        "the last word is lost": right[:-1],
    }, "four pairs (word, share) in the order of the text; 'spoken' has 0.8 x 0.5 x 0.25 = 0.1")
    expect(answer(["a", "##b"], [0.5, 0.5]), [("ab", 0.25)],
           hint="a text that ends in a word piece comes out wrong")
    expect(answer(["a", "#", "##1"], [0.5, 0.25, 0.5]), [("a", 0.5), ("#1", 0.125)],
           hint="a lone # begins a word; only a leading ## goes on: a # ##1 are the words a and #1")
