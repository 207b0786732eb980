"""The small world that is attacked: a text, a vocabulary, datasets, runs.

Nothing of it lies in the checkout. All that has to be computed is computed in children.
"""

import hashlib
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # what a first optimiser imports; here, and not in each child
from fault_child import Outcome, Tell, attempt
from matplotlib.figure import Figure

import bertlib
from bertlib import prepare_mlm_dataset
from bertlib import pretrain as command
from bertlib.bench.ablate import FAST
from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.plumbing import runlog
from bertlib.plumbing.runlog import read_metrics
from bertlib.plumbing.runs import run_number
from bertlib.samples import Sampler, read_samples
from bertlib.settings import Settings
from bertlib.tokens import SPECIAL_TOKENS, Tokenizer
from bertlib.trainer import Trainer

LABEL, LENGTH, SEED = "toy", 32, 123
# Dropout, so that the random state counts; a checkpoint after each step.
SETTINGS = dict(max_iters=12, val_interval=4, batch_size=8, val_chunks=8, d_model=16,
                heads=4, dropout=0.1, checkpoint_minutes=0.0) | FAST
# no BERT as published, so that its export has a form of its own ("shipped"); the others' form is
# that of "reference"
HALF = 7  # the step after which the half-done run was killed
SENTENCES = ("the [MASK] of the sea .", "at [MASK] .")
LETTERS = "abcdefghijklmnopqrstuvwxyzé0123456789.,=[]{}\""
PNG = b"\x89PNG\r\n\x1a\n, if it were drawn"


def words(most: int = 150) -> list[str]:
    """Different words, some with an accent: how text is washed makes a difference."""
    draw, found = random.Random(0), ["the", "of", "at", "sea"]
    while len(found) < most:
        word = "".join(draw.choice("aeioué" if n % 2 else "bdklmnrst") for n in range(5))
        found += [word] * (word not in found)
    return found


def text(seed: int = 0, documents: int = 90) -> str:
    """Documents as in WikiText, a line of some words each."""
    draw, known = random.Random(seed), words()
    parts = []
    for number in range(documents):
        line = " ".join(draw.choices(known, range(len(known), 0, -1), k=60))
        parts.append(f" = Article {number} = \n\n {line} . \n")
    return "".join(parts)


def vocabulary() -> Tokenizer:
    """The world's words; its rules are not those that one would judge by its words."""
    pieces = [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    return Tokenizer([*SPECIAL_TOKENS, *pieces, *words()], lowercase=True, strip_accents=False)


# -- what children do ----------------------------------------------------------------------------


def watch(tell: Tell, after_save: Callable[[int], None]) -> None:
    """Let a child tell which step is learned and saved, and at which step a start goes on."""
    save, restore, learn = Checkpoints.save, Trainer.restore, Trainer.train_step

    def told_save(self, state, step):
        path = save(self, state, step)
        tell("saved", step)
        after_save(step)
        return path

    def told_restore(self, state, *others, **named):
        tell("began", state["step"])
        return restore(self, state, *others, **named)

    def told_step(self, *portion):
        loss = learn(self, *portion)
        tell("learned", self.step + 1)
        return loss

    Checkpoints.save, Trainer.restore, Trainer.train_step = told_save, told_restore, told_step
    torch.set_num_threads(1)
    Figure.savefig, runlog.measured_peak = draw_nothing, lambda device, dtype: 0.0  # they take time


def draw_nothing(_figure: Figure, target: Any, **how: Any) -> None:
    """Write what stands for a picture."""
    if hasattr(target, "write"):
        target.write(PNG)
    else:
        Path(target).write_bytes(PNG)


def train(tell: Tell, base: Path, label: str = LABEL, resume: str = "auto",
          after_save: Callable[[int], None] = lambda step: None) -> dict[str, Any]:
    """Train as notebook 07 does; returns what the run has come to."""
    watch(tell, after_save)
    sampler = Sampler(Tokenizer.load(base / "vocab"), SENTENCES, top=2)
    settings = Settings.make("smoke", **SETTINGS)
    folder = command.pretrain(settings, base, label, resume, sampler, progress=True)
    return result_of(folder)


def train_by_command(tell: Tell, base: Path, resume: str = "auto",
                     after_save: Callable[[int], None] = lambda step: None) -> dict[str, Any]:
    """The same run by the command `pretrain-bert`, which keeps no samples."""
    watch(tell, after_save)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]
    command.main(["--preset", "smoke", "--base", str(base), "--label", LABEL, "--resume", resume,
                  *options])
    return result_of(newest_run(base))


def newest_run(base: Path) -> Path:
    """The folder of the run with the highest number."""
    return max((base / "runs").glob("run*"), key=run_number)


def result_of(folder: Path) -> dict[str, Any]:
    """What a run has come to: weights, the best score, its records and its guesses."""
    samples = folder / "logs" / "samples.jsonl"
    return {
        "weights": fingerprint(*bertlib.load(folder)),
        "records": [[r["step"], r["loss"], r["accuracy"], r["tokens"]]
                    for r in read_metrics(folder, "val")],
        "samples": [[r["step"], r["guesses"]] for r in read_samples(samples)]
        if samples.exists() else [],
    }


def fingerprint(model: BertForMaskedLM, tokenizer: Tokenizer) -> str:
    """SHA-256 of all that decides what a model says."""
    digest = hashlib.sha256(repr((asdict(model.config), tokenizer.vocab, tokenizer.lowercase,
                                  tokenizer.strip_accents)).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def prepare(base: Path, label: str = LABEL, source: str = "text.txt") -> None:
    """Make the datasets of a label by the command."""
    prepare_mlm_dataset.main([
        "-i", str(base / "input" / source), "-l", label, "-o", str(base / "datasets"),
        "-m", str(LENGTH), "-v", str(base / "vocab"), "-s", str(SEED)])


# -- the world -----------------------------------------------------------------------------------


def must(outcome: Outcome, *fine: int) -> Any:
    """The result of what nobody attacked; `RuntimeError` if it failed: then nothing is true."""
    if outcome.code not in (0, *fine):
        raise RuntimeError(f"The world could not be made: {outcome.code} {outcome.said}")
    return outcome.result


class World:
    """A folder with all that is attacked, made once, and copies of it to spoil.

    base: vocabulary, input and datasets, no runs. done: with a finished run, whose result is the
    `truth`. half: with a run that was killed after step 7.
    """

    def __init__(self, folder: Path, seed: int):
        self.folder, self.seed = Path(folder), seed
        self.base, self.half, self.done = (self.folder / n for n in ("base", "half", "done"))
        self._numbers = count()
        must(attempt(lambda tell: self._make_base()))
        self.copy(self.base, self.half)
        must(attempt(lambda tell: train(tell, self.half, after_save=_die)), -signal.SIGKILL)
        self.copy(self.half, self.done)
        must(attempt(lambda tell: train(tell, self.done)))

    def _make_base(self) -> None:
        for name in ("input", "vocab", "datasets", "runs"):
            (self.base / name).mkdir(parents=True)
        (self.base / "input" / "text.txt").write_text(text(), encoding="utf-8")
        vocabulary().save(self.base / "vocab")
        prepare(self.base)

    @cached_property
    def truth(self) -> dict[str, Any]:
        """What a run comes to that nobody disturbs."""
        with self.spoiled(self.base) as base:
            return must(attempt(lambda tell: train(tell, base)))

    def copy(self, folder: Path, to: Path | None = None) -> Path:
        """A copy of a folder of the world, to spoil."""
        return shutil.copytree(folder, to or self.folder / f"copy{next(self._numbers)}")

    @contextmanager
    def spoiled(self, folder: Path) -> Iterator[Path]:
        """A copy that is gone afterwards."""
        copy = self.copy(folder)
        try:
            yield copy
        finally:
            shutil.rmtree(copy, ignore_errors=True)


def _die(step: int) -> None:
    if step == HALF:
        os.kill(os.getpid(), signal.SIGKILL)
