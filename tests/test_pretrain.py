"""The whole job, from a base folder to a run folder; and which run goes on."""

import json
import lzma
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from conftest import document

import bertlib
from bertlib.checkpoint import Checkpoints
from bertlib.data import ensure_datasets, load_dataset
from bertlib.plumbing.dataset_file import read_header
from bertlib.plumbing.dataset_folder import find_datasets
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runlog import read_metrics
from bertlib.plumbing.runs import Identity
from bertlib.plumbing.vocab import save_vocab
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.pretrain import is_finished, main, pretrain
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer

SMALL = dict(max_iters=6, val_interval=3, batch_size=8)


def small(**changes) -> Settings:
    return Settings.make("smoke", **SMALL | changes)


def interrupt(step, model, folder):
    """A watcher that presses Ctrl-C in step 4."""
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)


def runs(base) -> list[str]:
    return sorted(path.name for path in (base / "runs").glob("run*"))


def again(own, label: str = "toy", *files: str, **changes) -> None:
    """Prepare the datasets of a label anew, from other text if files are given."""
    text = own / "input" / "text.txt"
    if files:
        text.write_text("".join(files), encoding="utf-8")
    prepare(PrepareConfig(**dict(input=text, label=label, output=own / "datasets",
                                 vocab=own / "vocab", max_len=32) | changes))


def another(own, tokenizer, change: str) -> str:
    """Change label, text or vocabulary of the datasets; returns the label."""
    if change == "label":
        again(own, "toy2")
        return "toy2"
    if change == "text":
        again(own, "toy", *[document(n) for n in range(500, 620)])
    if change == "vocabulary":
        *words, last, least = tokenizer.vocab
        save_vocab([*words, least, last], own / "vocab" / "vocab.txt")
        again(own)
    return "toy"


def test_a_run_reports_its_score_and_conditions(own):
    folder = pretrain(small(), own, "toy", preset="smoke")
    report = json.loads((folder / "report.json").read_text())
    assert folder == own / "runs" / "run0"
    assert report["steps"] == 6 and report["tokens"] == 6 * 8 * 32
    assert report["val_loss"] < report["uniform_loss"]
    assert report["seed"] == 1 and report["source"] == "text.txt"
    assert report["held_out"] == "documents"
    assert (folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert not bertlib.load(folder)[0].training
    assert pretrain(small(), own, "toy").name == "run1"


def test_the_same_seed_gives_the_same_model(own):
    one, two = (bertlib.load(pretrain(small(), own, "toy"))[0].state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)


# -- which data --------------------------------------------------------------------------------


def test_another_label_is_never_made_from_the_embedded_texts(own):
    with pytest.raises(InputError, match=r"no dataset 'toyy' of 32 .*toy \(32\).*-l toyy"):
        pretrain(small(), own, "toyy")
    with pytest.raises(InputError, match=r"no dataset 'toy' of 64"):
        pretrain(small(seq_len=64), own, "toy")
    assert runs(own) == [] and not list((own / "datasets").glob("*toyy*"))


def test_datasets_are_made_from_the_texts_in_input(own):
    text = (own / "input" / "text.txt").read_bytes()
    (own / "input" / "text.txt").unlink()
    for name in "ab":
        (own / "input" / f"{name}.xz").write_bytes(lzma.compress(text))
    files = ensure_datasets(own, "english", 32)
    assert files.val.name == "val_english_32_123.msgpack.gz"
    assert read_header(files.val).n_tokens > 1.5 * read_header(
        find_datasets(own / "datasets", "toy", 32).val).n_tokens


def test_new_text_or_a_new_vocabulary_in_the_base_folder_makes_the_data_anew(own, tokenizer):
    def made():
        return read_header(ensure_datasets(own, "english", 32).train[0]).sha256

    first = made()
    assert made() == first
    (own / "input" / "more.txt").write_text(document(7) * 9)
    second = made()
    assert second != first
    save_vocab([*tokenizer.vocab, "zzzz"], own / "vocab" / "vocab.txt")
    assert read_header(ensure_datasets(own, "english", 32).val).vocab_size == len(tokenizer) + 1
    rules = own / "vocab" / "tokenizer_config.json"
    for change in ({"do_lower_case": False}, {"tokenize_chinese_chars": False}):
        rules.write_text(json.dumps(change))
        files = ensure_datasets(own, "english", 32)
        assert load_dataset(files.val, Tokenizer.load(own / "vocab")).header.origin.rules() == (
            Tokenizer.load(own / "vocab").rules.as_dict())
    for path in (own / "input").iterdir():
        path.unlink()
    assert ensure_datasets(own, "english", 32).val.exists()  # nothing to make it from: as it is


# -- which run ---------------------------------------------------------------------------------


def test_auto_goes_on_with_an_unfinished_run_and_leaves_a_finished_one(own):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    assert Checkpoints(folder / "checkpoints").entries[-1]["step"] == 4
    assert not (folder / "report.json").exists() and not is_finished(folder)
    assert pretrain(small(max_iters=8), own, "toy") == folder
    assert is_finished(folder)
    assert pretrain(small(max_iters=8), own, "toy").name == "run1"


@pytest.mark.parametrize("change", ["label", "text", "vocabulary", "settings", "length"])
def test_auto_goes_on_with_nothing_but_the_same_run(own, tokenizer, change):
    pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    label = another(own, tokenizer, change)
    settings = small(max_iters=8)
    if change == "settings":
        settings = small(max_iters=8, learning_rate=1e-4)
    if change == "length":
        settings = small(max_iters=9)
    assert pretrain(settings, own, label).name == "run1"


@pytest.mark.parametrize(("change", "words"), [
    ("label", "label 'toy' \\(now 'toy2'\\)"), ("text", "other data under its label"),
    ("vocabulary", "another vocabulary"),
    ("settings", "learning_rate 0.002 \\(now 1e-06\\); seed 1 \\(now 2\\)"),
])
def test_resuming_by_name_as_another_run_is_refused_with_what_differs(own, tokenizer, change,
                                                                      words):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    label = another(own, tokenizer, change)
    settings = small(max_iters=8)
    if change == "settings":
        settings = small(max_iters=8, learning_rate=1e-6, seed=2)
    with pytest.raises(InputError, match=words):
        pretrain(settings, own, label, "run0")
    assert kept == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert runs(own) == ["run0"]


def test_a_run_resumed_by_name_may_take_longer_and_keeps_its_settings(own, refused):
    common = ["--base", str(own), "--label", "toy"]
    main([*common, "--preset", "smoke", "--max-iters=6", "--batch-size=8", "--seed=5"])
    main(["--base", str(own), "--resume", "run0", "--max-iters", "9", "--val-interval", "2"])
    report = json.loads((own / "runs" / "run0" / "report.json").read_text())
    assert report["steps"] == 9 and report["seed"] == 5 and runs(own) == ["run0"]
    assert Identity.read(own / "runs" / "run0").settings["max_iters"] == 9
    message = refused(main, *common, "--resume", "run0", "--learning-rate", "1e-6")
    assert "learning_rate 0.002 (now 1e-06)" in message
    assert "is no run" in refused(main, *common, "--resume", "run7")


def test_a_failed_start_leaves_no_folder_that_hides_an_interrupted_run(own):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    for bad, label in ((small(batch_size=10**4), "toy"), (small(), "none")):
        with pytest.raises(InputError):
            pretrain(bad, own, label)
    assert runs(own) == ["run0"]
    assert pretrain(small(max_iters=8), own, "toy") == folder
    assert json.loads((folder / "report.json").read_text())["steps"] == 8


SECOND = """
import sys
from pathlib import Path
from bertlib.pretrain import pretrain
from bertlib.settings import Settings
settings = Settings.make("smoke", max_iters=6, val_interval=3, batch_size=8)
print(pretrain(settings, Path(sys.argv[1]), "toy", sys.argv[2]))
"""


def test_a_second_process_leaves_a_live_run_alone(own):
    said = {}

    def look(step, model, folder):
        if step == 2:
            for resume in ("auto", "run0"):
                said[resume] = subprocess.run(
                    [sys.executable, "-c", SECOND, str(own), resume], capture_output=True,
                    text=True, env=os.environ | {"PYTHONPATH": str(PROJECT)})

    pretrain(small(), own, "toy", watch=look)
    assert said["auto"].stdout.strip().endswith("run1"), said["auto"].stderr
    assert "Another process is at work" in said["run0"].stderr
    assert json.loads((own / "runs" / "run0" / "report.json").read_text())["steps"] == 6
    # and one that was killed holds nothing: its lock went with it
    killed = SECOND.replace("print(", "import os; watch = lambda step, *_: step == 4 and "
                            "os.kill(os.getpid(), 9)\nprint(").replace(", sys.argv[2]",
                                                                     ", sys.argv[2], watch")
    command = [sys.executable, "-c", killed, str(own), "never"]
    assert subprocess.run(command, env=os.environ | {"PYTHONPATH": str(PROJECT)}).returncode == -9
    assert pretrain(small(), own, "toy", "run2").name == "run2"


def test_a_run_folder_that_was_moved_is_asked_resumed_and_finished(own, tmp_path):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    moved = tmp_path / "elsewhere" / "mine"
    moved.parent.mkdir()
    shutil.move(folder, moved)
    (own / "vocab" / "vocab.txt").rename(own / "kept.txt")
    model, tokenizer = bertlib.load(moved)
    assert len(tokenizer) == model.config.vocab_size
    (own / "kept.txt").rename(own / "vocab" / "vocab.txt")
    assert pretrain(small(max_iters=8), own, "toy", str(moved)) == moved
    assert json.loads((moved / "report.json").read_text())["steps"] == 8 and runs(own) == []


def test_an_interrupted_command_ends_with_its_own_exit_status(own):
    program = (SECOND.split("settings =")[0] + "import os, signal\nimport bertlib.predict as p\n"
               "from bertlib import pretrain as module\nreal = module.pretrain\n"
               "press = lambda step, *_: step == 4 and os.kill(os.getpid(), signal.SIGINT)\n"
               "module.pretrain = lambda *a, **k: real(*a, **k, watch=press)\n"
               "sys.argv[1:] = ['--preset', 'smoke', '--label', 'toy', '--base', sys.argv[1]]\n"
               "module.command()")
    done = subprocess.run([sys.executable, "-c", program, str(own)], capture_output=True,
                          text=True, env=os.environ | {"PYTHONPATH": str(PROJECT)})
    assert done.returncode == 130 and "goes on from there" in done.stderr, done.stderr
    assert Checkpoints(own / "runs" / "run0" / "checkpoints").entries[-1]["step"] == 4


def test_the_command_refuses_what_does_not_fit(own, refused, tokenizer):
    common = ["--preset", "smoke", "--base", own, "--label", "toy", "--max-iters", 6]
    main([str(part) for part in common])
    assert "d_model 64 (now 96)" in refused(main, *common, "--d-model", 96, "--resume", "run0")
    assert "chunks" in refused(main, *common, "--batch-size", 10**4)
    assert "Did you mean 'smoke'" in refused(main, "--preset", "smoky")
    assert "Did you mean '--learning-rate'" in refused(main, "--learning-rte", 3)
    for gpu, module in (("cuda", torch.cuda), ("mps", torch.backends.mps)):
        assert module.is_available() or f"'{gpu}'" in refused(main, *common, "--device", gpu)
    save_vocab([*tokenizer.vocab, "zzzz"], own / "vocab" / "vocab.txt")
    assert "another vocabulary" in refused(main, *common)
    assert "there is none at" in refused(main, "--preset", "smoke", "--base", own / "nowhere")
    (own / "none").mkdir()
    assert "no vocabulary" in refused(main, "--preset", "smoke", "--base", own / "none")
    assert runs(own) == ["run0"]


def test_a_damaged_card_is_refused_by_name_and_blocks_no_other_run(own):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    whole = (folder / "run.json").read_text()
    for bad in ("", whole[:50], "[]", "[" * 9999, "\x00\xff", whole.replace('"label"', '"lable"'),
                whole.replace('"seed": 1', '"seed": "x"')):
        (folder / "run.json").write_text(bad, encoding="utf-8")
        with pytest.raises(InputError, match="run.json' is damaged"):
            pretrain(small(max_iters=8), own, "toy", "run0")
    assert pretrain(small(max_iters=8), own, "toy").name == "run1"
    for change, words in (({"version": 9}, "version 9"), ({"settings": {"sed": 1}}, "'sed'")):
        write_json(folder / "run.json", json.loads(whole) | change)
        with pytest.raises(InputError, match=f"another version of this code.*{words}"):
            pretrain(small(max_iters=8), own, "toy", "run0")


def test_what_is_damaged_in_a_run_is_told_before_it_goes_on(own, capsys):
    folder = pretrain(small(max_iters=8, val_interval=2), own, "toy", watch=interrupt)
    metrics = folder / "logs" / "metrics.jsonl"
    whole = metrics.read_text()
    metrics.write_text(whole.replace('"loss": ', '"loss": 1', 1))
    with pytest.raises(InputError, match="Line 1 of .*metrics.jsonl' is damaged .*take it out"):
        pretrain(small(max_iters=8, val_interval=2), own, "toy")
    metrics.write_text(whole)
    (folder / "checkpoints" / "index.json").unlink()
    (folder / "checkpoints" / ".step_00000005.pt.x1234567.tmp").write_bytes(b"half")
    assert pretrain(small(max_iters=8, val_interval=2), own, "toy") == folder
    assert "index.json' is missing: 1 states" in capsys.readouterr().err
    assert "index.json' is missing" in (folder / "logs" / "log.txt").read_text()
    assert "from step 4" in (folder / "logs" / "log.txt").read_text()
    (folder / "report.json").write_text("{")  # it counts as unfinished, and is made anew
    assert pretrain(small(max_iters=8, val_interval=2), own, "toy") == folder
    assert json.loads((folder / "report.json").read_text())["steps"] == 8
    assert not list(folder.glob("*/.*.tmp"))


def test_a_checkpoint_of_another_version_is_refused(own):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    kept = Checkpoints(folder / "checkpoints")
    whole, few = kept.newest(), {"cpu": torch.zeros(3), "cuda": None}
    for change in ({"optimizers": []}, {"optimizers": [{}]}, {"scaler": 7}, {"batches": None},
                   {"batches": {"epoch": "x"}}, {"batches": {"epoch": 0}}, {"random": few},
                   {"random": [None]}, {"random": [few]}, {"tokens": None}, {"seconds": "long"},
                   {"seconds": -1.0}, "tokens", "step", "random"):
        kept.save({name: whole[name] for name in whole if name != change}
                  if isinstance(change, str) else whole | change, 4)
        with pytest.raises(InputError, match="another version of this code .*--resume never"):
            pretrain(small(max_iters=8), own, "toy")
    kept.save(whole, 4)
    assert pretrain(small(max_iters=8), own, "toy") == folder


@pytest.mark.parametrize("name", ["logs/log.txt", "logs/metrics.jsonl", "plot.png", "lock",
                                  "report.json", "checkpoints", "logs", "run.json"])
def test_links_in_a_foreign_run_folder_lead_nowhere(own, name):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    victim = own / "victim"
    path = folder / name
    if path.exists():
        path.rename(victim)
    else:
        victim.write_text("mine")
    path.symlink_to(victim)
    files = [victim] if victim.is_file() else sorted(victim.iterdir())
    before = {file: file.read_bytes() for file in files}
    with pytest.raises(InputError, match=f"{path.name}' is a link"):
        pretrain(small(max_iters=8), own, "toy", "run0")
    assert before == {file: file.read_bytes() for file in files}


# -- what diverges -----------------------------------------------------------------------------


def test_training_that_diverges_stops_and_keeps_the_last_good_checkpoint(own):
    def explode(step, model, folder):  # as rates far too high do, on some processors
        if step == 2:
            model.head.norm.weight.data *= float("inf")

    with pytest.raises(InputError, match="diverged.*learning_rate"):
        pretrain(small(checkpoint_minutes=0.0, val_interval=1), own, "toy", watch=explode)
    kept = Checkpoints(own / "runs" / "run0" / "checkpoints")
    for state in ([kept.newest()] if kept.entries else []) + [kept.best_state()] * bool(kept.best):
        assert all(tensor.isfinite().all() for tensor in state["model"].values())
    assert not (own / "runs" / "run0" / "report.json").exists()
    lines = (own / "runs" / "run0" / "logs" / "metrics.jsonl").read_text()
    assert "NaN" not in lines and "Infinity" not in lines


def test_a_curve_ends_at_its_own_exam_and_the_whole_split_is_another_number(own):
    folder = pretrain(small(val_interval=1, val_chunks=16), own, "toy")
    curve, whole = read_metrics(folder, "val"), read_metrics(folder, "whole")
    report = json.loads((folder / "report.json").read_text())
    way = report["on_the_way"]
    assert len({record["masked"] for record in curve}) == 1
    assert curve[-1]["step"] == 6 and len(whole) == 1 and whole[0]["step"] == 6
    assert (way["chunks"], way["masked_words"], way["val_loss"]) == (
        16, curve[-1]["masked"], curve[-1]["loss"])
    assert (report["masked_words"], report["val_loss"]) == (whole[0]["masked"], whole[0]["loss"])
    assert report["masked_words"] > 2 * way["masked_words"]
    for name in ("unigram_loss", "both_loss", "six_loss", "most_frequent_accuracy"):
        assert way[name] != report[name]  # baselines sit both exams, too


def test_best_is_the_lowest_loss_on_the_same_chunks_and_not_that_of_the_whole_split(own):
    folder = pretrain(small(val_interval=1, val_chunks=16), own, "toy")
    best = Checkpoints(folder / "checkpoints").best
    on_the_way = [r for r in read_metrics(folder, "val") if 0 < r["step"] < 6]
    assert best["val_chunks"] == 16
    assert best["val_loss"] <= min(record["loss"] for record in on_the_way)
    assert bertlib.load(folder, best=True)[0].state_dict().keys()


def test_the_first_record_after_a_cut_line_is_not_swallowed(own):
    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    path = folder / "logs" / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-7])
    cut = path.read_bytes().splitlines()[-1]
    pretrain(small(max_iters=8), own, "toy")
    assert cut + b"\n" not in path.read_bytes()
    assert [record["step"] for record in read_metrics(folder, "val")] == [0, 3, 4, 6, 8]


def test_tensorboard_hides_what_a_killed_run_wrote_after_its_checkpoint(own):
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    folder = pretrain(small(max_iters=8), own, "toy", watch=interrupt)
    before = set((folder / "logs").glob("events.*"))
    pretrain(small(max_iters=8), own, "toy")
    (resumed,) = set((folder / "logs").glob("events.*")) - before
    starts = [event.step for event in EventFileLoader(str(resumed)).Load()
              if event.HasField("session_log")]
    assert starts == [5]  # all that stands at step 5 or later was of the killed run
    (first,) = before
    assert not any(e.HasField("session_log") for e in EventFileLoader(str(first)).Load())
