"""Files of plain values: sealed, read by a schema, told of when they are damaged."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from bertlib.plumbing.files import InputError
from bertlib.plumbing.records import (
    Missing,
    append_record,
    open_lines,
    read_json,
    read_records,
    sealed,
    write_json,
)


@dataclass(frozen=True)
class Spot:
    name: str
    place: tuple[int, ...]
    share: float | None = None

    def __post_init__(self):
        if self.share == 2:
            raise ValueError("a share of 2")


def read(path, kind=Spot, **how):
    return read_json(path, kind, "write it again", **how)


def test_what_is_written_is_read_as_what_it_is(tmp_path):
    path = tmp_path / "spot.json"
    write_json(path, {"name": "höhe \u2028", "place": [1, 2], "share": 1})
    assert read(path) == Spot("höhe \u2028", (1, 2), 1.0)
    assert read(path, dict[str, Any]) == {"name": "höhe \u2028", "place": [1, 2], "share": 1}
    write_json(path, {"name": "x", "seal": "mine"})  # a seal of before is renewed
    assert read(path, dict[str, Any]) == {"name": "x"}


def test_numbers_that_json_cannot_hold_are_never_written(tmp_path):
    write_json(tmp_path / "a.json", {"loss": 1.5})
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "a.json", {"loss": value})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert read(tmp_path / "a.json", dict[str, float]) == {"loss": 1.5}


def test_every_flipped_bit_is_seen_or_says_the_same(tmp_path):
    path = tmp_path / "spot.json"
    write_json(path, {"name": "a\tb", "place": [10, 2], "share": 0.25})
    whole, seen = path.read_bytes(), 0
    for place in range(len(whole)):
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                assert read(path) == Spot("a\tb", (10, 2), 0.25)
            except InputError:
                seen += 1
    assert seen > 7 * len(whole)
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"spot.json.*; write it again\.$"):
            read(path)


@pytest.mark.parametrize(("content", "words"), [
    ("", "truncated"), ("{", "truncated"), ("[1]", "Expected `object`"), ("\0", "malformed"),
    ('{"name": "x"}', "missing required field `place`"), ('{"name": 1, "place": []}', "`int`"),
    ('{"name": "x", "place": [true]}', r"place\[0\]"), ("[" * 100_000, "recursion"),
    ('{"name": "x", "place": [], "share": NaN}', "malformed"), ("1" * 5_000, "range"),
    ('{"name": "x", "place": [], "share": 2}', "a share of 2"),
    ('{"name": "\\ud800", "place": []}', "surrogate"),
])
def test_what_does_not_fit_is_told_in_one_sentence(tmp_path, content, words):
    path = tmp_path / "spot.json"
    path.write_text(content)
    with pytest.raises(InputError, match=rf"(?s)spot.json' is damaged.*{words}.*; write it again"):
        read(path, is_sealed=False)
    if content.startswith('{"name": "x", "p') and "NaN" not in content:
        write_json(path, json.loads(content))
        with pytest.raises(InputError, match=words):
            read(path)


def test_a_file_without_a_seal_or_with_a_broken_one_is_refused(tmp_path):
    path = tmp_path / "spot.json"
    path.write_text('\ufeff{"name": "x", "place": []}', encoding="utf-8")
    assert read(path, is_sealed=False) == Spot("x", ())
    with pytest.raises(InputError, match="it has no seal"):
        read(path)
    for seal in ("", 1, None, [], "0" * 16):
        path.write_text(json.dumps({"name": "x", "place": [], "seal": seal}))
        with pytest.raises(InputError, match="its seal is broken"):
            read(path)


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "huge").write_bytes(b"")
    os.truncate(tmp_path / "huge", 1 << 40)
    for path, words in (("pipe", "no regular file"), ("", "no regular file"),
                        ("huge", "more than the"), ("/dev/zero", "no regular file")):
        with pytest.raises(InputError, match=words):
            read(tmp_path / path)
    for path in ("none", "huge/none"):
        with pytest.raises(Missing, match="There is no file"):
            read(tmp_path / path)
        with pytest.raises(Missing, match="There is no file"):
            read_records(tmp_path / path, dict[str, Any])
    with pytest.raises(InputError, match="Cannot read .*too long.*; write it again"):
        read(tmp_path / ("x" * 300))


def test_records_are_lines_and_a_cut_one_is_told_and_taken_away(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    for number in range(3):
        with open_lines(path) as stream:
            append_record(stream, {"step": number, "text": "a\nb\u2028"})
    whole = path.read_bytes()
    assert whole.count(b"\n") == 3
    cut = whole + json.dumps(sealed({"step": 3})).encode()
    path.write_bytes(cut)
    assert [row["step"] for row in read_records(path, dict[str, Any])] == [0, 1, 2]
    assert "rows.jsonl' was cut off" in capsys.readouterr().err
    open_lines(path).close()
    assert path.read_bytes() == whole
    read_records(path, dict[str, Any])
    assert capsys.readouterr().err == ""


def test_a_damaged_record_is_named_by_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    with open_lines(path) as stream:
        for number in range(3):
            append_record(stream, {"step": number})
    whole = path.read_text()
    for changed, words in ((whole.replace('"step": 1', '"step": 7'), "Line 2 .*seal is broken"),
                           (whole.replace("\n", "\n\n", 1), "Line 2 "),
                           ("x" + whole, "Line 1 ")):
        path.write_text(changed)
        with pytest.raises(InputError, match=words):
            read_records(path, dict[str, Any])
    path.write_text(whole)
    with pytest.raises(InputError, match="Line 1 .*Expected `str`"):
        read_records(path, dict[str, str])


def test_reading_plain_values_loads_nothing_heavy():
    code = "import sys, bertlib.plumbing.records\nassert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
