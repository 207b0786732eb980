"""Ablations: each row is one change, and a row's result carries its conditions."""

import json

import pytest

from bertlib.bench.ablate import GROUPS, STEPS, main, read_rows
from bertlib.plumbing.records import sealed
from bertlib.settings import Settings


@pytest.mark.parametrize("group", GROUPS)
def test_each_row_is_a_valid_recipe_with_a_name_of_its_own(group):
    rows = GROUPS[group]
    assert len({row.name for row in rows}) == len(rows)
    recipes = [Settings.make(row.preset, **row.changes) for row in rows]
    assert len(set(recipes)) == len(rows)  # no row repeats another one under a new name


def test_levers_are_taken_away_one_at_a_time():
    one_thing = {"dropout": "attention_dropout"}  # one lever, two names
    for row in GROUPS["levers"]:
        changed = set(row.changes) - set(STEPS) - {one_thing.get(name) for name in row.changes}
        assert len(changed) == (row.name != "BERT"), row.name


def test_a_row_tells_its_conditions(base, tmp_path, monkeypatch):
    from bertlib.bench import ablate
    small = dict(seq_len=32, d_model=64, n_layer=2, batch_size=8, max_iters=3, device="cpu")
    monkeypatch.setitem(ablate.GROUPS, "toy", (ablate.Row("small", small, "smoke"),))
    out = tmp_path / "rows.jsonl"
    options = ["--minutes", "0", "--base", str(base), "--label", "toy", "--out", str(out)]
    for seed in ("1", "2"):
        main(["toy", "--seed", seed, *options])
    rows = read_rows(out)
    assert [row["seed"] for row in rows] == [1, 2]
    assert rows[0]["tokens"] == 3 * 8 * 32 and rows[0]["name"] == "small"
    assert rows[0]["curve"][-1][1] == pytest.approx(rows[0]["val_loss"], abs=1e-4)
    assert rows[0]["val_loss"] != rows[1]["val_loss"]
    assert {"machine", "precision", "threads", "torch", "minutes"} <= set(rows[0])
    assert json.loads(out.read_text().splitlines()[0]) == sealed(rows[0])


def test_unknown_groups_and_rows_are_refused(tmp_path, refused):
    out = tmp_path / "rows.jsonl"
    assert "Did you mean 'levers'" in refused(main, "lever", "--out", out)
    assert "Did you mean 'window 1'" in refused(main, "start", "--rows", "window1", "--out", out)
    assert "create it first" in refused(main, "start", "--out", tmp_path / "no" / "rows.jsonl")
    assert not out.exists()
