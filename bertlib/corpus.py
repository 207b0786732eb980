"""A text and how it is dealt out: what trains, what validates, what tests.

No document stands in two splits, and the held-out ones get a tenth of the text each. What is
dealt out depends on the text alone: neither on the machine, nor on a seed of masks, nor on the
vocabulary, which is learned from the training split.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bertlib.files import InputError
from bertlib.texts import TITLE, cut, read_documents

SPLITS = ("train", "val", "test")
SHARE = 10  # validation and test get one part in so many
SPLIT_SEED = 123
FEW = 10  # a text of fewer documents is dealt out in passages
PASSAGES = 40
UNITS = ("documents", "passages", "pieces")
PIECE = 20_000  # characters
UNKNOWN = "<unk>"  # what word-level WikiText writes for a word that it left out
JOINTS = {" @-@ ": "-", " @,@ ": ",", " @.@ ": "."}  # its "role @-@ playing", "1 @,@ 000"


class Corpus:
    """A text, surveyed once: then its size, its unit and the split of each unit are known.

    path: a file or a folder of texts. parted: as in `texts`. unit: what is dealt out; if empty,
    "documents" stay whole, but a text of fewer than ten, or of one giant among dwarfs, is dealt
    out in contiguous "passages". "pieces" is how the course dealt out its own text at first: long
    documents in pieces of 20,000 characters, so that one document may stand in two splits.

    Documents of one title are versions of one text, and go to one split. splits: the number of
    the split of each unit (not for pieces). characters: of the whole text. wikitext: whether the
    marks of WikiText were found; those that join words are then taken out, and `<unk>` is left to
    the reader. Errors as in `texts.read_documents`.
    """

    def __init__(self, path: Path, parted: str = "titles", unit: str = ""):
        self.path, self.parted = Path(path), parted
        keys: list[str | int] = []  # a document's title, or its number if it has none
        sizes: Counter[str | int] = Counter()
        self.wikitext = False
        for number, document in enumerate(read_documents(path, parted)):
            keys.append(document[0] if TITLE.fullmatch(document[0]) else number)
            sizes[keys[-1]] += sum(map(len, document))
            self.wikitext = self.wikitext or any(_is_wikitext(text) for text in document)
        self.characters = sizes.total()
        splits = dict(zip(sizes, deal(list(sizes.values())), strict=True))
        self.unit = unit or ("documents" if _is_fair(sizes, splits) else "passages")
        if self.unit not in UNITS:
            raise InputError(f"The unit is '{unit}'; use one of {', '.join(UNITS)}.")
        self.splits = [splits[key] for key in keys]
        if self.unit == "passages":
            self.splits = deal([sum(map(len, passage)) for passage in self.units()])

    def units(self) -> Iterator[list[str]]:
        """What is dealt out, in the order of the text: lists of paragraphs."""
        limit = {"documents": 0, "pieces": PIECE,
                 "passages": max(1, -(-self.characters // PASSAGES))}[self.unit]
        for document in read_documents(self.path, self.parted):
            if self.wikitext:
                document = [_join(paragraph) for paragraph in document]
            if self.unit == "passages":
                document = [piece.strip() for text in document for piece in cut(text, limit)
                            if piece.strip()]
            yield from _in_parts(document, limit) if limit else (document,)

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Each unit with the number of its split, 0 for training, 1 for validation, 2 for test."""
        if self.unit == "pieces":
            yield from _in_turn(self.units())
        else:
            yield from zip(self.splits, self.units(), strict=True)


def deal(sizes: Sequence[int]) -> list[int]:
    """The split of each unit by its size: 1 and 2 get a tenth of the total each, 0 the rest.

    Units are drawn in an order that is always the same, and the emptier of both takes the next if
    it fits. One that is larger than a hundredth of the total would speak for its whole split: it
    goes to training, unless too little is left without it.
    """
    draw = random.Random(SPLIT_SEED)
    order = sorted((draw.random(), number) for number in range(len(sizes)))
    total, held, splits = sum(sizes), {1: 0, 2: 0}, [0] * len(sizes)
    for limit in (total / 100, total / SHARE, total):
        if min(held.values()) * SHARE > total / 2:
            break
        for _, number in order:
            split = 2 if held[2] < held[1] else 1
            fits = SHARE * (held[split] + sizes[number] / 2) <= total  # nearer to a tenth with it
            if splits[number] == 0 and sizes[number] <= limit and fits:
                splits[number] = split
                held[split] += sizes[number]
    return splits


def _is_fair(sizes: dict, splits: dict) -> bool:
    """Whether whole documents can be dealt out: ten or more, half of a tenth for each split."""
    held = Counter()
    for key, split in splits.items():
        held[split] += sizes[key]
    return len(sizes) >= FEW and 2 * SHARE * min(held[1], held[2]) >= sum(sizes.values())


def _in_turn(pieces: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Of each ten pieces in a row 8 train, 1 validates and 1 tests, in a drawn order."""
    draw, order = random.Random(SPLIT_SEED), []
    for piece in pieces:
        if not order:
            shares = (0,) * 8 + (1, 2)
            order = draw.sample(shares, len(shares))
        yield order.pop(), piece


def _in_parts(paragraphs: list[str], limit: int) -> Iterator[list[str]]:
    """Paragraphs in a row, together a little over `limit` characters; the last ones may be less."""
    part, size = [], 0
    for paragraph in paragraphs:
        if size > limit:
            yield part
            part, size = [], 0
        part.append(paragraph)
        size += len(paragraph)
    yield part


def _is_wikitext(text: str) -> bool:
    return ("@" in text and any(mark in text for mark in JOINTS)) or f" {UNKNOWN} " in text


def _join(text: str) -> str:
    for mark, joint in JOINTS.items():
        text = text.replace(mark, joint)
    return text
