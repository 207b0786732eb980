"""The measurements of notebook 10: what is counted, what is graded, what repeats itself."""

import json

import pytest
import torch
from safetensors.torch import load_file

from bertlib.bench.race import COMMON, ROWS, Fewer, bench_race, read_race
from bertlib.bench.texts import HOW, PLACES, bench_texts, by_place, repeated, surprises
from bertlib.data import ensure_datasets, load_dataset
from bertlib.huggingface import load
from bertlib.masking import NextToken
from bertlib.pretrain import pretrain
from bertlib.settings import Settings


@pytest.fixture(scope="module")
def raced(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("race") / "race.jsonl"
    bench_race(["--preset", "smoke", "--steps", "3", "--base", str(base), "--label", "toy",
                "--out", str(out)])
    return read_race(out)


def test_the_rows_of_the_race_differ_in_direction_grading_and_start_alone(raced):
    assert [row["name"] for row in raced] == [row.name for row in ROWS]
    assert [row["objective"] for row in raced] == ["next token"] * 2 + ["hidden words"] * 2
    for name in ("parameters", "tokens", "steps", "seed", "data_seed", "train_tokens"):
        assert len({row[name] for row in raced}) == 1, name
    recipes = [Settings.make("cpu", **COMMON | row.changes) for row in ROWS]
    assert [recipe.start for recipe in recipes] == ["counts"] * 3 + ["told"]
    assert all(recipe.mask_rate == recipe.final_mask_rate == row.share
               for recipe, row in zip(recipes[2:], ROWS[2:], strict=True))


def test_the_words_that_were_graded_are_counted(raced):
    every, some, plain, told = (row["curve"][-1][2] for row in raced)
    tokens = raced[0]["tokens"]
    assert all(row["curve"][0][2] == 0 for row in raced)
    assert 0.85 * tokens < every < tokens and some == pytest.approx(0.15 * every, rel=0.01)
    assert 0.12 * tokens < plain < 0.16 * tokens and told == plain


def test_fewer_grades_a_share_of_what_comes_next(base, tokenizer):
    ids = load_dataset(ensure_datasets(base, "toy", 32).val, tokenizer).chunks(slice(8))
    whole, part = NextToken(tokenizer).ask(ids), Fewer(tokenizer, 0.15)
    one, other = (part(ids, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert len(one.labels) == round(0.15 * len(whole.labels)) and one.input_ids is ids
    known = dict(zip(whole.positions.tolist(), whole.labels.tolist(), strict=True))
    asked = zip(one.positions.tolist(), one.labels.tolist(), strict=True)
    assert all(known[place] == word for place, word in asked)
    assert one.positions.tolist() == sorted(set(one.positions.tolist()))
    assert one.positions.tolist() != other.positions.tolist()


def test_what_was_said_before_is_repeated():
    assert repeated([1, 2, 3, 4, 5, 6, 7, 8], 0) == 0
    assert repeated([1, 2, 3, 4] * 2, 4) == 1 / 4  # 1 2 3 4 stood there; 2 3 4 1 did not
    assert repeated([7] * 9, 1) == 5 / 6 and repeated([7] * 9, 5) == 1


def test_a_writer_is_measured_beside_people(base, tmp_path, tokenizer):
    run = pretrain(Settings.make("smoke", architecture="gpt", start="counts", max_iters=4), base,
                   "toy", "never", preset="smoke")
    bench_texts(["--model", str(run), "--base", str(base), "--out", str(tmp_path)])
    told = json.loads((tmp_path / "texts.json").read_text())
    assert set(told["ways"]) == set(HOW) and told["run"]["objective"] == "next token"
    assert told["ways"]["temperature 0"]["surprise"] < told["people"]["surprise"]
    assert told["cache"]["tokens"] > 20 and told["machine"]
    model, val = load(run, causal=True)[0], load_dataset(
        ensure_datasets(base, "toy", 32).val, tokenizer)
    for prompt, logits in load_file(tmp_path / "next.safetensors").items():
        begun = torch.tensor([tokenizer.encode(prompt)[:-1]])
        with torch.no_grad():
            assert torch.allclose(logits, model(begun).logits[0, -1], atol=1e-4), prompt
    parts = by_place(model, val, tokenizer)
    assert [part[:2] for part in parts] == [list(place) for place in PLACES[:2]]
    ids = val.chunks(slice(None))
    first = surprises(model, ids)[:, :4]
    asked = NextToken(tokenizer).maskable[ids[:, 1:5]]
    assert parts[0][2] == pytest.approx(float((first * asked).sum() / asked.sum()), rel=1e-5)


def test_what_cannot_be_measured_is_refused(tmp_path, refused, base):
    out = tmp_path / "no" / "race.jsonl"
    assert "Did you mean 'GPT, all graded'" in refused(bench_race, "--rows", "GPT, all", "--out",
                                                       tmp_path / "race.jsonl")
    assert "create it first" in refused(bench_race, "--out", out)
    assert "create it first" in refused(bench_texts, "--out", out.parent)
