"""When was it said? Whole speeches are held out, and nothing in a sentence tells its year."""

import re
from collections import Counter

import pytest

from bertlib.corpus import Corpus
from bertlib.finetune.periods import LAST_YEARS, TEXTS, main, periods, speeches
from bertlib.plumbing.files import InputError
from bertlib.plumbing.tables import class_names, read_rows


@pytest.fixture(scope="module")
def rows():
    return periods()


def test_no_speech_and_no_sentence_stands_in_two_parts(rows, held):
    told = [{row.place for row in its} for its in rows.values()]
    said = [row.texts[0].lower() for its in rows.values() for row in its]
    assert len(set.union(*told)) == sum(map(len, told)) and len(set(said)) == len(said)
    assert told[1] <= set(held["val"]) and told[2] <= set(held["test"])
    assert not told[0] & {title for titles in held.values() for title in titles}


def test_the_corpus_holds_the_same_speeches_out_when_it_deals_out_documents(held):
    assert {split: len(titles) for split, titles in held.items()} == {"val": 29, "test": 34}
    trained = {f"= {title} =" for titles in held.values() for title in titles}
    for split, (title, *_) in Corpus(TEXTS, unit="documents"):
        assert split or title not in trained


def test_the_periods_are_balanced_and_of_about_one_size(rows):
    assert {split: len(its) for split, its in rows.items()} == {
        "train": 8_000, "val": 2_000, "test": 2_000}
    for its in rows.values():
        assert set(Counter(row.label for row in its).values()) == {len(its) // 4}
        assert its != sorted(its, key=lambda row: row.label)
    whole = Counter(s.period for s in speeches() for _ in s.sentences())
    assert len(whole) == 4 and max(whole.values()) < 1.15 * min(whole.values())
    assert class_names(rows["train"]) == tuple(LAST_YEARS.values())


def test_each_sentence_was_said_in_its_period_and_does_not_tell_the_year(rows):
    for its in rows.values():
        for row in its:
            (sentence,), (year,) = row.texts, re.findall(r"\d{4}", row.place)
            first, last = row.label.split("-")
            assert first <= year <= last
            assert not re.search(r"\d", sentence) and 10 <= len(sentence.split()) <= 40


def test_the_draw_depends_on_its_seed_alone(rows, held):
    assert periods() == rows
    other = periods(seed=2)
    assert other != rows and {row.place for row in other["test"]} <= set(held["test"])


def test_the_command_writes_what_fine_tuning_reads(rows, tmp_path, capsys):
    main([str(tmp_path / "when")])
    assert "val.csv: 2,000 sentences of 29 speeches" in capsys.readouterr().out
    for split, its in rows.items():
        read = read_rows(tmp_path / "when" / f"{split}.csv", ["text"], "label")
        assert [row[1:] for row in read] == [row[1:] for row in its]


def test_what_is_not_there_is_refused(tmp_path, refused):
    with pytest.raises(InputError, match="The test split has 930 sentences of 1929-1976"):
        periods(held=931)
    (tmp_path / "text.txt").write_text(" = A title = \n\n some words \n" * 20)
    with pytest.raises(InputError, match="no State of the Union message"):
        speeches(tmp_path)
    assert "train split has" in refused(main, tmp_path / "when", "--train", 10**6)
    assert not (tmp_path / "when").exists()
