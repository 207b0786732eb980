"""The bench of fine-tuning: rows differ in one thing, and say under which conditions."""

import pytest

from bertlib.bench.finetune import (
    EPOCHS,
    GROUPS,
    MAJORITY,
    RANDOM,
    VALIDATING,
    WORDS,
    Run,
    bag_of_words,
    choose,
    count_words,
    main,
    read_results,
    rows_of,
    tune_once,
)
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.tables import Row

STORED = PROJECT / "assets" / "09_finetune"
TEXTS = {"war": "the army fought a war", "money": "the bank lent some money"}


def some(count: int) -> list[Row]:
    """Sentences of two classes that words tell apart; three of four are of the first."""
    labels = ["war" if number % 4 else "money" for number in range(count)]
    return [Row("", (TEXTS[label] + " again" * (number % 5),), label)
            for number, label in enumerate(labels)]


ROWS = {"train": some(40), "val": some(12), "test": some(20)}


def test_the_ways_of_a_task_share_examples_and_steps():
    runs = [run for run in GROUPS["periods"] if run.examples == 1_000]
    seen = [rows_of(run, 3, PROJECT) for run in runs]
    assert {run.name for run in runs} == {MAJORITY, WORDS, "random weights", "pretrained"}
    assert all(rows == seen[0] for rows in seen) and len(seen[0]["train"]) == 1_000
    assert len(seen[0]["val"]) == VALIDATING and len(seen[0]["test"]) == 2_000
    assert rows_of(runs[0], 4, PROJECT)["train"] != seen[0]["train"]
    assert all("epochs" not in run.changes for group in GROUPS.values() for run in group)


def test_the_bag_tells_words_apart_and_the_majority_does_not():
    guesses, settings = bag_of_words(ROWS)
    assert guesses == [row.label for row in ROWS["test"]] and settings["ngrams"] in (1, 2)
    assert count_words(Run(WORDS), ROWS)["test"]["accuracy"] == 1.0
    told = count_words(Run(MAJORITY), ROWS)
    assert told["test"]["accuracy"] == 0.75 and told["labels"] == ("money", "war")


def test_a_run_says_its_conditions_and_no_place_of_this_machine():
    told = tune_once(Run("random weights", examples=100, changes=RANDOM | dict(epochs=1)), ROWS, 2)
    assert told["steps"] == 2 and told["settings"]["seed"] == 2 and told["settings"]["from_scratch"]
    assert {"machine", "precision", "threads", "minutes", "val", "test"} <= set(told)
    assert str(PROJECT) not in str(told)


def test_results_are_appended_and_read_again(tmp_path, capsys, refused):
    for seed in ("1", "2"):
        main(["periods", "--rows", "majority, 100", "--seed", seed, "--out", str(tmp_path / "r")])
    assert [(row["seed"], row["examples"]) for row in read_results(tmp_path / "r")] == [
        (1, 100), (2, 100)]
    assert "test accuracy 25.0%" in capsys.readouterr().out
    assert "no row 'magority'" in refused(main, "periods", "--rows", "magority", "--out", "r")
    assert "create it first" in refused(main, "periods", "--out", tmp_path / "none" / "r")


def test_rows_are_chosen_by_name_or_by_name_and_size():
    assert len(choose("periods", ["pretrained"])) == len(EPOCHS)
    assert [run.examples for run in choose("periods", ["pretrained, 300"])] == [300]
    with pytest.raises(InputError, match="There is no group"):
        choose("period", None)


@pytest.mark.parametrize("path", sorted(STORED.glob("*.jsonl")), ids=lambda path: path.stem)
def test_stored_rows_are_those_that_the_command_would_run(path):
    known = {(run.task, run.name, run.examples) for run in GROUPS[path.stem]}
    changes = {(run.task, run.name): run.changes for run in GROUPS[path.stem]}
    for row in read_results(path):
        sizes = {row["examples"], 0}
        assert any((row["task"], row["name"], size) in known for size in sizes), row["name"]
        if row["name"] not in (MAJORITY, WORDS):
            for name, value in changes[row["task"], row["name"]].items():
                assert row["settings"][name] == value, name
            epochs = row["settings"]["epochs"]
            assert epochs == EPOCHS.get(row["examples"], EPOCHS[0])
            assert row["steps"] == epochs * -(-row["examples"] // 32)
