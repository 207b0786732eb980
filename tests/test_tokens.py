"""Vocabularies and ids, against the reference tokenizer."""

import pytest
from transformers import BertTokenizer

from bertlib.corpus import read_documents
from bertlib.files import PROJECT, InputError
from bertlib.tokens import Tokenizer, load_vocab, save_vocab, train_vocab


def paragraphs(count: int) -> list[str]:
    texts = []
    for path in sorted((PROJECT / "wiki" / "input").glob("*.xz")):
        for document in read_documents(path):
            texts += document
            if len(texts) >= count:
                return texts[:count]
    raise AssertionError("the corpus is too small")


def test_ids_agree_with_the_reference_on_1000_paragraphs(tokenizer):
    reference = BertTokenizer.from_pretrained(PROJECT / "wiki" / "vocab", do_lower_case=True)
    texts = [*paragraphs(999), "Ünïcode: naïve café, 北京! it's ## [MASK] \t half-way..."]
    ours = [tokenizer.encode(text) for text in texts]
    theirs = reference(texts, truncation=False)["input_ids"]
    assert ours == theirs
    assert sum(map(len, ours)) > 20_000


def test_special_ids_are_found_by_name_wherever_they_stand(tmp_path):
    vocab = ["a", "[SEP]", "b", "[MASK]", "[CLS]", "[UNK]", "[PAD]", "##c"]
    save_vocab(vocab, tmp_path / "vocab.txt")
    tokenizer = Tokenizer.load(tmp_path)
    special = tokenizer.special
    assert (special.pad, special.unk, special.cls, special.sep, special.mask) == (6, 5, 4, 1, 3)
    assert tokenizer.encode("A bc [MASK]") == [4, 0, 2, 7, 3, 1]
    assert tokenizer.ordinary_ids == [0, 2, 7]


def test_training_learns_frequent_words_and_round_trips(tmp_path):
    vocab = train_vocab(["the lighthouse shines on the sea"] * 50, size=120)
    assert vocab[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert {"lighthouse", "the"} <= set(vocab)
    tokenizer = Tokenizer(vocab)
    assert tokenizer.decode(tokenizer.encode("The lighthouse")) == "the lighthouse"


def test_a_cased_vocabulary_keeps_capitals():
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Paris", "paris"])
    assert tokenizer.tokens(tokenizer.encode("Paris", False)) == ["Paris"]


def test_the_hash_ignores_line_ends_and_sees_order(tmp_path):
    lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]
    (tmp_path / "w.txt").write_bytes("\r\n".join(lines).encode())
    assert Tokenizer.load(tmp_path / "w.txt").sha256 == Tokenizer(lines).sha256
    assert Tokenizer([*lines[:5], "b", "a"]).sha256 != Tokenizer(lines).sha256


@pytest.mark.parametrize(("content", "words"), [
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n", "[MASK]"),
    (b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\na\n", "twice"),
    (b"\xff\xfe\x00", "UTF-8"),
])
def test_a_bad_vocabulary_is_refused(tmp_path, content, words):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(InputError, match="vocab.txt") as error:
        load_vocab(tmp_path)
    assert words in str(error.value)


def test_a_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(InputError, match="no vocabulary"):
        load_vocab(tmp_path / "none" / "vocab.txt")
