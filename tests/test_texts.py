"""Texts as people have them: which files, which lines, which documents; what is refused."""

import gzip
import json
import lzma
import os

import pytest

from bertlib.plumbing import lines, texts
from bertlib.plumbing.files import InputError
from bertlib.plumbing.lines import cut
from bertlib.plumbing.texts import read_documents, text_files, text_sha256

WIKI = " = One = \n\n First text .\n = = Section = = \n More .\n = Two = \n Second .\n"
WANTED = [["= One =", "First text .", "= = Section = =", "More ."], ["= Two =", "Second ."]]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_titles_are_found_with_any_line_end_and_wherever_a_block_ends(tmp_path, monkeypatch, end,
                                                                      block):
    monkeypatch.setattr(lines, "BLOCK", block)
    (tmp_path / "w.txt").write_bytes(("\ufeff" + WIKI).replace("\n", end).encode())
    assert list(read_documents(tmp_path / "w.txt")) == WANTED


@pytest.mark.parametrize("name", ["wiki.train.raw", "wiki.train.tokens", "X.TXT", "a.text",
                                  "x.txt.xz", "X.XZ", "a.Tokens.GZ"])
def test_the_endings_that_people_use_are_taken(tmp_path, name):
    opener = {".xz": lzma.open, ".gz": gzip.open}.get(name[-3:].lower(), open)
    with opener(tmp_path / name, "wb") as stream:
        stream.write(WIKI.encode())
    assert list(read_documents(tmp_path / name)) == WANTED


@pytest.mark.parametrize(("line", "parted"), [
    ("a" * 20_000 + " = T = ", "titles"), ("a" + " " * 70_000 + "b", "blank"),
    (" " * 30_000 + "b", "blank"), ("a " * 50_000, "lines"),
])
def test_a_piece_of_a_long_line_opens_no_document(tmp_path, line, parted):
    (tmp_path / "x.txt").write_text(f"first\n{line}\nlast\n")
    (tmp_path / "y.txt").write_text("first\na\nlast\n")
    documents = list(read_documents(tmp_path / "x.txt", parted))
    assert len(documents) == len(list(read_documents(tmp_path / "y.txt", parted)))
    found = "".join(text for document in documents for text in document)
    assert found.replace(" ", "") == "first" + line.replace(" ", "") + "last"


def test_a_folder_of_texts_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "b.txt").write_text("third\n")
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"first\n = T = \nsecond"))
    (tmp_path / "README.md").write_text("not a text\n")
    (tmp_path / "sub.txt").mkdir()
    assert list(read_documents(tmp_path)) == [["first"], ["= T =", "second"], ["third"]]
    assert [path.name for path in text_files(tmp_path)] == ["a.txt.gz", "b.txt"]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json.gz", "x.json", "x.NDJSON"])
def test_json_lines_are_documents_with_their_lines_as_paragraphs(tmp_path, name):
    rows = [{"text": "one\ntwo", "id": 1}, {"text": " \n"}, {"text": "= T =\u2028three"}]
    content = "\n".join(json.dumps(row) for row in rows).encode() + b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert list(read_documents(tmp_path / name)) == [["one", "two"], ["= T =", "three"]]


@pytest.mark.parametrize(("name", "content", "words"), [
    ("x.jsonl", '{"text": "a"}\n{"content": "b"}\n', "line 2"),
    ("x.jsonl", '{"text": 5}\n', "line 1"),
    ("x.json", '[{"text": "a"}]\n', "line 1"),
    ("x.json", '{\n "text": "a"\n}\n', "line 1"),
    ("x.jsonl", '{"text": "a"\n', "line 1"),
    ("x.jsonl", "[" * 100_000 + "\n", "line 1"),
    ("x.txt", '\n{"text": "a"}\n', "holds JSON"),
    ("x.txt", '[\n{"text": "a"}\n]\n', "holds JSON"),
    ("x.txt", '{\n  "rows": []\n}\n', "holds JSON"),
    ("x.txt", '[ {"text": "a"}]', "holds JSON"),
])
def test_other_json_is_recognised_and_refused(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=words):
        list(read_documents(tmp_path / name))


def test_prose_that_begins_with_brackets_is_prose(tmp_path):
    for text in ("[Music] and so on", "[[link]] text", "{curly}"):
        (tmp_path / "x.txt").write_text(text)
        assert list(read_documents(tmp_path / "x.txt")) == [[text]]


def test_blank_lines_or_line_ends_part_documents_where_asked(tmp_path):
    (tmp_path / "x.txt").write_text("\n\none\ntwo\n\n\nthree\n")
    assert list(read_documents(tmp_path / "x.txt", "blank")) == [["one", "two"], ["three"]]
    assert list(read_documents(tmp_path / "x.txt", "lines")) == [["one"], ["two"], ["three"]]
    assert list(read_documents(tmp_path / "x.txt")) == [["one", "two", "three"]]
    with pytest.raises(InputError, match="titles, blank, lines"):
        list(read_documents(tmp_path / "x.txt", "pages"))


def test_a_long_line_is_cut_at_spaces_and_nothing_is_lost(tmp_path):
    line = "word " * 78_000  # 390,000 characters
    (tmp_path / "x.txt").write_text(f"{line}\nnext\n")
    paragraphs = list(read_documents(tmp_path / "x.txt"))[0]
    assert max(map(len, paragraphs)) <= texts.LONG_LINE
    assert " ".join(paragraphs).split() == line.split() + ["next"]
    one, two = read_documents(tmp_path / "x.txt", "lines")  # still one document
    assert " ".join(one).split() == line.split() and two == ["next"]


def test_sixty_megabytes_without_a_space_are_text_and_take_little_memory(tmp_path):
    (tmp_path / "x.txt").write_bytes("水".encode() * 20_000_000)
    sizes = [sum(map(len, document)) for document in read_documents(tmp_path / "x.txt")]
    assert sizes == [20_000_000]


def test_cut_keeps_every_character():
    for text in ("", "a", "abc def", "abcdefgh", "a b c d e f", " lead", "x" * 7 + " y"):
        for limit in (1, 2, 3, 5, 100):
            pieces = list(cut(text, limit))
            assert "".join(pieces) == text and all(len(piece) <= limit for piece in pieces)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("block", [8, 1 << 20])
@pytest.mark.parametrize(("bad", "words"), [(b"caf\xe9 au lait", "byte 0xe9 in line 401"),
                                            (b"nul \0 here", "zero byte in line 401"),
                                            (b"\xe6\xb0", "line 401")])
def test_a_bad_byte_is_told_with_the_number_of_its_line(tmp_path, monkeypatch, end, block, bad,
                                                        words):
    monkeypatch.setattr(lines, "BLOCK", block)
    (tmp_path / "x.txt").write_bytes(b"good" + end + (b"more" + end) * 399 + bad)
    with pytest.raises(InputError, match=words):
        list(read_documents(tmp_path / "x.txt"))


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_xz_streams_in_a_row_are_one_text_with_or_without_padding(tmp_path, monkeypatch, block):
    monkeypatch.setattr(lines, "BLOCK", block)
    one, two = (lzma.compress(text, preset=9 | lzma.PRESET_EXTREME)
                for text in (b"one\ntwo\nthr", b"ee\nfour\n" * 50))
    wanted = ["one", "two", *["three", "four"], *["ee", "four"] * 49]
    for content in (one + two, one + bytes(4) + two, one + two + bytes(8)):
        (tmp_path / "x.xz").write_bytes(content)
        assert list(read_documents(tmp_path / "x.xz")) == [wanted]


@pytest.mark.parametrize("end", [b"junk", bytes(4) + b"junk", lzma.compress(b"text")[:-1],
                                 bytes(4) + lzma.compress(b"text")[:9]])
@pytest.mark.parametrize("block", [1, 1 << 20])
def test_an_xz_file_with_another_end_is_refused(tmp_path, monkeypatch, end, block):
    monkeypatch.setattr(lines, "BLOCK", block)
    (tmp_path / "x.xz").write_bytes(lzma.compress(b"text\n") + end)
    with pytest.raises(InputError, match="damaged"):
        list(read_documents(tmp_path / "x.xz"))


@pytest.mark.parametrize("block", [1, 7, 1 << 20])
@pytest.mark.parametrize("blank", ["\n", " \n", "\n \t\n", "\r\n", "\u2028\n", "\n" * 100])
def test_lines_are_numbered_over_blank_ones_wherever_a_block_ends(tmp_path, monkeypatch, blank,
                                                                  block):
    monkeypatch.setattr(lines, "BLOCK", block)
    good = '{"text": "a"}'
    for before in ("", f"{good}\n"):
        content = f"{before}{blank * 3}{good}\n{blank}{good}\n\n{{}}\n"
        (tmp_path / "x.jsonl").write_text(content, newline="")
        number = content.replace("\r\n", "\n").split("\n").index("{}") + 1
        with pytest.raises(InputError, match=f"line {number}:"):
            list(read_documents(tmp_path / "x.jsonl"))


@pytest.mark.parametrize("parted", texts.PARTED)
@pytest.mark.parametrize("block", [1, 7, 1 << 20])
def test_blank_lines_in_a_row_part_as_one_does(tmp_path, monkeypatch, parted, block):
    monkeypatch.setattr(lines, "BLOCK", block)
    (tmp_path / "one.txt").write_text("a\n\nb\nc\n\n = T = \n\nd")
    (tmp_path / "many.txt").write_text("\n \n\na\n\n  \n\nb\nc\n\n\n = T = \n\t\n \nd\n\n \n ")
    found = [list(read_documents(tmp_path / f"{name}.txt", parted)) for name in ("one", "many")]
    assert found[0] == found[1] and sum(found[0], []) == ["a", "b", "c", "= T =", "d"]


def test_a_json_line_has_a_longest_length(tmp_path, monkeypatch):
    good = json.dumps({"text": "sea\nsky", "id": 1})
    (tmp_path / "x.jsonl").write_text(f"{good}\n\n{good}\n")
    for block in (5, 1 << 20):
        monkeypatch.setattr(lines, "BLOCK", block)
        monkeypatch.setattr(texts, "LONGEST_RECORD", len(good))
        assert list(read_documents(tmp_path / "x.jsonl")) == [["sea", "sky"]] * 2
        monkeypatch.setattr(texts, "LONGEST_RECORD", len(good) - 1)
        with pytest.raises(InputError, match=r"line 1: this is longer than .* several documents"):
            list(read_documents(tmp_path / "x.jsonl"))


def test_half_a_character_in_a_record_is_told_with_its_line(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "sea \\ud83d\\udc1f"}\n{"text": "sea \\ud800"}\n')
    with pytest.raises(InputError, match=r"x.jsonl', line 2, holds '\\ud800', letter 5, which is"):
        list(read_documents(tmp_path / "x.jsonl"))


def test_a_document_begins_where_it_should(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo\n = T = \nthree")
    (tmp_path / "b.jsonl").write_text(json.dumps({"text": "four\n\nfive"}))
    assert list(texts.read_paragraphs(tmp_path)) == [
        (True, "one"), (False, "two"), (True, "= T ="), (False, "three"),
        (True, "four"), (False, "five")]


def test_what_is_no_regular_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        text_files(tmp_path / "none.txt")
    with pytest.raises(InputError, match="no text in the folder"):
        text_files(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(InputError, match="no regular file"):
        text_files(tmp_path / "pipe.txt")
    (tmp_path / "page.html.gz").write_bytes(b"")
    with pytest.raises(InputError, match="unknown ending"):
        text_files(tmp_path / "page.html.gz")


def test_the_hash_is_of_the_bytes_in_order_and_not_of_names(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.txt").write_text("one\n")
    (tmp_path / "a" / "2.txt").write_text("two\n")
    (tmp_path / "all.txt").write_text("one\ntwo\n")
    before = text_sha256(tmp_path / "a")
    assert before == text_sha256(tmp_path / "all.txt")
    (tmp_path / "a" / "2.txt").write_text("twp\n")
    assert text_sha256(tmp_path / "a") != before
