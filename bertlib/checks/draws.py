"""What is true of the random draws of notebook 02, whoever makes them: pages and their holes."""

import torch
from torch import Tensor

from bertlib.checks import require, same
from bertlib.checks.calling import NotYet

PAD, UNK, CLS, SEP, MASK = SPECIAL = (7, 8, 20, 21, 30)  # not in front, as in BERT's own vocabulary
ORDINARY = torch.tensor([i for i in range(1_000) if i not in SPECIAL])
RATE = 0.15
DRAWS = 200  # chance is judged over so many: nothing right fails once in a billion


def page() -> Tensor:
    """Three full rows of 42 words and one of 20 words with padding: [4, 44]."""
    ids = ORDINARY[100:276].clone().view(4, 44)
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[3, 21], ids[3, 22:] = SEP, PAD
    return ids


def odd_page() -> Tensor:
    """Rows of 17, 16 (in two texts), 3 and 17 words, and one of padding: [5, 19]."""
    ids = ORDINARY[300:395].clone().view(5, 19)
    ids[:, 0], ids[:, -1], ids[1, 9] = CLS, SEP, SEP
    ids[2, 4], ids[2, 5:], ids[4] = SEP, PAD, PAD
    return ids


def seeded(seed: int) -> torch.Generator:
    """A generator of its own."""
    return torch.Generator().manual_seed(seed)


def drawn(call, what: str) -> Tensor:
    """What `call(generator)` returns, if it hangs on that generator and on nothing else."""
    def once(seed: int, world: int):
        torch.manual_seed(world)
        return call(seeded(seed))

    first, again, elsewhere = once(7, 0), once(7, 0), once(7, 1)
    others = [once(seed, 0) for seed in range(8, 12)]
    if not same(first, elsewhere):
        require(not same(first, again), f"{what} are drawn with the global generator, so that "
                "they differ at each call; pass generator=generator")
        raise NotYet(f"{what} differ at each call with an equal generator; draw with torch and "
                     "pass generator=generator")
    require(not all(same(first, other) for other in others),
            f"{what} are the same for every generator: nothing is drawn")
    return first


def judge_positions(positions: Tensor, ids: Tensor) -> None:
    """Whole numbers [K] inside the batch, none twice, none at a special token."""
    require(isinstance(positions, Tensor), "it returns no tensor")
    require(positions.dtype != torch.bool, "it returns a table of true and false; the task wants "
            "the places: table.flatten().nonzero().flatten()")
    require(positions.ndim == 1 and not positions.is_floating_point(),
            "it should return whole numbers [K], places in the flattened batch")
    require(len(positions) > 0, "no position is chosen")
    require(bool(((positions >= 0) & (positions < ids.numel())).all()),
            "a position lies outside the batch")
    require(len(positions.unique()) == len(positions), "a position was chosen twice; draw without "
            "putting back")
    for name, token in (("[CLS]", CLS), ("[SEP]", SEP), ("[PAD]", PAD)):
        require(not bool((ids.flatten()[positions] == token).any()),
                f"{name} was masked; only ordinary tokens are candidates")


def table(positions: Tensor, ids: Tensor) -> Tensor:
    """Where positions [K] are in a batch: [B, T] of true and false."""
    return torch.zeros(ids.numel(), dtype=torch.bool).index_fill(0, positions, True).view_as(ids)


def ordinary(ids: Tensor) -> Tensor:
    """Where words stand: [B, T] of true and false."""
    return ~torch.isin(ids, torch.tensor([PAD, CLS, SEP]))


def judge_share(rows: list[int]) -> None:
    """Six of 42 words in each full row and three of 20 in the short one."""
    require(rows != [7, 7, 7, 7], "the rate was taken of all 44 tokens; take it of the words")
    require(rows[:3] != [6, 6, 6] or rows[3] == 3, "a row with less text hides less: three of "
            f"its 20 words, not {rows[3]}")
    require(len(set(rows[:3])) == 1, f"the rows hide {rows} words; full rows must all hide the "
            "same number, so choose within each row")
    require(rows == [6, 6, 6, 3], f"the rows hide {rows} words; round(rate * words) makes "
            "[6, 6, 6, 3]")


def judge_chance(full: Tensor, short: Tensor) -> None:
    """Every word has the same chance, by itself: draws of full rows [N, 3, 42], a short [N, 20]."""
    never = int((~full.any(0)).sum() + (~short.any(0)).sum())
    require(never == 0, f"{never} of the 146 words were hidden in none of {len(full)} draws; each "
            "must have its turn")
    shared = float((full & full.roll(1, dims=1)).sum(2).double().mean())
    require(abs(shared - 6 * 6 / 42) < 0.3, f"two rows hide {shared:.1f} of their 6 places in the "
            "same columns, by chance it is 0.9; draw for each row by itself")
    beside = float((full[..., 1:] & full[..., :-1]).sum(2).double().mean())
    require(abs(beside - 6 * 5 / 42) < 0.25, f"{beside:.1f} times a row two holes are neighbours, "
            "by chance it is 0.7; draw each place by itself")
    often = full.sum((0, 1))  # [42], about 86 each
    require(uneven(often) < 3, "some places are hidden far more often than others: "
            f"{int(often.min())} to {int(often.max())} times in 600 rows")


def judge_kinds(shown: Tensor, labels: Tensor) -> None:
    """The shares 80/10/10, and that random words are drawn one by one from the ordinary ones."""
    masked, kept = shown == MASK, shown == labels
    strange = shown[~masked & ~kept]
    share = [float(x.float().mean()) for x in (masked, ~masked & ~kept, kept)]
    require(share[0] > 0.005, "no hole shows [MASK]")
    require(share[1] > 0.005, "no hole shows a random word")
    require(len(strange.unique()) > 1, "all random words are the same one; draw one for each hole")
    require(bool(torch.isin(strange, ORDINARY).all()), "random words may be special tokens; draw "
            "from `ordinary`: ordinary[torch.randint(len(ordinary), ...)]")
    require(not torch.isin(strange, labels).all(), "random words are taken from the labels; draw "
            "from `ordinary`: ordinary[torch.randint(len(ordinary), ...)]")
    require(share[2] > 0.005, "no hole shows its true word; 10% should stay as they are")
    told = f"the shares are {share[0]:.0%} [MASK], {share[1]:.0%} random, {share[2]:.0%} kept"
    near = [[abs(a - b) < 0.012 for a, b in zip(share, wanted, strict=True)] for wanted in
            ([0.8, 0.1, 0.1], [0.8, 0.02, 0.18], [0.72, 0.1, 0.18])]
    require(not all(near[1]), f"{told}: 10% of the remaining fifth, not of all holes")
    require(not all(near[2]), f"{told}: random words overwrite a tenth of the [MASK]s; let one "
            "draw decide between the three")
    require(all(near[0]), f"{told}; 80%, 10% and 10% are asked for")


def judge_words(strange: Tensor) -> None:
    """Each ordinary word comes about as often as any other: 80 times in 80,000."""
    often = torch.bincount(strange, minlength=len(ORDINARY) + len(SPECIAL))[ORDINARY]
    never = int((often == 0).sum())
    require(never == 0, f"of {len(strange):,} random words {never} of the {len(ORDINARY)} in "
            "`ordinary` are none; each must have its chance")
    require(uneven(often) < 1.5, "some random words come far more often than others: "
            f"{int(often.min())} to {int(often.max())} times")


def uneven(often: Tensor) -> float:
    """Variance of counts by their mean (Pearson's chi-squared by its freedom): 1 by chance."""
    counts = often.double()
    return float(counts.var() / counts.mean())
