"""From a dataset file to batches: chunks by number, in order or shuffled, with their masks."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bertlib.corpus import SPLITS
from bertlib.dataset_file import Block, read_dataset, read_header
from bertlib.dataset_header import Header
from bertlib.files import InputError
from bertlib.masking import Masked, Masker
from bertlib.tokens import Tokenizer

NAME = re.compile(rf"(?P<split>{'|'.join(SPLITS)})_(?P<label>.+)_(?P<length>\d+)_(?P<seed>\d+)"
                  r"\.msgpack\.gz")


class Dataset:
    """One split: ids [N, T], positions [N, M] in a chunk, replaced [N, M].

    The arrays lie in a file that is mapped into memory; a batch copies the rows that it needs.
    """

    def __init__(self, header: Header, block: Block):
        self.header = header
        self.ids, self.positions, self.replaced = block.ids, block.positions, block.replaced

    def __len__(self) -> int:
        return self.header.count

    def chunks(self, index) -> Tensor:
        """Token ids [B, T] (int64) of the chunks at `index`."""
        return torch.from_numpy(self.ids[index].astype(np.int64))

    def slices(self, most: int = 8192) -> Iterator[Tensor]:
        """Every token id in order, as tensors [<= most, T] (int64), to count words."""
        for start in range(0, len(self), most):
            yield self.chunks(slice(start, start + most))

    def frozen(self, index, masker: Masker) -> Masked:
        """The chunks at `index` with the masks stored in the file."""
        ids = self.chunks(index)
        positions = torch.from_numpy(self.positions[index].astype(np.int64))  # [B, M]
        used = positions < ids.shape[1]
        flat = (positions + torch.arange(len(ids))[:, None] * ids.shape[1])[used]
        replaced = torch.from_numpy(self.replaced[index].astype(np.int64))[used]
        return masker.puzzle(ids, flat, ids.reshape(-1)[flat], replaced)


def load_dataset(path: Path, tokenizer: Tokenizer) -> Dataset:
    """Open a dataset file; the second time is fast. Checks and errors as in `read_dataset`.

    `InputError` also if it is named as another one.
    """
    header, block = read_dataset(path, tokenizer)
    _check_name(Path(path), header)
    return Dataset(header, block)


def _check_name(path: Path, header: Header) -> None:
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
        _check_name(path, header)
        if header.origin != origin:
            raise InputError(f"'{path}' and '{train[0]}' have one label, but not one text, split "
                             "and vocabulary; remove one or prepare it under another label.")
    return SplitFiles(train, val[0], test[0])


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir()) if Path(folder).is_dir() else []


class Batches:
    """Endless training batches: files rotate by epoch, chunks are shuffled, masks drawn.

    Order and masks depend only on `seed` and on how many sequences came before, so that a
    stopped run goes on exactly where it was, and with any number of ranks.
    """

    def __init__(self, paths: list[Path], masker: Masker, tokenizer: Tokenizer, seed: int,
                 dynamic: bool = True):
        self.paths, self.masker, self.tokenizer = paths, masker, tokenizer
        self.seed, self.dynamic = seed, dynamic
        self.served = self.epoch = self.cursor = 0
        self._open(0)

    def _open(self, epoch: int) -> None:
        """Begin `epoch`: its file (round robin) and its order of chunks."""
        number = epoch % len(self.paths)
        if epoch == 0 or len(self.paths) > 1:
            self.data = load_dataset(self.paths[number], self.tokenizer)
        self.order = np.random.default_rng((self.seed, epoch)).permutation(len(self.data))
        self.epoch, self.cursor = epoch, 0

    def state(self) -> dict[str, int]:
        """What a checkpoint has to keep: `served` and `cursor` count sequences."""
        return {"served": self.served, "epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""
        self._open(state["epoch"])
        self.served, self.cursor = state["served"], state["cursor"]

    def require(self, size: int) -> None:
        """`InputError` if the file has fewer than `size` chunks, too few for one batch."""
        if size > len(self.data):
            raise InputError(
                f"The batch size is {size}, but '{self.paths[0]}' has only {len(self.data)} "
                "chunks; choose a smaller batch_size."
            )

    def next(self, size: int, rate: float) -> Masked:
        """The next `size` chunks, with `rate` of their tokens masked (dynamic masks)."""
        self.require(size)
        if self.cursor + size > len(self.order):
            self._open(self.epoch + 1)
        index = self.order[self.cursor : self.cursor + size]
        seed = np.random.SeedSequence((self.seed, self.served)).generate_state(1)[0]
        self.cursor += size
        self.served += size
        if not self.dynamic:
            return self.data.frozen(index, self.masker)
        generator = torch.Generator().manual_seed(int(seed))
        return self.masker(self.data.chunks(index), generator, rate)


def in_order(data: Dataset, masker: Masker, size: int, most: int = 0, first: int = 0,
             every: int = 1) -> Iterator[Masked]:
    """Batches of the frozen puzzles in the file's order; the first `most` chunks, 0 for all.

    Of these batches only each `every`-th from number `first` on: a rank's share.
    """
    end = min(most or len(data), len(data))
    for start in range(first * size, end, every * size):
        yield data.frozen(slice(start, min(start + size, end)), masker)
