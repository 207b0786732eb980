"""Words with their rules as a folder holds them: vocab.txt, or what `tokenizers` saves in one file.

Today's transformers writes tokenizer.json alone. It can describe many tokenizers; what is not
BERT's is refused by name, since it would cut text otherwise.
"""

from pathlib import Path
from typing import Any

from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.records import read_json
from bertlib.plumbing.vocab import (
    MOST_TOKENS,
    RULES,
    SPECIAL_TOKENS,
    Rules,
    check_vocab,
    load_rules,
    load_vocab,
    vocab_file,
)

WHOLE = "tokenizer.json"
# What it must say, part by part; the rest of a part does not change the ids of a text.
BERT: dict[str, dict[str, Any]] = {
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100},
    "normalizer": {"type": "BertNormalizer", "clean_text": True},
    "pre_tokenizer": {"type": "BertPreTokenizer"},
}


def load_words(path: Path) -> tuple[list[str], Rules]:
    """The tokens of a vocab.txt, or of a folder, and how text is washed before it is cut.

    Raises `InputError` as `load_vocab` and `load_rules` do, and for a tokenizer.json that is no
    BERT's or that contradicts the tokenizer_config.json beside it.
    """
    file = vocab_file(path)
    if Path(path).is_dir() and not file.exists() and (Path(path) / WHOLE).exists():
        return _load_whole(Path(path) / WHOLE)
    vocab = load_vocab(file)
    return vocab, load_rules(file.with_name(RULES), vocab)


def _load_whole(path: Path) -> tuple[list[str], Rules]:
    said = read_json(path, dict[str, Any], "get the folder again", is_sealed=False)
    for part, wanted in BERT.items():
        found = said.get(part)
        for name, value in wanted.items():
            other = found.get(name) if isinstance(found, dict) else found
            if other != value:
                raise InputError(f"'{path}' says that the {name} of its {part} is {short(other)}; "
                                 f"this course cuts text by BERT's rules only, {value!r}.")
    vocab = _in_order(said["model"].get("vocab"), path)
    for token in said.get("added_tokens") or ():
        if token.get("content") not in SPECIAL_TOKENS:
            raise InputError(f"'{path}' adds the token {short(token.get('content'))}, which this "
                             "course would read as ordinary text; take a tokenizer without it.")
    washed = said["normalizer"]
    rules = Rules(bool(washed.get("lowercase")), washed.get("strip_accents"),
                  bool(washed.get("handle_chinese_chars")), f"says {WHOLE}")
    beside = load_rules(path.with_name(RULES), vocab)
    if beside.reason == f"says {RULES}" and beside.as_dict() != rules.as_dict():
        raise InputError(f"'{path}' washes text by {rules.as_dict()}, {RULES} beside it by "
                         f"{beside.as_dict()}; remove the one that is wrong.")
    return vocab, rules


def _in_order(ids: Any, path: Path) -> list[str]:
    """The tokens by their ids, which must be 0, 1, 2, ..."""
    if not isinstance(ids, dict) or not 0 < len(ids) <= MOST_TOKENS or (
            set(ids.values()) != set(range(len(ids)))):
        raise InputError(f"'{path}' does not number its tokens from 0 on, each once; get the "
                         "folder again.")
    vocab = sorted(ids, key=ids.__getitem__)
    check_vocab(vocab, f"vocabulary '{path}'")
    return vocab
