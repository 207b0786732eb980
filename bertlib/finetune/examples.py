"""Texts as a model reads them: ids in batches of about one length."""

from collections.abc import Sequence

import numpy as np
import torch
from tokenizers import Tokenizer as Backend
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from bertlib.masking import Masked
from bertlib.tokens import Tokenizer


class Examples:
    """Texts as ids, with their labels: the class of each, or a number [n].

    Each is `[CLS] text [SEP]` or `[CLS] text [SEP] text [SEP]`, the longer one cut at its end
    until both fit. `cut`: how many of them were. A [SEP] that is written in a text is read as any
    other word.
    """

    def __init__(self, tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_len: int,
                 labels: Tensor | None = None):
        backend = Backend.from_str(tokenizer.plain.to_str())
        backend.encode_special_tokens = True
        backend.enable_truncation(max_len, strategy="longest_first")
        encodings = backend.encode_batch_fast([text if len(text) > 1 else text[0]
                                               for text in texts])
        self.pad, self.cut = tokenizer.special.pad, sum(bool(e.overflowing) for e in encodings)
        self.ids = [torch.tensor(encoding.ids, dtype=torch.int32) for encoding in encodings]
        self.lengths = np.array([len(ids) for ids in self.ids])
        self.labels = torch.zeros(len(self.ids)) if labels is None else labels

    def __len__(self) -> int:
        return len(self.ids)

    def frozen(self, index: slice | np.ndarray, masker: None = None) -> Masked:
        """A batch of those at `index`, padded to its longest; the name is that of `Dataset`."""
        chosen = np.arange(len(self))[index]
        ids = pad_sequence([self.ids[number] for number in chosen], True, self.pad).long()  # [B, T]
        real = ids != self.pad
        return Masked(ids, torch.arange(len(ids)) * ids.shape[1], self.labels[chosen],
                      None if real.all() else real)


def in_batches(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    """The places of all texts, so many in a batch, the shortest first; the last may have fewer."""
    order = np.argsort(lengths, kind="stable")
    return [order[start : start + size] for start in range(0, len(order), size)]


class LengthBatches:
    """Endless training batches of about one length, shuffled; each example comes once an epoch.

    For each epoch all lengths are changed by up to a tenth, so that others are together. All
    depends only on `seed` and on how many batches came before.
    """

    def __init__(self, examples: Examples, size: int, seed: int):
        self.examples, self.size, self.seed = examples, size, seed
        self._open(0)

    def _open(self, epoch: int) -> None:
        draw, lengths = np.random.default_rng((self.seed, epoch)), self.examples.lengths
        batches = in_batches(lengths * draw.uniform(0.9, 1.1, len(lengths)), self.size)
        self.batches = [batches[number] for number in draw.permutation(len(batches))]
        self.epoch, self.cursor = epoch, 0

    def __len__(self) -> int:
        """Batches in an epoch."""
        return len(self.batches)

    def state(self) -> dict[str, int]:
        """What a checkpoint has to keep; `cursor` counts batches."""
        return {"epoch": self.epoch, "cursor": self.cursor}

    def restore(self, state: dict[str, int]) -> None:
        """Go on where `state` was taken."""
        self._open(state["epoch"])
        self.cursor = state["cursor"]

    def next(self, size: int, rate: float) -> Masked:
        """The next batch; the last of an epoch may be smaller than `size`. No word is hidden."""
        if self.cursor == len(self.batches):
            self._open(self.epoch + 1)
        self.cursor += 1
        return self.examples.frozen(self.batches[self.cursor - 1])
