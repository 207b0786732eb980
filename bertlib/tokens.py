"""Text to token ids and back: a WordPiece vocabulary of your own, or BERT's.

The library `tokenizers` encodes. To learn a vocabulary from the training split of a text:
python -m bertlib.tokens -i wiki.train.tokens -o wiki/vocab --size 8192
"""

import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import Encoding
from tokenizers import Tokenizer as Backend
from tokenizers.implementations import BertWordPieceTokenizer

from bertlib.corpus import UNKNOWN, Corpus
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.dataset_header import SPLITS
from bertlib.plumbing.files import InputError, check_output_folder, sha256
from bertlib.plumbing.texts import PARTED, check_characters
from bertlib.plumbing.vocab import (
    OVERRULE,
    SPECIAL_TOKENS,
    VOCAB,
    Rules,
    SpecialIds,
    alphabet_limit,
    check_vocab,
    judge,
    left_out,
    save_whole,
    train_vocab,
)
from bertlib.plumbing.words import load_words


class Tokenizer:
    """A vocabulary with the WordPiece rules of BERT around it.

    `lowercase=None` decides by the words of the vocabulary, and `strip_accents=None` removes
    accents from uncased text only. Raises `InputError` if a special token is missing or a token
    stands twice.
    """

    def __init__(self, vocab: Sequence[str], lowercase: bool | None = None,
                 strip_accents: bool | None = None, rules: Rules | None = None):
        self.vocab = list(vocab)
        check_vocab(self.vocab, "vocabulary")
        if rules is None:
            judged = judge(self.vocab, strip_accents)
            rules = judged if lowercase is None else Rules(lowercase, strip_accents)
        self.rules = rules
        ids = {token: i for i, token in enumerate(self.vocab)}
        self.special = SpecialIds(*(ids[token] for token in SPECIAL_TOKENS))
        self.backend = BertWordPieceTokenizer(
            ids, lowercase=self.lowercase, strip_accents=self.strip_accents,
            handle_chinese_chars=rules.split_chinese)._tokenizer

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        """From a vocab.txt or its folder, by the tokenizer_config.json beside it, if any.

        A tokenizer.json alone will do. Raises `InputError` as `load_words` does.
        """
        vocab, rules = load_words(path)
        return cls(vocab, rules=rules)

    def save(self, folder: Path, max_tokens: int = 0) -> None:
        """Write vocab.txt and tokenizer_config.json, from which a copy reads text alike.

        They also tell transformers the longest input, if it is given.
        """
        save_whole(self.vocab, self.rules, folder, max_tokens)

    def __len__(self) -> int:
        return len(self.vocab)

    @property
    def lowercase(self) -> bool:
        """Whether capitals are read as small letters."""
        return self.rules.lowercase

    @property
    def strip_accents(self) -> bool | None:
        """Whether accents are removed; None: where capitals are."""
        return self.rules.strip_accents

    def verdict(self) -> str:
        """How text is read and who says so, in one sentence without its stop."""
        by_words = self.rules.reason.startswith("judged")
        return self.rules.verdict() + (f"; {OVERRULE}" if by_words else "")

    @cached_property
    def sha256(self) -> str:
        """Hash of the tokens in order: the same for Unix and Windows line ends."""
        return sha256("\n".join(self.vocab).encode())

    @cached_property
    def ordinary_ids(self) -> list[int]:
        """All ids but the five special ones: what a random replacement is drawn from."""
        return [i for i, token in enumerate(self.vocab) if token not in SPECIAL_TOKENS]

    @cached_property
    def plain(self) -> Backend:
        """A second backend, to which [MASK] and the other special tokens are ordinary text."""
        copy = Backend.from_str(self.backend.to_str())
        copy.encode_special_tokens = True
        return copy

    @cached_property
    def unknown_sign(self) -> str:
        """A character that `encode_batch` turns into one [UNK] wherever it stands between spaces.

        It is the first sign from the Egyptian hieroglyphs on that the vocabulary does not hold.
        """
        for sign in map(chr, range(0x13000, 0x32000)):
            if self.plain.encode(sign, add_special_tokens=False).ids == [self.special.unk]:
                return sign
        raise InputError("The vocabulary holds all signs that could stand for an unknown word.")

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        """Ids of `text`, by default as `[CLS] ... [SEP]`; a [MASK] in it is the special token.

        Raises `InputError` as `check_characters` does.
        """
        check_characters(text)
        return self.backend.encode(text, add_special_tokens=add_special_tokens).ids

    def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
        """Encode many texts on all cores, without special tokens and without offsets.

        For texts to learn from: a [MASK] that is written in one is read as any other word.
        """
        return self.plain.encode_batch_fast(list(texts), add_special_tokens=False)

    def encode_stream(self, batches: Iterable[tuple[Sequence[str], Any]]) -> Iterator[tuple]:
        """(texts, extra) -> (encodings, extra), in order; the next two are encoded meanwhile."""
        with ThreadPoolExecutor(1) as pool:
            ahead: deque[tuple[Future, Any]] = deque()
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


def split_texts(corpus: Corpus, split: str) -> Iterator[str]:
    """The paragraphs of one split of a text; WikiText's <unk> left out."""
    number = SPLITS.index(split)
    for found, text, _ in corpus.paragraphs():
        if found == number:
            yield text.replace(UNKNOWN, "") if corpus.wikitext else text


def unknown_share(tokenizer: Tokenizer, texts: Iterator[str]) -> float | None:
    """The share 0..1 of [UNK] among the tokens of some texts; None if they have no token."""
    unknown = count = 0
    batches = iter(lambda: list(islice(texts, 100)), [])
    for encodings, _ in tokenizer.encode_stream((batch, None) for batch in batches):
        count += sum(map(len, encodings))
        unknown += sum(encoding.ids.count(tokenizer.special.unk) for encoding in encodings)
    return unknown / count if count else None


def check_target(folder: Path, force: bool) -> None:
    """`InputError` if the folder cannot be written to, or if it holds a vocabulary already."""
    if (folder / VOCAB).exists() and not force:
        base = folder.resolve().parent
        datasets = len(list((base / "datasets").glob("*.msgpack.gz")))
        runs = len([run for run in (base / "runs").glob("run*") if run.is_dir()])
        raise InputError(f"'{folder / VOCAB}' exists, and a new one would not fit what was made "
                         f"with it ({datasets} dataset files and {runs} runs in '{base}'); choose "
                         "another folder, or pass --force to replace it.")
    if not folder.exists() and not folder.parent.is_dir():
        raise InputError(f"There is no folder '{folder.parent}' to make '{folder.name}' in; "
                         "create it first.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"The output '{folder}' is a file; pass a folder.")
    check_output_folder(folder if folder.exists() else folder.parent)


def learn(text: Path, folder: Path, size: int, lowercase: bool = True, force: bool = False,
          documents: str = "titles") -> list[str]:
    """Learn exactly `size` tokens from the training split of `text`; returns a report in lines.

    Raises `InputError` if the size cannot be held, or if `folder` holds a vocabulary (without
    `force`); then nothing is written.
    """
    check_target(folder, force)
    corpus = Corpus(text, documents)
    seen: Counter[str] = Counter()

    def texts() -> Iterator[str]:
        for text in split_texts(corpus, "train"):
            seen.update(text)
            yield text

    vocab = train_vocab(texts(), size, lowercase)
    if len(vocab) < size:
        raise InputError(f"The training split of '{text}' is enough for {len(vocab):,} tokens, not "
                         f"for {size:,}; pass more text or a smaller --size.")
    tokenizer, report = Tokenizer(vocab, lowercase), []
    if missing := left_out(vocab, seen, tokenizer.backend.normalizer.normalize_str):
        few = " ".join(sign for sign, _ in missing.most_common(10))
        report = [f"{len(missing):,} characters are left out of the alphabet, which holds at most "
                  f"{alphabet_limit(size):,}; they stand in {missing.total():,} of "
                  f"{seen.total():,} places, the most frequent are: {few}"]
    share = unknown_share(tokenizer, split_texts(corpus, "val"))
    folder.mkdir(exist_ok=True)
    tokenizer.save(folder)
    told = "no text to validate on" if share is None else f"{share:.3%} [UNK] in validation text"
    kind = "uncased" if lowercase else "cased"
    return [*report, f"{folder}: {len(vocab):,} tokens, {kind}, {told}"]


def main(arguments: list[str] | None = None) -> None:
    """Learn a vocabulary as the command line says and print what was made."""
    parse = Parser(prog="bertlib.tokens", description=__doc__)
    add = parse.add_argument
    add("-i", "--input", required=True, type=Path, help="the text, a file or a folder")
    add("-o", "--output", required=True, type=Path, help="the folder of the vocabulary")
    add("--size", required=True, type=int, help="how many tokens")
    add("--documents", default="titles", metavar=f"{{{','.join(PARTED)}}}",
        help="what parts documents, as in prepare_mlm_dataset")
    add("--cased", action="store_true", help="keep capitals and accents")
    add("--force", action="store_true", help="replace the vocabulary that is there")
    of = parse.parse_args(arguments)
    print(*learn(of.input, of.output, of.size, not of.cased, of.force, of.documents), sep="\n")


if __name__ == "__main__":
    sys.exit(run_command(main))
