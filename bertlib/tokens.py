"""Text to token ids and back: a WordPiece vocabulary of your own, or BERT's.

Training and encoding are done by the `tokenizers` library; this module adds what the course
needs around it: checked files, the special ids by name, and a hash that ties data to vocabulary.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers.implementations import BertWordPieceTokenizer

from bertlib.files import InputError, atomic_write, sha256

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True)
class SpecialIds:
    """Where the five special tokens stand in a vocabulary (BERT's own: 0, 100, 101, 102, 103)."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


def train_vocab(texts: Iterable[str], size: int) -> list[str]:
    """Learn a lower-case WordPiece vocabulary of at most `size` tokens, specials first.

    Source: Devlin et al. 2018, section 3 (WordPiece); the training is `tokenizers`' own. It breaks
    ties by the order of a hash table, so that two runs may differ in rare pieces: keep the file.
    """
    tokenizer = BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(
        texts, vocab_size=size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    ids = tokenizer.get_vocab()
    return sorted(ids, key=ids.__getitem__)


def save_vocab(vocab: Sequence[str], path: Path) -> None:
    """Write one token a line, the layout of BERT's `vocab.txt`; the line number is the id."""
    with atomic_write(path) as stream:
        stream.write("".join(f"{token}\n" for token in vocab).encode())


def load_vocab(path: Path) -> list[str]:
    """Read a `vocab.txt`, or the one inside the folder `path`.

    Raises `InputError` if it is missing, not UTF-8 text, has a token twice or lacks a special.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "vocab.txt"
    try:
        vocab = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no vocabulary at '{path}'; pass a vocab.txt.") from None
    except (UnicodeDecodeError, OSError):
        raise InputError(f"Cannot read the vocabulary '{path}' as UTF-8 text.") from None
    for token in SPECIAL_TOKENS:
        if token not in vocab:
            raise InputError(f"The vocabulary '{path}' has no {token}; add it on its own line.")
    if len(set(vocab)) < len(vocab):
        twice = next(token for token in vocab if vocab.count(token) > 1)
        raise InputError(f"The vocabulary '{path}' lists {twice!r} twice; remove one of the lines.")
    return vocab


class Tokenizer:
    """A vocabulary with the WordPiece rules of BERT around it.

    `lowercase=None` decides by the vocabulary: one with capital letters is a cased one.
    """

    def __init__(self, vocab: Sequence[str], lowercase: bool | None = None):
        self.vocab = list(vocab)
        ids = {token: i for i, token in enumerate(self.vocab)}
        self.special = SpecialIds(*(ids[token] for token in SPECIAL_TOKENS))
        if lowercase is None:
            lowercase = not any(t != t.lower() for t in self.vocab if t[:1] != "[")
        self.lowercase = lowercase
        self.strip_accents, self.unknown_sign = None, '\u2327'
        self.backend = BertWordPieceTokenizer(ids, lowercase=lowercase)._tokenizer

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """From a `vocab.txt` or the folder that holds it; errors as in `load_vocab`."""
        return cls(load_vocab(path))

    def save(self, folder: Path) -> None:
        """x"""
        save_vocab(self.vocab, folder / "vocab.txt")

    def __len__(self) -> int:
        return len(self.vocab)

    @cached_property
    def sha256(self) -> str:
        """Hash of the tokens in order: the same for Unix and Windows line ends."""
        return sha256("\n".join(self.vocab).encode())

    @cached_property
    def ordinary_ids(self) -> list[int]:
        """All ids but the five special ones: what a random replacement is drawn from."""
        special = {getattr(self.special, name) for name in ("pad", "unk", "cls", "sep", "mask")}
        return [i for i in range(len(self)) if i not in special]

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of `text`, by default as `[CLS] ... [SEP]`."""
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode many texts on all cores, without special tokens and without offsets."""
        return self.backend.encode_batch_fast(list(texts), add_special_tokens=False)

    def encode_stream(self, batches: Iterable[tuple[Sequence[str], Any]]) -> Iterator[tuple]:
        """(texts, extra) -> (encodings, extra), in order; the next two are encoded meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            ahead = deque()
            for texts, extra in batches:
                ahead.append((pool.submit(self.encode_batch, texts), extra))
                if len(ahead) > 2:
                    yield _result(*ahead.popleft())
            while ahead:
                yield _result(*ahead.popleft())

    def decode(self, ids: Iterable[int]) -> str:
        """Readable text: word pieces joined, special tokens left out."""
        return self.backend.decode(list(ids))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The token of each id, pieces with their `##`."""
        return [self.vocab[i] for i in ids]


def _result(future: Future, extra: Any) -> tuple[list[Encoding], Any]:
    return future.result(), extra  # in a function of its own, so that the future is not kept
