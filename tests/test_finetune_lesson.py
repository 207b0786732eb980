"""Notebook 09 tells the numbers of its files, and pretraining is worth what it says."""

import json
import statistics

import pytest

from bertlib.bench.finetune import EPOCHS, MAJORITY, WORDS, read_results
from bertlib.plumbing.files import PROJECT

STORED = PROJECT / "assets" / "09_finetune"
LESSON = PROJECT / "notebooks" / "09_finetune.ipynb"
SIZES = (*[size for size in EPOCHS if size], 8_000)


def prose() -> str:
    told = json.loads(LESSON.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in told if cell["cell_type"] == "markdown")


def accuracies(file: str, name: str, examples: int, task: str = "periods") -> list[float]:
    """Of all seeds, in percent."""
    return [100 * row["test"]["accuracy"] for row in read_results(STORED / f"{file}.jsonl")
            if (row["name"], row["examples"], row["task"]) == (name, examples, task)]


def test_each_way_has_three_seeds_at_each_size_and_the_same_test():
    rows = read_results(STORED / "periods.jsonl")
    for size in SIZES:
        for name in (MAJORITY, WORDS, "random weights", "pretrained"):
            assert [row["seed"] for row in rows
                    if (row["name"], row["examples"]) == (name, size)] == [1, 2, 3]
    assert {sum(map(sum, row["test"]["confusion"])) for row in rows} == {2_000}


@pytest.mark.parametrize("size", SIZES)
def test_pretraining_is_worth_more_than_the_spread(size):
    pretrained = accuracies("periods", "pretrained", size)
    for rival in (MAJORITY, WORDS, "random weights"):
        assert min(pretrained) > max(accuracies("periods", rival, size)), rival


def test_the_table_at_the_top_is_that_of_the_file():
    text = prose()
    for size in (100, 1_000, 8_000):
        for name in (WORDS, "random weights", "pretrained"):
            found = accuracies("periods", name, size)
            mean, spread = statistics.mean(found), statistics.stdev(found)
            assert f"{mean:.1f}% ± {spread:.1f}" in text, (name, size)


def test_the_gains_and_the_masked_words_are_those_of_the_file():
    text = prose()
    mean = {(name, size): statistics.mean(accuracies("periods", name, size))
            for name in (WORDS, "random weights", "pretrained") for size in SIZES}
    gains = {size: mean["pretrained", size] - mean["random weights", size] for size in SIZES}
    assert f"by {gains[100]:.0f} points over random weights at 100 sentences" in text
    assert f"by {gains[8_000]:.0f} at 8,000" in text
    assert f"it is {mean['pretrained', 8_000] - mean[WORDS, 8_000]:.0f}." in text
    after = [row["masked_words"]["after"] for row in read_results(STORED / "periods.jsonl")
             if "masked_words" in row]
    assert f"between {min(after):.0%} and {max(after):.0%}" in text


def test_frozen_blocks_and_films_are_told_as_their_files_say():
    tuned = accuracies("periods", "pretrained", 1_000)
    for count in range(1, 5):
        found = accuracies("frozen", f"{count} blocks frozen", 1_000)
        assert len(found) == 3
        assert abs(statistics.mean(found) - statistics.mean(tuned)) < statistics.stdev(tuned)
    size = read_results(STORED / "films.jsonl")[0]["examples"]
    mean = {name: statistics.mean(accuracies("films", name, size, "films"))
            for name in (WORDS, "random weights", "pretrained")}
    assert len(accuracies("films", "pretrained", size, "films")) == 3
    assert f"{mean[WORDS] - mean['pretrained']:.1f} points behind the bag of words" in prose()
    assert 0 < mean["pretrained"] - mean["random weights"] < 1.05
