"""A vocabulary as a file and as a list: how it is learned, read, written and judged.

The layout is BERT's own: one token a line of `vocab.txt`, the line number is the id. How text is
washed before it is looked up (capitals, accents) stands in `tokenizer_config.json` beside it, if
anywhere; else the words themselves tell.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers.implementations import BertWordPieceTokenizer

from bertlib.plumbing.files import InputError, atomic_write, clear_leftovers, read_bytes
from bertlib.plumbing.records import Missing, read_json, write_json

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
VOCAB, RULES = "vocab.txt", "tokenizer_config.json"  # the two files of a vocabulary's folder
BRACKETED = re.compile(r"\[.*\]|<.*>", re.DOTALL)  # [unused1], <URL>: names, not words
CASED_SHARE = 0.05  # of words that hold a capital: above, a vocabulary is cased
MOST_TOKENS = 1_000_000  # of a vocabulary; Google's largest, of 109 languages, has half of them
MOST_BYTES = 64_000_000  # of a vocab.txt
CLASSES = ("BertTokenizer", "BertTokenizerFast")
OVERRULE = f'to overrule, write {{"do_lower_case": true or false}} into {RULES} beside {VOCAB}'


@dataclass(frozen=True)
class SpecialIds:
    """Where the five special tokens stand in a vocabulary (BERT's own: 0, 100, 101, 102, 103)."""

    pad: int
    unk: int
    cls: int
    sep: int
    mask: int


@dataclass(frozen=True)
class Rules:
    """How text is washed; the meaning is that of transformers.BertTokenizer.

    strip_accents=None removes accents where capitals are removed. split_chinese parts Chinese
    characters from each other. reason: who decided about capitals, in words.
    """

    lowercase: bool
    strip_accents: bool | None = None
    split_chinese: bool = True
    reason: str = "as asked for"

    def as_dict(self) -> dict[str, bool | None]:
        """By the names of transformers.BertTokenizer."""
        return {"do_lower_case": self.lowercase, "strip_accents": self.strip_accents,
                "tokenize_chinese_chars": self.split_chinese}

    def verdict(self) -> str:
        """One sentence: cased or uncased, and who says so."""
        accents = {None: "", True: " without accents", False: " with accents"}[self.strip_accents]
        return f"{'uncased' if self.lowercase else 'cased'}{accents}, {self.reason}"


def alphabet_limit(size: int) -> int:
    """How many characters a vocabulary of `size` may spell with: a third of it, or 1,000.

    A character takes two tokens where it also stands inside words, so that a third leaves room
    for words; 21,128 tokens, the size of Google's Chinese vocabulary, hold 7,042 characters.
    """
    return max(1000, size // 3)


def train_vocab(texts: Iterable[str], size: int, lowercase: bool = True) -> list[str]:
    """Learn a WordPiece vocabulary of at most `size` tokens, specials first.

    It has fewer where the text is too short for more. Raises `InputError` if the alphabet of the
    text alone needs more. Source: Devlin et al. 2018, section 3 (WordPiece); the training is
    `tokenizers`' own. It breaks ties by the order of a hash table, so that two runs may differ
    in rare pieces: keep the file.
    """
    if not 0 < size <= MOST_TOKENS:
        raise InputError(f"The size is {size:,}; it must lie in 1..{MOST_TOKENS:,}.")
    tokenizer = BertWordPieceTokenizer(lowercase=lowercase)
    tokenizer.train_from_iterator(
        iter(texts), vocab_size=size, special_tokens=list(SPECIAL_TOKENS),
        limit_alphabet=alphabet_limit(size), show_progress=False,
    )
    ids = tokenizer.get_vocab()
    if len(ids) > size:
        raise InputError(f"The size is {size:,}, but the special tokens and the alphabet of the "
                         f"text alone need {len(ids):,} tokens; pass a larger size.")
    return sorted(ids, key=ids.__getitem__)


def left_out(vocab: Sequence[str], characters: Counter, wash: Callable[[str], str]) -> Counter:
    """The characters of a text, each after `wash`, that no token spells, with their counts."""
    known, missing = set(vocab), Counter[str]()
    for character, count in characters.items():
        for washed in "".join(wash(character).split()):
            if washed not in known and f"##{washed}" not in known:
                missing[washed] += count
    return missing


def check_vocab(vocab: Sequence[str], name: str) -> None:
    """`InputError` if a special token is missing, a token stands twice, or there are no words.

    Lines count from 1.
    """
    lines: dict[str, int] = {}
    for number, token in enumerate(vocab, 1):
        if (first := lines.setdefault(token, number)) != number:
            raise InputError(f"The {name} lists {token!r} twice, in lines {first:,} and "
                             f"{number:,}; remove one of the lines.")
    for token in SPECIAL_TOKENS:
        if token not in lines:
            raise InputError(f"The {name} has no {token}; add it on its own line.")
    if len(lines) == len(SPECIAL_TOKENS):
        raise InputError(f"The {name} holds the special tokens alone; add words to it.")


def save_vocab(vocab: Sequence[str], path: Path) -> None:
    """Write one token a line, the layout of BERT's `vocab.txt`; the line number is the id.

    Raises `InputError` for a token that a line cannot hold: it would be read back as another one.
    """
    with vocab_written(vocab, path):
        pass


@contextmanager
def vocab_written(vocab: Sequence[str], path: Path) -> Iterator[None]:
    """As `save_vocab`; the file takes its place when the context ends."""
    for number, token in enumerate(vocab, 1):
        if not token or "\n" in token or token.endswith("\r") or token.startswith("\ufeff"):
            raise InputError(f"Token {number:,} is {token!r}, which a line of '{path}' cannot "
                             "hold; leave it out of the vocabulary.")
    with atomic_write(path) as stream:
        stream.write("".join(f"{token}\n" for token in vocab).encode())
        stream.flush()
        yield


def vocab_file(path: Path) -> Path:
    """`path` itself, or the vocab.txt inside the folder `path`."""
    path = Path(path)
    return path / VOCAB if path.is_dir() else path


def load_vocab(path: Path) -> list[str]:
    r"""Read a `vocab.txt`, or the one inside the folder `path`.

    Lines end at "\n" or "\r\n" only: other ends of lines, such as U+2028, are tokens of Google's
    Chinese vocabulary. Raises `InputError` if the file is missing, no regular one, not UTF-8 text
    or far too large, has an empty line before its last token, a token twice, lacks a special one
    or holds no others.
    """
    path = vocab_file(path)
    try:
        text = read_bytes(path, MOST_BYTES).decode("utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(f"There is no vocabulary at '{path}'; pass a vocab.txt.") from None
    except (UnicodeDecodeError, OSError):
        raise InputError(f"Cannot read the vocabulary '{path}' as UTF-8 text.") from None
    if (count := text.count("\n")) > MOST_TOKENS:
        raise InputError(f"The vocabulary '{path}' has {count:,} lines; it may have at most "
                         f"{MOST_TOKENS:,}, one a token.")
    vocab = [line.removesuffix("\r") for line in text.split("\n")]
    while vocab and not vocab[-1]:
        vocab.pop()
    if "" in vocab:
        raise InputError(f"Line {vocab.index('') + 1:,} of the vocabulary '{path}' is empty; put "
                         "its token back: without it, all later tokens get other ids.")
    check_vocab(vocab, f"vocabulary '{path}'")
    return vocab


def judge(vocab: Sequence[str], strip_accents: bool | None = None,
          split_chinese: bool = True) -> Rules:
    """The rules that fit the words of a vocabulary: cased if more than 5% of them hold a capital.

    Only words with letters that have two cases count: specials, [unused1], <URL>, digits and
    Chinese characters tell nothing. BERT's cased English vocabulary has capitals in about a
    third of its words, its uncased and Chinese ones in none.
    """
    words = ["".join(filter(str.isalpha, token)) for token in vocab
             if not BRACKETED.fullmatch(token)]
    words = [word for word in words if word.lower() != word.upper()]
    capitals = sum(word != word.lower() for word in words)
    have = "has a capital" if capitals == 1 else "have capitals"
    reason = f"judged by its words: {capitals:,} of {len(words):,} {have}"
    return Rules(capitals <= CASED_SHARE * len(words), strip_accents, split_chinese, reason)


def load_rules(path: Path, vocab: Sequence[str]) -> Rules:
    """The rules in `path`, a tokenizer_config.json; what it does not say, the words decide.

    A missing file is fine. Raises `InputError` for one that is no JSON object, has a value of
    another type, or belongs to a tokenizer that is not BERT's.
    """
    path = Path(path)
    try:
        said = read_json(path, dict[str, Any], "repair it or remove it", is_sealed=False)
    except Missing:
        return judge(vocab)
    if (kind := said.get("tokenizer_class", CLASSES[0])) not in CLASSES:
        raise InputError(f"'{path}' names the tokenizer {kind!r}; this course reads text by the "
                         f"rules of {CLASSES[0]} only.")
    known = {"do_lower_case": None, "strip_accents": None, "tokenize_chinese_chars": True}
    values: dict[str, Any] = {name: said.get(name, default) for name, default in known.items()}
    for name, value in values.items():
        may_be_none = name == "strip_accents" or name not in said
        if not (isinstance(value, bool) or value is None and may_be_none):
            allowed = "true, false or null" if name == "strip_accents" else "true or false"
            raise InputError(f"'{path}' says {name} is {value!r}; it must be {allowed}.")
    lowercase, strip_accents, split_chinese = values.values()
    if lowercase is None:
        return judge(vocab, strip_accents, split_chinese)
    return Rules(lowercase, strip_accents, split_chinese, f"says {RULES}")


def save_whole(vocab: Sequence[str], rules: Rules, folder: Path, max_tokens: int = 0) -> None:
    """Write both files of a vocabulary: never are words there without their rules.

    Errors as in `save_vocab`.
    """
    clear_leftovers(folder, VOCAB, RULES)
    with vocab_written(vocab, Path(folder) / VOCAB):
        (Path(folder) / VOCAB).unlink(missing_ok=True)  # those of before had other rules
        save_rules(rules, Path(folder) / RULES, max_tokens)


def save_rules(rules: Rules, path: Path, max_tokens: int = 0) -> None:
    """Write a tokenizer_config.json, which transformers.BertTokenizer reads, too.

    max_tokens: the longest input of a model, 0 where there is none.
    """
    longest = {"model_max_length": max_tokens} if max_tokens else {}
    write_json(path, {"tokenizer_class": CLASSES[0], **rules.as_dict(), **longest},
               is_sealed=False)
