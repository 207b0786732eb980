"""A text and how it is dealt out: what trains, what validates, what tests.

No document stands in two splits, and the held-out ones get a tenth of the text each. What is
dealt out depends on the text alone: neither on the machine, nor on a seed of masks, nor on the
vocabulary, which is learned from the training split.
"""

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path

import numpy as np

from bertlib.plumbing.files import InputError
from bertlib.plumbing.lines import cut
from bertlib.plumbing.texts import TITLE, read_paragraphs

SHARE = 10  # validation and test get one part in so many
SPLIT_SEED = 123
FEW = 10  # a text of fewer documents is dealt out in passages
PASSAGES = 40
UNITS = ("documents", "passages")
UNKNOWN = "<unk>"  # what word-level WikiText writes for a word that it left out
JOINTS = {" @-@ ": "-", " @,@ ": ",", " @.@ ": "."}  # its "role @-@ playing", "1 @,@ 000"


class Corpus:
    """A text, surveyed once: then its size, its unit and the split of each unit are known.

    path: a file or a folder of texts. parted: as in `texts`. unit: what is dealt out; if empty,
    "documents" stay whole, but a text of fewer than ten, or of one giant among dwarfs, is dealt
    out in contiguous "passages".

    Documents of one title are versions of one text, and go to one split. splits: the number of
    the split of each unit. characters: of the whole text. wikitext: whether the
    marks of WikiText were found; those that join words are then taken out, and `<unk>` is left to
    the reader. Errors as in `texts.read_paragraphs`.
    """

    def __init__(self, path: Path, parted: str = "titles", unit: str = ""):
        self.path, self.parted = Path(path), parted
        versions: dict[str, int] = {}  # the group of each title
        groups, sizes = array("q"), array("q")  # a document's group, a group's characters
        self.wikitext = False
        for begins, text in read_paragraphs(path, parted):
            if begins:
                fresh = len(sizes)
                group = versions.setdefault(text, fresh) if TITLE.fullmatch(text) else fresh
                if group == fresh:
                    sizes.append(0)
                groups.append(group)
            sizes[group] += len(text)
            self.wikitext = self.wikitext or _is_wikitext(text)
        self.characters, splits = sum(sizes), deal(sizes)
        self.unit = unit or ("documents" if _is_fair(sizes, splits) else "passages")
        if self.unit not in UNITS:
            raise InputError(f"The unit is '{unit}'; use one of {', '.join(UNITS)}.")
        self.splits = bytes(splits[group] for group in groups)
        if self.unit == "passages":
            lengths: list[int] = []
            for begins, text in self._parts():
                if begins:
                    lengths.append(0)
                lengths[-1] += len(text)
            self.splits = deal(lengths)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each unit, a list of paragraphs, with the number of its split."""
        unit: list[str] = []
        for split, text, ends in self.paragraphs():
            unit.append(text)
            if ends:
                yield split, unit
                unit = []

    def paragraphs(self) -> Iterator[tuple[int, str, bool]]:
        """(split, text, whether a unit ends) of each paragraph, in the order of the text.

        The split is 0 for training, 1 for validation, 2 for test.
        """
        splits = iter(self.splits)
        for (begins, text), (ends, _) in pairwise(chain(self._parts(), [(True, "")])):
            if begins:
                split = next(splits)
            yield split, text, ends

    def _parts(self) -> Iterator[tuple[bool, str]]:
        """The paragraphs, joined and cut as they are dealt out: (whether a unit begins, text)."""
        whole = self.unit == "documents"
        limit = math.inf if whole else max(1, -(-self.characters // PASSAGES))
        size = 0  # of the unit so far; it ends a little over the limit
        for begins, text in read_paragraphs(self.path, self.parted):
            text = _join(text) if self.wikitext else text
            pieces = (text,) if whole else cut(text, int(limit))
            for piece in filter(None, map(str.strip, pieces)):
                size = 0 if begins or size > limit else size
                yield size == 0, piece
                size += len(piece)
                begins = False


def deal(sizes: Sequence[int]) -> bytes:
    """The split of each unit by its size: 1 and 2 get a tenth of the total each, 0 the rest.

    Units are drawn in an order that is always the same, and the emptier of both takes the next if
    it fits. One that is larger than a hundredth of the total would speak for its whole split: it
    goes to training, unless too little is left without it.
    """
    draw = random.Random(SPLIT_SEED)
    order = np.argsort(array("d", (draw.random() for _ in sizes)))
    total, held, splits = sum(sizes), {1: 0, 2: 0}, bytearray(len(sizes))
    for limit in (total / 100, total / SHARE, total):
        if min(held.values()) * SHARE > total / 2:
            break
        for number in order:
            split = 2 if held[2] < held[1] else 1
            fits = SHARE * (held[split] + sizes[number] / 2) <= total  # nearer to a tenth with it
            if splits[number] == 0 and sizes[number] <= limit and fits:
                splits[number] = split
                held[split] += sizes[number]
    return bytes(splits)


def _is_fair(sizes: Sequence[int], splits: bytes) -> bool:
    """Whether whole documents can be dealt out: ten or more, half of a tenth for each split."""
    held = [0, 0, 0]
    for size, split in zip(sizes, splits, strict=True):
        held[split] += size
    return len(sizes) >= FEW and 2 * SHARE * min(held[1], held[2]) >= sum(held)


def _is_wikitext(text: str) -> bool:
    return ("@" in text and any(mark in text for mark in JOINTS)) or f" {UNKNOWN} " in text


def _join(text: str) -> str:
    for mark, joint in JOINTS.items():
        text = text.replace(mark, joint)
    return text
