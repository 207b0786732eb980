"""Tables as people have them: read alike in every form, or refused by line."""

import gzip
import json
import lzma
from importlib.util import find_spec

import pytest

from bertlib.plumbing.files import InputError
from bertlib.plumbing.tables import class_names, class_numbers, hold_out, read_rows, values

TEXTS = ['a "good" film, really', "bad\tfilm", "two\nlines", "Ünïcode", "  0  "]
LABELS = ["pos", "neg", "neg", "pos", "neg"]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def csv_text(end: str = "\n") -> str:
    rows = [f"{number},{quoted(text)}, {label} {end}"
            for number, (text, label) in enumerate(zip(TEXTS, LABELS, strict=True))]
    return f"id,text,label{end}" + "".join(rows)


@pytest.mark.parametrize(("name", "content"), [
    ("t.csv", csv_text().encode()), ("T.CSV", csv_text("\r\n").encode()),
    ("t.csv", b"\xef\xbb\xbf" + csv_text().encode()),
    ("t.csv.gz", gzip.compress(csv_text().encode())),
    ("t.csv.xz", lzma.compress(csv_text().encode())),
    ("t.jsonl", "".join(json.dumps({"label": label, "text": text}) + "\n\n" for text, label in
                        zip(TEXTS, LABELS, strict=True)).encode()),
])
def test_every_form_tells_the_same_rows(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    rows = read_rows(tmp_path / name, ["text"], "label")
    assert [row.texts for row in rows] == [(text,) for text in TEXTS]
    assert [row.label for row in rows] == LABELS


def test_in_tsv_a_quote_is_a_letter_and_two_columns_are_two_texts(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text('label\ta\tb\n1\t"so, it began\tyes\n\n0\tno" way\t12" long\n')
    rows = read_rows(path, ["b", "a"], "label")
    assert [row.texts for row in rows] == [("yes", '"so, it began'), ('12" long', 'no" way')]
    assert [row.place for row in rows] == [f"'{path}', line 2", f"'{path}', line 4"]
    assert [row.label for row in read_rows(path, ["a"])] == ["", ""]


@pytest.mark.parametrize(("content", "words"), [
    ("", "holds no rows"), ("text,label\n", "holds no rows"),
    ("text,label\ngood,1\n ,0\n", "line 3 has no text in the column 'text' but ' '"),
    ("text,label\ngood,\n", "line 2, column 'label' holds no label"),
    ("text,label\ngood,1\ngood,1,2\n", "line 3 has 3 fields, but the first line names 2"),
    ("text,label\ngood\n", "line 2 has 1 fields"),
    ("text,labels\ngood,1\n", "no column 'label'. Did you mean 'labels'?"),
    ("text,text,label\na,b,1\n", "two columns 'text'"),
    ('text,label\n"good,1\nbad,0\n', "is no row of a table .*check its quotes"),
    ("text,label\ng\0od,1\n", "binary"),
])
def test_a_bad_csv_is_refused_by_its_line(tmp_path, content, words):
    path = tmp_path / "t.csv"
    path.write_text(content)
    with pytest.raises(InputError, match=words):
        read_rows(path, ["text"], "label")


@pytest.mark.parametrize(("line", "words"), [
    ("[1]", "line 2 is no JSON object"), ('{"text": "b"', "line 2 is no JSON object"),
    ('{"text": "b"}', "line 2 has no column 'label'. Known names: text"),
    ('{"text": 5, "label": 1}', "no text in the column 'text' but 5"),
    ('{"text": "b", "label": NaN}', "no label but nan"),
    ('{"text": "b", "label": null}', "no label but None"),
    ('{"text": "b", "label": [1]}', r"no label but \[1\]"),
    ('{"text": "\\ud800", "label": 1}', "half a character"),
])
def test_a_bad_json_line_is_refused_by_its_number(tmp_path, line, words):
    path = tmp_path / "t.jsonl"
    path.write_text('{"text": "a", "label": 1}\n' + line + "\n")
    with pytest.raises(InputError, match=words):
        read_rows(path, ["text"], "label")


def test_other_files_are_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("text,label\nGrün,1\n".encode("latin-1"))
    (tmp_path / "t.doc").write_text("text")
    for name, words in {"t.csv": "not UTF-8.*line 2", "t.doc": "unknown ending; use one of .csv",
                        "none.csv": "There is no file"}.items():
        with pytest.raises(InputError, match=words):
            read_rows(tmp_path / name, ["text"], "label")


def test_parquet_is_read_where_pyarrow_is_and_refused_in_a_sentence_elsewhere(tmp_path):
    path = tmp_path / "t.parquet"
    if find_spec("pyarrow") is None:
        path.write_bytes(b"PAR1")
        with pytest.raises(InputError, match="pyarrow is needed.*save the table as CSV"):
            read_rows(path, ["text"], "label")
        return
    from pyarrow import Table, parquet
    parquet.write_table(Table.from_pylist([{"text": "a", "label": 3}, {"text": "b", "label": 4}]),
                        path)
    rows = read_rows(path, ["text"], "label")
    assert [row[1:] for row in rows] == [(("a",), "3"), (("b",), "4")]
    assert rows[1].place.endswith("row 2")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="no parquet file"):
        read_rows(path, ["text"], "label")


def labelled(tmp_path, *labels):
    path = tmp_path / "labels.jsonl"
    path.write_text("".join(json.dumps({"t": "a", "y": label}) + "\n" for label in labels))
    return read_rows(path, ["t"], "y")


def test_classes_are_in_the_order_of_numbers_or_of_the_alphabet(tmp_path):
    rows = labelled(tmp_path, 10, 9, "2", -1, 9)
    assert class_names(rows) == ("-1", "2", "9", "10")
    assert class_numbers(rows, class_names(rows)) == [3, 2, 1, 0, 2]
    assert class_names(labelled(tmp_path, "10", "9", "x")) == ("10", "9", "x")


def test_labels_that_cannot_do_are_refused(tmp_path):
    with pytest.raises(InputError, match="All rows have the label 'a'"):
        class_names(labelled(tmp_path, "a", "a"))
    with pytest.raises(InputError, match="1,001 labels.*--regression"):
        class_names(labelled(tmp_path, *range(1_001)))
    with pytest.raises(InputError, match="line 2 has the label 'poss'.*Did you mean 'pos'?"):
        class_numbers(labelled(tmp_path, "pos", "poss"), ["neg", "pos"])
    assert values(labelled(tmp_path, 1, "-2.5e1")) == [1.0, -25.0]
    for bad in ("NaN", "inf", "1,5", "x"):
        with pytest.raises(InputError, match=f"line 2 has the label '{bad}', which is no finite"):
            values(labelled(tmp_path, 1, bad))


def test_a_tenth_is_held_out_and_every_class_can_be_learned(tmp_path):
    rows = labelled(tmp_path, *("a" if n % 2 else "b" for n in range(99)), "rare")
    for seed in range(40):
        train, val = hold_out(rows, seed)
        assert len(val) == 10 and not set(val) & set(train) and len(train) + len(val) == 100
        assert class_names(train) == ("a", "b", "rare")
    assert hold_out(rows, 3) == hold_out(rows, 3) != hold_out(rows, 4)
    assert len(hold_out(labelled(tmp_path, 1, 2), 1, regression=True)[1]) == 1
    with pytest.raises(InputError, match="Of 2 rows none can be held out"):
        hold_out(labelled(tmp_path, "a", "b"), 1)
