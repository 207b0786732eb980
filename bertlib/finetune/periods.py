"""When was it said? A sentence of a State of the Union message, and four periods to choose from.

Example usage:
python -m bertlib.finetune.periods when
python -m bertlib.finetune --train when/train.csv --val when/val.csv --out when/model

Whole speeches are held out: those that the corpus, dealt out by documents, holds out anyway. What
was pretrained on that split has not read them. Sentences with a digit are left out, as a year or
a sum of money would tell; so are those that were said twice.
"""

import random
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bertlib.corpus import Corpus
from bertlib.finetune.tables import write_tables
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.dataset_header import SPLITS
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.tables import Row

TEXTS = PROJECT / "wiki" / "input"
TITLE = re.compile(r"= (State of the Union, (\d{4}), .+) =")
LAST_YEARS = {1880: "1790-1880", 1928: "1881-1928", 1976: "1929-1976", 2026: "1977-2026"}
END = re.compile(r"""(?<=[.!?])["')\]]*\s+(?=["'(]?[A-Z])""")  # of a sentence
SHORTEST, LONGEST = 10, 40  # words


class Speech(NamedTuple):
    """A message, in which split of the corpus it is, and what it says."""

    split: str
    title: str
    year: int
    paragraphs: list[str]

    @property
    def period(self) -> str:
        """The label of its sentences."""
        return next(name for year, name in LAST_YEARS.items() if self.year <= year)

    def sentences(self) -> Iterator[str]:
        """Those of 10 to 40 words that hold no digit."""
        for sentence in (s for text in self.paragraphs for s in END.split(text)):
            if SHORTEST <= len(sentence.split()) <= LONGEST and not re.search(r"\d", sentence):
                yield sentence


def speeches(texts: Path = TEXTS) -> list[Speech]:
    """All messages among the texts in a folder; `InputError` if there are none."""
    found = []
    for split, (title, *paragraphs) in Corpus(texts, unit="documents"):
        if match := TITLE.fullmatch(title):
            found.append(Speech(SPLITS[split], match[1], int(match[2]), paragraphs))
    if not found:
        raise InputError(f"There is no State of the Union message in '{texts}'; pass the course's "
                         "own folder of texts.")
    return found


def periods(train: int = 2_000, held: int = 500, seed: int = 1,
            texts: Path = TEXTS) -> dict[str, list[Row]]:
    """Rows of each split in a drawn order: so many of each period to train on, and held out.

    `InputError` if a period has fewer.
    """
    sentences = [(speech, s) for speech in speeches(texts) for s in speech.sentences()]
    told = Counter(s.lower() for _, s in sentences)
    pools: dict[tuple[str, str], list[Row]] = {
        (split, period): [] for split in SPLITS for period in LAST_YEARS.values()}
    for speech, s in sentences:
        if told[s.lower()] == 1:
            pools[speech.split, speech.period].append(Row(speech.title, (s,), speech.period))
    draw, rows = random.Random(seed), dict[str, list[Row]]()
    for (split, period), pool in pools.items():
        if (count := train if split == "train" else held) > len(pool):
            raise InputError(f"The {split} split has {len(pool):,} sentences of {period}, and "
                             f"{count:,} are asked for; take less.")
        rows[split] = rows.get(split, []) + draw.sample(pool, count)
    for its in rows.values():
        draw.shuffle(its)
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Write train.csv, val.csv and test.csv: text, label, and the speech."""
    parse = Parser(prog="bertlib.finetune.periods", description=__doc__)
    parse.add_argument("out", type=Path, help="the folder of the tables")
    parse.add_argument("--train", type=int, default=2_000, help="sentences a period to train on")
    parse.add_argument("--held", type=int, default=500, help="a period to validate on, and to test")
    parse.add_argument("--seed", type=int, default=1, help="of the draw of sentences")
    given = parse.parse_args(arguments)
    rows = periods(given.train, given.held, given.seed)
    write_tables(given.out, rows, "speech")
    for split, its in rows.items():
        from_ = len({row.place for row in its})
        print(f"{given.out / f'{split}.csv'}: {len(its):,} sentences of {from_} speeches")


if __name__ == "__main__":
    sys.exit(run_command(main))
