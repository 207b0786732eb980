"""Checkpoints: whole or not at all, hashed, two kept and the best."""

import json

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import Checkpoints, load_state, load_weights
from bertlib.files import InputError, atomic_write


def state(number: int) -> dict:
    return {"model": {"w": torch.full((3,), float(number))}, "step": number}


def test_two_newest_and_the_best_are_kept(tmp_path):
    kept = Checkpoints(tmp_path)
    for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (5, 2.5)):
        kept.save(state(step), step)
        kept.save_best(state(step)["model"], step, loss, 64)
    again = Checkpoints(tmp_path)
    assert [entry["step"] for entry in again.entries] == [3, 5]
    assert again.best_state()["step"] == 2 and again.newest()["step"] == 5
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == ["best_00000002.pt", "index.json", "step_00000003.pt", "step_00000005.pt"]


def test_scores_on_other_chunks_are_not_compared_and_nan_is_never_best(tmp_path):
    kept = Checkpoints(tmp_path)
    assert not kept.save_best(state(0)["model"], 0, float("nan"), 64)
    assert kept.save_best(state(1)["model"], 1, 1.0, 64)
    assert not kept.save_best(state(2)["model"], 2, float("nan"), 64)
    assert not kept.save_best(state(3)["model"], 3, 1.0, 64)
    assert kept.save_best(state(4)["model"], 4, 2.0, 0)  # a harder exam
    assert Checkpoints(tmp_path).best_state()["step"] == 4
    assert not (tmp_path / "best_00000001.pt").exists()


def test_a_damaged_newest_file_is_passed_over(tmp_path):
    kept = Checkpoints(tmp_path)
    for step in (1, 2):
        path = kept.save(state(step), step)
    path.write_bytes(path.read_bytes()[:-10])
    assert kept.newest()["step"] == 1
    with pytest.raises(InputError, match="SHA-256"):
        load_state(path, kept.entries[-1]["sha256"])
    for other in tmp_path.glob("*.pt"):
        other.write_bytes(b"x")
    with pytest.raises(InputError, match="No checkpoint"):
        kept.newest()


@pytest.mark.parametrize("name", ["../../victim.txt", "/etc/hosts", "step_1.pt",
                                  "a/step_00000001.pt"])
def test_an_index_that_names_other_files_is_refused_and_they_stay(tmp_path, name):
    entry = {"file": name, "step": 1, "sha256": ""}
    (tmp_path / "victim.txt").write_text("mine")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "index.json").write_text(
        json.dumps({"best": None, "checkpoints": [entry] * 3}))
    with pytest.raises(InputError, match="damaged"):
        Checkpoints(tmp_path / "run" / "checkpoints")
    assert (tmp_path / "victim.txt").read_text() == "mine"


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as stream:
        stream.write(b"new, but cut")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    torch.save({"model": pytest.raises}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="no checkpoint"):
        load_state(tmp_path / "evil.pt")
    with pytest.raises(InputError, match="Cannot read"):
        load_state(tmp_path / "none.pt")


def test_weights_of_another_shape_are_refused_by_name():
    models = [BertForMaskedLM(BertConfig.preset("tiny", vocab_size=50, **changes))
              for changes in ({}, {"d_model": 32}, {"n_layer": 3})]
    with pytest.raises(InputError, match=r"another shape: 'encoder\.blocks\.0"):
        load_weights(models[1], models[0].state_dict(), "The checkpoint 'x.pt'")
    with pytest.raises(InputError, match="only the checkpoint has"):
        load_weights(models[0], models[2].state_dict(), "The checkpoint 'x.pt'")


def test_a_damaged_index_is_refused(tmp_path):
    (tmp_path / "index.json").write_text(json.dumps([1]))
    with pytest.raises(InputError, match="index"):
        Checkpoints(tmp_path)
