"""Vocabularies as files: what is written is read back, and what is damaged is refused."""

import pytest

from bertlib.plumbing.files import InputError
from bertlib.plumbing.vocab import SPECIAL_TOKENS, load_vocab, save_vocab, train_vocab

HEAD = "".join(f"{token}\n" for token in SPECIAL_TOKENS).encode()


def test_tokens_that_look_like_ends_of_lines_are_tokens(tmp_path):
    vocab = [*SPECIAL_TOKENS, "\u2028", "##\u2029", "\x85", "\x0b", "\x0c", "a\rb", "\x1c", " "]
    save_vocab(vocab, tmp_path / "vocab.txt")
    assert load_vocab(tmp_path) == vocab


def test_windows_and_a_mark_of_byte_order_and_last_empty_lines_change_nothing(tmp_path):
    content = (HEAD + "a\nb\u2028\n".encode()).replace(b"\n", b"\r\n")
    (tmp_path / "vocab.txt").write_bytes(b"\xef\xbb\xbf" + content + b"\r\n\n\n")
    assert load_vocab(tmp_path / "vocab.txt") == [*SPECIAL_TOKENS, "a", "b\u2028"]


@pytest.mark.parametrize("token", ["", "a\nb", "a\r", "\ufeffa"])
def test_a_token_that_no_line_holds_is_not_written(tmp_path, token):
    with pytest.raises(InputError, match="Token 6"):
        save_vocab([*SPECIAL_TOKENS, token], tmp_path / "vocab.txt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("content", "words"), [
    (HEAD.replace(b"[MASK]\n", b""), "[MASK]"),
    (HEAD + b"a\nb\na\n", "'a' twice, in lines 6 and 8"),
    (HEAD + b"a\n\nb\n", "Line 7"),
    (b"\xff\xfe\x00", "UTF-8"),
    (b"", "[PAD]"),
    (HEAD, "holds the special tokens alone"),
])
def test_a_bad_vocabulary_is_refused(tmp_path, content, words):
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(InputError, match="vocab.txt") as error:
        load_vocab(tmp_path)
    assert words in str(error.value)


def test_a_missing_vocabulary_is_refused(tmp_path):
    with pytest.raises(InputError, match="no vocabulary"):
        load_vocab(tmp_path / "none" / "vocab.txt")


def test_a_late_double_among_many_tokens_is_found_in_one_pass(tmp_path):
    tokens = [*SPECIAL_TOKENS, *(f"t{n}" for n in range(300_000)), "t299999"]
    save_vocab(tokens, tmp_path / "vocab.txt")
    with pytest.raises(InputError, match="lines 300,005 and 300,006"):
        load_vocab(tmp_path)  # by counting each token it would take half an hour


def test_training_refuses_a_size_that_its_alphabet_exceeds():
    texts = ["the lighthouse shines on the sea"] * 9
    with pytest.raises(InputError, match="alphabet of the text alone need"):
        train_vocab(texts, size=12)
    cased = train_vocab(["The Sea"] * 9, size=60, lowercase=False)
    assert {"T", "S", "The", "Sea"} <= set(cased)
