"""The whole job, from a base folder to a run folder."""

import json
import lzma
import shutil

import pytest
import torch

from bertlib.checkpoint import Checkpoints
from bertlib.files import InputError
from bertlib.pretrain import load_model, main, pretrain
from bertlib.settings import Settings
from bertlib.tokens import save_vocab
from bertlib.workspace import choose_run

SMALL = dict(max_iters=6, val_interval=3, batch_size=8)


def test_a_run_reports_its_score_and_conditions(own, tokenizer):
    folder = pretrain(Settings.make("smoke", **SMALL), own, "toy", preset="smoke")
    report = json.loads((folder / "report.json").read_text())
    assert folder == own / "runs" / "run0"
    assert report["steps"] == 6 and report["tokens"] == 6 * 8 * 32
    assert report["val_loss"] < report["uniform_loss"]
    assert report["seed"] == 1 and report["source"] == "text.txt"
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    model = load_model(folder, len(tokenizer))
    assert not model.training
    assert pretrain(Settings.make("smoke", **SMALL), own, "toy").name == "run1"


def test_auto_goes_on_with_an_unfinished_run_of_the_same_settings(own):
    settings = Settings.make("smoke", **SMALL)
    folder = pretrain(settings, own, "toy")
    (folder / "report.json").unlink()
    assert choose_run(own, settings) == folder
    assert choose_run(own, settings, "never").name == "run1"
    assert choose_run(own, Settings.make("smoke", seed=2, **SMALL)).name == "run1"
    with pytest.raises(InputError, match="no run"):
        choose_run(own, settings, "run7")


def test_the_same_seed_gives_the_same_model(own, tokenizer):
    states = [
        load_model(pretrain(Settings.make("smoke", **SMALL), own, "toy"), len(tokenizer))
        for _ in range(2)
    ]
    one, two = (model.state_dict() for model in states)
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_command_refuses_what_does_not_fit(own, refused, tokenizer):
    common = ["--preset", "smoke", "--base", own, "--label", "toy", "--max-iters", 6]
    main([str(part) for part in common])
    (own / "runs" / "run0" / "report.json").unlink()
    message = refused(main, *common, "--d-model", 64, "--resume", "run0")
    assert "another shape" in message
    kept = json.loads((own / "runs" / "run0" / "settings.json").read_text())
    assert kept["d_model"] == 32  # a refused resume changes nothing
    assert "chunks" in refused(main, *common, "--batch-size", 10**4)
    assert "Did you mean 'smoke'" in refused(main, "--preset", "smoky")
    assert "Did you mean '--learning-rate'" in refused(main, "--learning-rte", 3)
    if not torch.cuda.is_available():
        assert "'cuda'" in refused(main, *common, "--device", "cuda")
    save_vocab([*tokenizer.vocab, "zzzz"], own / "vocab" / "vocab.txt")
    assert "another vocabulary" in refused(main, *common)
    assert "there is none at" in refused(main, "--preset", "smoke", "--base", own / "none")


def test_a_checkpoint_of_an_older_version_is_refused(own):
    settings = Settings.make("smoke", **SMALL)
    kept = Checkpoints(pretrain(settings, own, "toy") / "checkpoints")
    kept.save(kept.newest() | {"random": torch.get_rng_state()}, step=7, val_loss=None)
    with pytest.raises(InputError, match="older version.* --resume never"):
        pretrain(settings, own, "toy", "run0")


def test_datasets_are_made_from_the_texts_in_input(base, tmp_path):
    for name in ("input", "datasets", "runs"):
        (tmp_path / name).mkdir()
    shutil.copytree(base / "vocab", tmp_path / "vocab")
    text = (base / "input" / "text.txt").read_bytes()
    for name in "ab":
        (tmp_path / "input" / f"{name}.xz").write_bytes(lzma.compress(text))
    pretrain(Settings.make("smoke", **SMALL), tmp_path, "english")
    assert (tmp_path / "datasets" / "train_english_32_123.msgpack.gz").exists()
    with lzma.open(tmp_path / "datasets" / "english.txt.xz") as stream:
        assert stream.read() == text * 2
