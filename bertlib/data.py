"""From a base folder's texts to batches: chunks by number, in order or shuffled, with their masks.

A base folder, such as `wiki`, has input, vocab, datasets, and runs with run0, run1, ...
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bertlib.masking import Masked, Masker
from bertlib.plumbing.dataset_file import Block, read_dataset, read_header
from bertlib.plumbing.dataset_folder import SplitFiles, check_name, find_datasets
from bertlib.plumbing.dataset_header import Header
from bertlib.plumbing.files import InputError
from bertlib.plumbing.texts import text_files, text_sha256
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.tokens import Tokenizer

EMBEDDED = "english"  # the label of what is made from the texts in `input`, and nothing else
DATA_SEED = 123


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

    def slices(self, rows: int = 8192) -> Iterator[Tensor]:
        """Every token id in order, as tensors [<= rows, T] (int64), to count words."""
        for start in range(0, len(self), rows):
            yield self.chunks(slice(start, start + rows))

    def frozen(self, index, masker: Masker) -> Masked:
        """The chunks at `index` with the masks stored in the file."""
        ids = self.chunks(index)  # [B, T]
        positions = torch.from_numpy(self.positions[index].astype(np.int64))  # [B, M]
        used = positions < ids.shape[1]  # [B, M]
        flat = (positions + torch.arange(len(ids))[:, None] * ids.shape[1])[used]  # [K]
        replaced = torch.from_numpy(self.replaced[index].astype(np.int64))[used]  # [K]
        return masker.puzzle(ids, flat, ids.reshape(-1)[flat], replaced)


def load_dataset(path: Path, tokenizer: Tokenizer) -> Dataset:
    """Open a dataset file; the second time is fast. Errors as in `read_dataset`.

    `InputError` also if it is named as another one, or was made with another vocabulary.
    """
    path = Path(path)
    header = read_header(path)
    check_name(path, header)
    _check_vocab(header, tokenizer, path)
    return Dataset(header, read_dataset(path, header))


def _check_vocab(header: Header, tokenizer: Tokenizer, path: Path) -> None:
    origin = header.origin
    if ((origin.vocab_sha256, origin.vocab_size, origin.special_ids)
            != (tokenizer.sha256, len(tokenizer), tokenizer.special)):
        raise InputError(
            f"The dataset '{path}' was made with another vocabulary ({header.vocab_size} tokens, "
            f"this one has {len(tokenizer)}); pass that vocabulary or prepare the dataset again."
        )
    now = tokenizer.rules.as_dict()
    for name, made in origin.rules().items():
        if made != now[name]:
            raise InputError(f"The dataset '{path}' was made with {name} {made}, which is now "
                             f"{now[name]}; undo that in tokenizer_config.json, or prepare the "
                             "dataset again.")


def batch_size_at(progress: float, first: int, last: int) -> int:
    """Sequences in a batch now: multiples of `first`, all `last` after 60% of the run.

    `first=0` stands for `last`. A small batch takes more steps while the gradient is coarse anyway
    (Geiping & Goldstein 2022). `progress` is the share 0..1 of the run that is done.
    """
    first = first or last
    more = last // first - 1
    return first * (1 + int(more * min(1.0, progress / 0.6)))


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
        """The next `size` chunks, with `rate` of their tokens masked.

        Masks that are not dynamic stand in the file and have the rate that it was made with.
        """
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


def in_order(data: Dataset, masker: Masker, size: int, chunks: int = 0, first: int = 0,
             every: int = 1) -> Iterator[Masked]:
    """Batches of the frozen puzzles in the file's order; the first so many `chunks`, 0 for all.

    Of these batches only each `every`-th from number `first` on: a rank's share.
    """
    end = min(chunks or len(data), len(data))
    for start in range(first * size, end, every * size):
        yield data.frozen(slice(start, min(start + size, end)), masker)


def ensure_datasets(base: Path, label: str, max_len: int) -> SplitFiles:
    """The dataset files of `label` in `base`/datasets, chunks of `max_len` tokens.

    Those of `english` are made from the texts in `base`/input where they are missing, and anew
    where text or vocabulary changed. Other labels are only found: `InputError` if they are not.
    """
    folder, source = base / "datasets", base / "input"
    if label == EMBEDDED and _has_text(source):
        text = text_sha256(source)
        if _is_stale(base, max_len, text):
            folder.mkdir(exist_ok=True)
            prepare(PrepareConfig(source, label, folder, base / "vocab", max_len, DATA_SEED))
    return find_datasets(folder, label, max_len)


def _has_text(folder: Path) -> bool:
    """Whether there is something to make datasets from; else those that are there count."""
    try:
        return folder.is_dir() and bool(text_files(folder))
    except InputError:
        return False


def _is_stale(base: Path, max_len: int, text: str) -> bool:
    """Whether the embedded datasets are missing, or made from another text or other words."""
    try:
        origin = read_header(find_datasets(base / "datasets", EMBEDDED, max_len).train[0]).origin
    except InputError:
        return True
    words = Tokenizer.load(base / "vocab")
    now = text, words.sha256, words.rules.as_dict()
    return now != (origin.source_sha256, origin.vocab_sha256, origin.rules())
