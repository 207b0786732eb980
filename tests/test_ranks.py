"""Several ranks train what one would: real processes over Gloo, started as torchrun does."""

import os
import shutil
import signal
import socket
import subprocess
import sys

import pytest
import torch

from bertlib.checkpoint import Checkpoints
from bertlib.data import Batches
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.ranks import Ranks
from bertlib.plumbing.runlog import read_metrics
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.pretrain import pretrain
from bertlib.settings import Settings

# The optimisers hardly look at the size of the gradient, which lies between 1.6 and 2 here; that
# it is clipped in some steps and in others not makes it count.
RECIPE = dict(max_iters=12, val_interval=4, micro_steps=2, grad_clip=1.8, start="frequencies")
CLOSE = dict(rel=0, abs=1e-5)  # of losses in nats: numbers are added up in another order
HEAD = f"""
import os, signal, sys
from pathlib import Path
from bertlib.pretrain import pretrain
from bertlib.plumbing.ranks import join, run_on_ranks
from bertlib.settings import Settings

def train(resume, watch=None, **changes):
    settings = Settings.make("smoke", **{RECIPE} | changes)
    pretrain(settings, Path(sys.argv[1]), "padded", resume, watch)
"""
RESUMING = HEAD + """
def interrupt(step, model, folder):  # only the writer watches, but all must stop
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)

with join("cpu"):
    train("run1")  # one rank began it
    train("never", interrupt)  # run2
    # run3, run4: one hidden word a row, so that all ranks draw equally many random numbers
    changes = dict(dropout=0.2, mask_rate=0.01, final_mask_rate=0.01)
    for watch in (None, interrupt):
        train("never", watch, **changes)
    train("run4", **changes)
"""
DYING = HEAD + """
from torch.optim.optimizer import register_optimizer_step_post_hook
updates = []

def die(*_):
    updates.append(1)
    if len(updates) == 12:  # two optimisers: in the sixth step
        os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1":
    register_optimizer_step_post_hook(die)
sys.exit(run_on_ranks(lambda: train("never", checkpoint_minutes=0)))
"""


def launch(*program, ranks: int = 2) -> subprocess.CompletedProcess:
    """Run `program` on some ranks; one thread each, so that sums come in one order."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(ranks),
               "--master-addr", "127.0.0.1", "--master-port", str(port), *map(str, program)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=1200)


def settings(**changes) -> Settings:
    return Settings.make("smoke", **RECIPE | changes)


def interrupt(step, model, folder):
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)


def newest(folder) -> dict:
    return Checkpoints(folder / "checkpoints").newest()


@pytest.fixture(scope="module")
def padded(base, tmp_path_factory):
    """A base folder whose chunks hold different numbers of words; run0 is that of one rank.

    run1 is the same one, stopped in step 4.
    """
    folder = tmp_path_factory.mktemp("ranks") / "base"
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("run[0-9]*"))
    line = "the king went to the city and saw the old bridge near the river"
    text = folder / "input" / "padded.txt"
    text.write_text("".join(f" = Article {n} = \n\n {line[: 3 + n % len(line)]}\n"
                            for n in range(900)), encoding="utf-8")
    prepare(PrepareConfig(text, "padded", folder / "datasets", folder / "vocab", 32,
                          segment="text"))
    pretrain(settings(), folder, "padded")
    pretrain(settings(), folder, "padded", watch=interrupt)
    return folder


def losses(folder, kind: str) -> list[float]:
    return [record["loss"] for record in read_metrics(folder, kind)]


@pytest.fixture(scope="module")
def straight(padded):
    """Training and validation losses of the run of one rank."""
    return {kind: losses(padded / "runs" / "run0", kind) for kind in ("train", "val")}


@pytest.fixture
def own(padded, tmp_path):
    """A copy for one test, with its runs."""
    return shutil.copytree(padded, tmp_path / "own")


def batch_of(base, masker, tokenizer, size: int):
    paths = [base / "datasets" / "train_padded_32_123.msgpack.gz"]
    return Batches(paths, masker, tokenizer, seed=1).next(size, 0.3)


def test_the_shares_of_all_ranks_are_the_batch(padded, masker, tokenizer):
    batch = batch_of(padded, masker, tokenizer, 12)
    shares = [batch.rows(*Ranks(rank, 3).span(12)) for rank in range(3)]
    for name in ("input_ids", "labels", "attention_mask"):
        assert torch.equal(torch.cat([getattr(s, name) for s in shares]), getattr(batch, name))
    again = torch.cat([s.positions + 4 * 32 * rank for rank, s in enumerate(shares)])
    assert torch.equal(again, batch.positions)
    assert len({len(s.labels) for s in shares}) > 1  # else equal losses would prove less
    assert all(s.positions.min() >= 0 and s.positions.max() < 4 * 32 for s in shares)


def test_the_place_in_the_data_is_a_number_of_sequences(padded, masker, tokenizer):
    paths = [padded / "datasets" / "train_padded_32_123.msgpack.gz"]
    batches = Batches(paths, masker, tokenizer, seed=1)
    for size in (12, 4):
        batches.next(size, 0.3)
    assert batches.state()["served"] == batches.state()["cursor"] == 16


def test_a_batch_that_cannot_be_shared_and_half_an_environment_are_refused(monkeypatch):
    with pytest.raises(InputError, match="has 16 sequences; batch_size.* multiples .* 3"):
        Ranks(0, 3).require(16)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match="'RANK'.*torchrun"):
        Ranks.here()


def test_a_clock_that_ranks_agree_on_keeps_its_digits():
    assert Ranks().max(86_400.0001, True, False) == [86_400.0001, 1.0, 0.0]


def test_two_ranks_have_the_losses_of_one(own, straight):
    options = [part for name, value in RECIPE.items()
               for part in (f"--{name.replace('_', '-')}", value)]
    done = launch("-m", "--", "bertlib.pretrain", "--preset", "smoke", "--base", own, "--label",
                  "padded", "--resume", "never", *options)  # "--", or torchrun takes --start
    assert done.returncode == 0, done.stderr
    folder = own / "runs" / "run2"
    for kind, wanted in straight.items():
        assert losses(folder, kind) == pytest.approx(wanted, **CLOSE)
    assert straight["val"][-1] < straight["val"][0] - 0.1  # they move
    tokens = [[r["tokens"] for r in read_metrics(own / "runs" / name, "val")]
              for name in ("run0", "run2")]
    assert read_metrics(folder, "val")[-1]["masked"] > 64  # validation, too, was shared
    assert tokens[0] == tokens[1] and tokens[0][-1] == 12 * 2 * 16 * 32
    # one writer: one folder, one line for each record, one result
    assert not (own / "runs" / "run3").exists()
    lines = (folder / "logs" / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == len(read_metrics(folder))
    assert len(list((folder / "logs").glob("events.*"))) == 1
    assert done.stdout.count("validation loss") == 1
    assert "on cpu, torch.float32, 2 ranks, from step 0" in (folder / "logs/log.txt").read_text()
    assert (folder / "report.json").exists() and (folder / "plot.png").exists()


def test_a_run_goes_on_with_another_number_of_ranks(own, straight, tmp_path):
    (tmp_path / "resuming.py").write_text(RESUMING)
    done = launch(tmp_path / "resuming.py", own)
    assert done.returncode == 0, done.stderr
    runs = own / "runs"
    assert newest(runs / "run2")["step"] == 4
    pretrain(settings(), own, "padded", "run2")  # two ranks began it
    for name in ("run1", "run2"):
        assert losses(runs / name, "val")[-1] == pytest.approx(straight["val"][-1], **CLOSE)
    # with the same number of ranks it is exact: each has its own dropout, and it goes on
    one, two = newest(runs / "run3"), newest(runs / "run4")
    assert one["step"] == two["step"] == 12
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
    assert torch.equal(one["random"][1]["cpu"], two["random"][1]["cpu"])
    assert not torch.equal(*(state["cpu"] for state in one["random"]))


def test_an_uneven_batch_ends_in_one_sentence_of_each_rank(own):
    done = launch("-m", "bertlib.pretrain", "--preset", "smoke", "--base", own, "--label",
                  "padded", "--resume", "never", "--batch-size", 15)
    assert done.returncode != 0
    assert "error: rank 1: The smallest batch has 15 sequences; batch_size" in done.stderr
    assert not (own / "runs" / "run2").exists()


def test_a_killed_rank_ends_the_others_and_loses_nothing(own, straight, tmp_path):
    (tmp_path / "dying.py").write_text(DYING)
    done = launch(tmp_path / "dying.py", own)
    assert done.returncode != 0
    assert "error: rank 0: another rank stopped (" in done.stderr
    assert "SIGKILL" in done.stderr
    folder = own / "runs" / "run2"
    assert newest(folder)["step"] == 5
    assert not list(folder.rglob("*.tmp"))
    pretrain(settings(checkpoint_minutes=0), own, "padded")
    assert losses(folder, "val")[-1] == pytest.approx(straight["val"][-1], **CLOSE)


