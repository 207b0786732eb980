"""Checkpoints: whole or not at all, hashed, two kept and the best."""

import shutil
import zipfile
from unittest.mock import ANY

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.plumbing.files import InputError, atomic_write
from bertlib.plumbing.records import write_json
from bertlib.plumbing.states import load_state, load_weights


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
    assert [note[:24] for note in kept.notes] == ["step 2 is passed over: T"]
    with pytest.raises(InputError, match="SHA-256"):
        load_state(path, kept.entries[-1]["sha256"])
    for other in tmp_path.glob("*.pt"):
        other.write_bytes(b"x")
    with pytest.raises(InputError, match="No checkpoint"):
        kept.newest()


@pytest.mark.parametrize("name", ["../../victim.txt", "/etc/hosts", "step_1.pt",
                                  "a/step_00000001.pt", "step_00000001.pt\n"])
def test_an_index_that_names_other_files_is_not_used_and_they_stay(tmp_path, name):
    entry = {"file": name, "step": 1, "sha256": ""}
    (tmp_path / "victim.txt").write_text("mine")
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    write_json(folder / "index.json", {"best": None, "checkpoints": [entry] * 3})
    kept = Checkpoints(folder)
    assert kept.entries == []
    for step in (1, 2, 3):
        kept.save(state(step), step)
    assert (tmp_path / "victim.txt").read_text() == "mine"


def test_states_are_found_without_their_index_and_what_is_damaged_is_not(tmp_path):
    kept = Checkpoints(tmp_path, keep=3)
    for step in (1, 2, 3):
        path = kept.save(state(step), step)
        kept.save_best(state(step)["model"], step, 1.0 + step, 64)
    numbers = state(3)["model"]["w"].numpy().tobytes()
    path.write_bytes(path.read_bytes().replace(numbers, b"x" * len(numbers)))
    before = kept.entries[:2], kept.best
    (tmp_path / "index.json").unlink()
    again = Checkpoints(tmp_path, keep=3)
    assert (again.entries, again.best) == before
    [note] = again.notes
    assert "is missing: 2 states" in note
    again.clear()  # nothing is removed while nobody knows what belongs there
    assert path.exists()
    again.save(state(4), 4)
    assert [entry["step"] for entry in Checkpoints(tmp_path, keep=3).entries] == [1, 2, 4]
    assert Checkpoints(tmp_path).notes == []


def test_what_a_killed_process_left_is_cleared_and_what_is_listed_stays(tmp_path):
    kept = Checkpoints(tmp_path)
    for step in (1, 2):
        kept.save(state(step), step)
    kept.save_best(state(2)["model"], 2, 1.0, 0)
    for name in ("step_00000003.pt", "best_00000001.pt", "mine.pt"):
        (tmp_path / name).write_bytes(b"x")
    Checkpoints(tmp_path).clear()
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["best_00000002.pt", "index.json", "mine.pt", "step_00000001.pt",
                    "step_00000002.pt"]


def test_a_step_that_is_saved_again_is_whole_at_each_moment(tmp_path, monkeypatch):
    kept = Checkpoints(tmp_path)
    for step in (3, 12):
        kept.save(state(step), step)
    kept.save_best(state(12)["model"], 12, 2.0, 64)
    monkeypatch.setattr("bertlib.checkpoint.write_json", killed)
    for again in (lambda: kept.save(state(12) | {"later": 1.0}, 12),
                  lambda: kept.save_best(state(0)["model"], 12, 1.0, 64)):
        with pytest.raises(KeyboardInterrupt):
            again()
        assert Checkpoints(tmp_path).newest() == state(12) | {"model": ANY}
        assert Checkpoints(tmp_path).best_state()["val_loss"] == 2.0
    monkeypatch.undo()
    kept = Checkpoints(tmp_path)
    kept.clear()
    for number in range(3):
        kept.save(state(12) | {"later": number}, 12)
        assert [entry["step"] for entry in kept.entries] == [3, 12]
        assert Checkpoints(tmp_path).newest()["later"] == number
        assert len(list(tmp_path.glob("step*"))) == 2


def killed(*_) -> None:
    raise KeyboardInterrupt


def test_a_folder_that_is_removed_during_a_run_is_told(tmp_path):
    kept = Checkpoints(tmp_path / "run" / "checkpoints")
    kept.save(state(1), 1)
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(InputError, match="was removed while its run was at work"):
        kept.save(state(2), 2)
    assert not (tmp_path / "run").exists()


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


class Greedy:
    """What a pickle can ask for: as many bytes as it likes."""

    def __reduce__(self):
        return bytearray, (1 << 34,)


def test_a_checkpoint_that_would_take_memory_is_refused(tmp_path):
    torch.save({"model": {}, "step": 1, "more": Greedy()}, tmp_path / "greedy.pt")
    torch.save(state(1), tmp_path / "plain.pt")
    packed = zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "plain.pt") as plain, packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    for name in ("greedy.pt", "packed.pt"):
        with pytest.raises(InputError, match="no checkpoint that can be read .ValueError"):
            load_state(tmp_path / name)
    with (tmp_path / "plain.pt").open("r+b") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match="more than the"):
        load_state(tmp_path / "plain.pt")
