"""A folder of dataset files: their names, and which of them belong together."""

import re
from pathlib import Path
from typing import NamedTuple

from bertlib.plumbing.dataset_file import read_header
from bertlib.plumbing.dataset_header import SPLITS, Header
from bertlib.plumbing.files import InputError

NAME = re.compile(rf"(?P<split>{'|'.join(SPLITS)})_(?P<label>.+)_(?P<length>\d+)_(?P<seed>\d+)"
                  r"\.msgpack\.gz")


def check_name(path: Path, header: Header) -> None:
    """`InputError` if a file's name tells another split, length or seed than its header."""
    named = NAME.fullmatch(path.name)
    if named and (named["split"], named["length"], named["seed"]) != (
            header.split, str(header.max_len), str(header.seed)):
        raise InputError(f"'{path}' holds another split, length or seed than its name says "
                         f"({header.split}, {header.max_len}, {header.seed}); give it back its "
                         "name, or prepare the dataset again.")


class SplitFiles(NamedTuple):
    """The dataset files of one label and length: those to train on, to validate and to test.

    Several training files hold the same text with other masks.
    """

    train: list[Path]
    val: Path
    test: Path


def dataset_path(folder: Path, split: str, label: str, max_len: int, seed: int) -> Path:
    """Where a split lies, such as wiki/datasets/train_wiki_128_123.msgpack.gz."""
    return Path(folder) / f"{split}_{label}_{max_len}_{seed}.msgpack.gz"


def find_datasets(folder: Path, label: str, max_len: int) -> SplitFiles:
    """The files of exactly this label and length in `folder`, in the order of their names.

    Raises `InputError` if there are none, if some are missing or hold another split than their
    name says, or if they are not of one text, dealt out in one way: then some would train on what
    others validate.
    """
    kinds = [match for match in map(NAME.fullmatch, _names(folder)) if match]
    here = [match for match in kinds if (match["label"], int(match["length"])) == (label, max_len)]
    if not here:
        known = sorted({f"{match['label']} ({match['length']})" for match in kinds})
        raise InputError(
            f"There is no dataset '{label}' of {max_len} tokens a chunk in '{folder}', which has "
            f"{', '.join(known) or 'none'}; make it with prepare-mlm-dataset -i TEXT -l {label} "
            f"-o {folder} -m {max_len} -v VOCAB."
        )
    found: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for seed in sorted({match["seed"] for match in here}):
        for split in SPLITS:
            found[split].append(dataset_path(folder, split, label, max_len, int(seed)))
    train, val, test = found.values()
    origin = read_header(train[0]).origin
    for path in (*train, *val, *test):
        header = read_header(path)
        check_name(path, header)
        if header.origin != origin:
            raise InputError(f"'{path}' and '{train[0]}' have one label, but not one text, split "
                             "and vocabulary; remove one or prepare it under another label.")
    return SplitFiles(train, val[0], test[0])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else []
