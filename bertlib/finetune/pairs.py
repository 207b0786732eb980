"""Two sentences, and a question about them: does the second follow, or are they swapped?

"next": half of the second sentences are replaced by a random one of another speech (Devlin et al.
2018, section 3.1). "order": half of the pairs are swapped (Lan et al. 2019, ALBERT, section 3.1).
The sentences and the held-out speeches are those of `periods`.
"""

import random
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from bertlib.finetune.periods import END, LONGEST, TEXTS, Speech, speeches
from bertlib.plumbing.dataset_header import SPLITS
from bertlib.plumbing.files import InputError, nearest
from bertlib.plumbing.tables import Row

KINDS = {"next": ("next", "random"), "order": ("in order", "swapped")}
FEWEST = 4  # words of a sentence


def neighbours(speech: Speech) -> Iterator[tuple[str, str]]:
    """Sentences of 4 to 40 words that stand beside each other in a paragraph."""
    for paragraph in speech.paragraphs:
        for one, two in pairwise(END.split(paragraph)):
            if all(FEWEST <= len(sentence.split()) <= LONGEST for sentence in (one, two)):
                yield one, two


def pairs(kind: str, train: int = 8_000, held: int = 1_000, seed: int = 1,
          texts: Path = TEXTS) -> dict[str, list[Row]]:
    """Rows of two texts for each split, every other one true; kind: "next" or "order".

    `InputError` for another kind, or if a split has fewer.
    """
    if kind not in KINDS:
        raise InputError(f"There is no kind of pairs '{kind}'. {nearest(kind, KINDS)}")
    draw, rows, found = random.Random(seed), dict[str, list[Row]](), speeches(texts)
    for split in SPLITS:
        pool = [(speech.title, pair) for speech in found if speech.split == split
                for pair in neighbours(speech)]
        if (count := train if split == "train" else held) > len(pool):
            raise InputError(f"The {split} split has {len(pool):,} pairs of sentences, and "
                             f"{count:,} are asked for; take less.")
        rows[split] = []
        for number, (title, (one, two)) in enumerate(draw.sample(pool, count)):
            false = number % 2
            if false and kind == "order":
                one, two = two, one
            elif false:
                two = draw.choice([pair for place, pair in draw.sample(pool, 50)
                                   if place != title])[1]
            rows[split].append(Row(title, (one, two), KINDS[kind][false]))
    return rows
