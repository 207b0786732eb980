"""Checkers of notebook 02: where to hide, what to show instead, what to ask, what counting says."""

import torch
from torch import Tensor

from bertlib.checks import NotYet, checker, expect, require, same

PAD, UNK, CLS, SEP, MASK = SPECIAL = (7, 8, 20, 21, 30)  # not in front, as in BERT's own vocabulary
ORDINARY = torch.tensor([i for i in range(1_000) if i not in SPECIAL])
RATE = 0.15


def page() -> Tensor:
    """Three full rows of 42 words and one of 20 words with padding: [4, 44]."""
    ids = ORDINARY[100:276].clone().view(4, 44)
    ids[:, 0], ids[:, -1] = CLS, SEP
    ids[3, 21], ids[3, 22:] = SEP, PAD
    return ids


def drawn(call, what: str) -> Tensor:
    """What `call(generator)` returns, if it hangs on that generator and on nothing else."""
    def once(seed: int, world: int):
        torch.manual_seed(world)
        return call(torch.Generator().manual_seed(seed))

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


@checker
@torch.random.fork_rng(devices=[])
def check_choose(answer):
    """choose(ids [B, T], special, rate, generator) -> flat positions [K], ascending."""
    ids, special = page(), torch.tensor([PAD, CLS, SEP])

    def call(generator):
        return answer(ids.clone(), special, RATE, generator)

    positions = call(torch.Generator().manual_seed(0))
    require(isinstance(positions, Tensor), "it returns no tensor")
    require(positions.dtype != torch.bool, "it returns a table of true and false; the task wants "
            "the places: table.flatten().nonzero().flatten()")
    require(positions.ndim == 1 and not positions.is_floating_point(),
            "it should return whole numbers [K], places in the flattened batch")
    require(len(positions) > 0, "no position is chosen")
    require(bool(((positions >= 0) & (positions < ids.numel())).all()),
            "a position lies outside the batch")
    require(len(positions.unique()) == len(positions), "a position was chosen twice")
    for name, token in (("[CLS]", CLS), ("[SEP]", SEP), ("[PAD]", PAD)):
        hit = any(bool((ids.flatten()[call(torch.Generator().manual_seed(seed))] == token).any())
                  for seed in range(20))
        require(not hit, f"{name} was masked; only ordinary tokens are candidates")
    positions = drawn(call, "masks")
    require(same(positions, positions.sort().values), "the positions are not in ascending order")
    _check_share(torch.bincount(positions // ids.shape[1], minlength=len(ids)).tolist())


def _check_share(rows: list[int]) -> None:
    """Six of 42 words in each full row and three of 20 in the short one."""
    require(rows != [7, 7, 7, 7], "the rate was taken of all 44 tokens; take it of the words")
    require(rows[:3] != [6, 6, 6] or rows[3] == 3, "a row with less text hides less: three of "
            f"its 20 words, not {rows[3]}")
    require(len(set(rows[:3])) == 1, f"the rows hide {rows} words; full rows must all hide the "
            "same number, so choose within each row")
    require(rows == [6, 6, 6, 3], f"the rows hide {rows} words; round(rate * words) makes "
            "[6, 6, 6, 3]")


@checker
@torch.random.fork_rng(devices=[])
def check_replace(answer):
    """replace(labels [K], mask_id, ordinary, generator) -> what is shown instead [K]."""
    labels = ORDINARY[torch.arange(20_000) % len(ORDINARY)]

    def call(generator):
        return answer(labels.clone(), MASK, ORDINARY.clone(), generator)

    shown = call(torch.Generator().manual_seed(0))
    require(isinstance(shown, Tensor) and shown.shape == labels.shape,
            "it should return one token for each label: a tensor [K]")
    seeds = [call(torch.Generator().manual_seed(seed)) for seed in range(40)]
    masked = [float((one == MASK).float().mean()) for one in seeds]
    require(min(masked) < 1, "every hole shows [MASK]; 10% should show a random word and 10% the "
            "true one")
    require(not set(masked) <= {0.0, 1.0} or max(masked) == 0,
            "one draw decides for the whole batch; draw for each hole")
    shown = drawn(call, "replacements")
    _check_kinds(shown, labels)


def _check_kinds(shown: Tensor, labels: Tensor) -> None:
    """The shares 80/10/10, and that random words are drawn one by one from the ordinary ones."""
    masked, kept = shown == MASK, shown == labels
    strange = shown[~masked & ~kept]
    share = [float(x.float().mean()) for x in (masked, ~masked & ~kept, kept)]
    require(share[0] > 0.005, "no hole shows [MASK]")
    require(share[1] > 0.005, "no hole shows a random word")
    require(len(strange.unique()) > 1, "all random words are the same one; draw one for each hole")
    require(bool(torch.isin(strange, ORDINARY).all()), "random words may be special tokens; draw "
            "from `ordinary`: ordinary[torch.randint(len(ordinary), ...)]")
    require(share[2] > 0.005, "no hole shows its true word; 10% should stay as they are")
    told = f"the shares are {share[0]:.0%} [MASK], {share[1]:.0%} random, {share[2]:.0%} kept"
    near = [[abs(a - b) < 0.012 for a, b in zip(share, wanted, strict=True)] for wanted in
            ([0.8, 0.1, 0.1], [0.8, 0.02, 0.18], [0.72, 0.1, 0.18])]
    require(not all(near[1]), f"{told}: 10% of the remaining fifth, not of all holes")
    require(not all(near[2]), f"{told}: random words overwrite a tenth of the [MASK]s; let one "
            "draw decide between the three")
    require(all(near[0]), f"{told}; 80%, 10% and 10% are asked for")


@checker
def check_labels(answer):
    """make_labels(ids [B, T], input_ids [B, T], positions [K]) -> labels [B, T] with -100."""
    ids = torch.tensor([[CLS, 111, 112, 113, SEP], [CLS, 121, 122, 123, SEP]])
    positions = torch.tensor([1, 3, 7])
    flat = ids.flatten()
    shown = flat.clone()
    shown[positions] = torch.tensor([MASK, 113, 131])  # hidden, kept, random
    input_ids = shown.view_as(ids)

    def grid(values: Tensor, background: int = -100) -> Tensor:
        table = torch.full_like(flat, background)
        table[positions] = values
        return table.view_as(ids)

    right, visible = grid(flat[positions]), flat.clone()
    visible[positions] = -100
    mistakes = {
        "the label is the replaced token, not the true one": grid(shown[positions]),
        "a hole that shows its true word has no label; ask `positions`, do not compare the texts":
            torch.where(input_ids != ids, ids, -100),
        "every token has its label, so that words in plain view are graded, too": ids,
        "every token has a label, and it is what the model sees": input_ids,
        "the other places hold 0, which is a token; -100 says: do not grade":
            grid(flat[positions], 0),
        "the other places hold -1; F.cross_entropy leaves out -100": grid(flat[positions], -1),
        "it is the wrong way round: the holes hold -100": visible.view_as(ids),
        "these are the K labels; put them into a table [B, T]": flat[positions],
        "it is still flat; give it the shape of ids: .view_as(ids)": right.flatten(),
    }
    got = answer(ids.clone(), input_ids.clone(), positions.clone())
    expect(got, right, mistakes, "the labels are others")
    require(got.dtype == torch.int64, "the labels are no int64, which F.cross_entropy wants")


@checker
def check_bigram(answer):
    """bigram_guess(text [N], left [n], vocab_size) -> guesses [n]."""
    text = torch.tensor([5, 6, 7, 5, 6, 7, 5, 6, 9, 7, 8, 8, 8, 8, 8, 5, 8, 3])
    left = torch.tensor([5, 6, 9, 4, 3])  # 4 was never seen; nothing ever followed 3
    after = torch.zeros(10, 10)
    for one, other in zip(text[:-1].tolist(), text[1:].tolist(), strict=True):
        after[one, other] += 1
    counts = torch.bincount(text, minlength=10)
    most = int(counts.argmax())

    def with_backoff(table: Tensor) -> Tensor:
        return torch.where(table[left].sum(1) > 0, table[left].argmax(1), most)

    mistakes = {
        "the guess is always 0": torch.zeros_like(left),
        "the context is not asked: always the most frequent word": torch.full_like(left, most),
        "it looks at the word before the context, not at the one that follows it":
            with_backoff(after.T),
        "it looks at the word before the context, and does not back off": after.T[left].argmax(1),
        "a context that was never seen has a row of zeros, whose argmax is 0; back off to the "
        "most frequent word": after[left].argmax(1),
        "without a known context it repeats the context": torch.where(
            after[left].sum(1) > 0, after[left].argmax(1), left),
        "the counts were divided by the frequency of the guess: that prefers rare words":
            with_backoff(after / counts.clamp(min=1)),
        "these are the counts; the guess is the word that has the highest: argmax":
            after[left].max(1).values,
    }
    expect(answer(text.clone(), left.clone(), 10), with_backoff(after), mistakes,
           "the guesses are others")
