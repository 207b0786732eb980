"""Pretrain a BERT, or a GPT: a base folder with data in, a run folder with a model out.

Example usage:
python -m bertlib.pretrain --preset cpu --label english
python -m bertlib.pretrain --preset cuda --base wiki --label wiki103 --max-iters 30000
python -m bertlib.pretrain --preset cpu --architecture gpt --start counts
torchrun --nproc-per-node 8 -m -- bertlib.pretrain --preset cuda --label wiki103

Under torchrun each GPU, or each CPU process, takes its share of every batch: batch_size is that
of all together. All must see the same base folder; rank 0 alone writes into it. Without the
lone -- torchrun would take --start for an option of its own.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import torch
from msgspec import convert

from bertlib.baselines import baselines
from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.counts import start_from_counts
from bertlib.data import EMBEDDED, Batches, Dataset, ensure_datasets, load_dataset
from bertlib.figures.plots import save_plot
from bertlib.masking import Masker, NextToken, objective
from bertlib.parameters import command_request
from bertlib.plumbing.dataset_file import read_header
from bertlib.plumbing.files import PROJECT, InputError, note, short
from bertlib.plumbing.interrupts import asks_to_stop
from bertlib.plumbing.ranks import ALONE, Ranks, join, run_on_ranks
from bertlib.plumbing.records import read_json, write_json
from bertlib.plumbing.runlog import read_metrics
from bertlib.plumbing.runs import Identity, claim_run
from bertlib.plumbing.states import RunState
from bertlib.scoring import Score
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer
from bertlib.told import tell
from bertlib.trainer import Trainer, Watcher


class Report(TypedDict):
    """What every report.json says, and much besides (see `describe`)."""

    steps: int


def load_data(settings: Settings, base: Path, label: str,
              tokenizer: Tokenizer) -> tuple[Batches, Dataset]:
    """Training batches and validation split of `label`, made from the texts if missing."""
    files = ensure_datasets(base, label, settings.seq_len)
    val = load_dataset(files.val, tokenizer)
    is_causal = settings.model_config(len(tokenizer)).causal
    masker = NextToken(tokenizer) if is_causal else Masker(tokenizer)
    batches = Batches(files.train, masker, tokenizer, settings.seed, settings.dynamic_masks)
    batches.require(settings.batch_size)
    return batches, val


def build(settings: Settings, base: Path, label: str, folder: Path,
          watch: Watcher | None = None, ranks: Ranks = ALONE) -> Trainer:
    """A trainer on the datasets of `label`, its model fresh by `settings.start`."""
    tokenizer = Tokenizer.load(base / "vocab")
    batches, val = ranks.writer_first(lambda: load_data(settings, base, label, tokenizer))
    torch.manual_seed(settings.seed)
    model = BertForMaskedLM(settings.model_config(len(tokenizer)))
    if settings.start != "random":
        start_from_counts(model, batches.data.slices, val.header.special, settings.count_start())
    if told := settings.told():
        tell(model, told)
    if not ranks.is_writer:  # so far all drew the same numbers; dropout shall differ
        torch.manual_seed(ranks.seed(settings.seed, 0))
    return Trainer(settings, model, batches, val, batches.masker, folder, watch, ranks)


def identity(settings: Settings, label: str, trainer: Trainer) -> Identity:
    """What tells this trainer's run from all others."""
    hashes = [read_header(path).sha256 for path in trainer.batches.paths]
    tokenizer = trainer.batches.tokenizer
    return Identity(label, asdict(trainer.model.config), settings.as_dict(), tokenizer.sha256,
                    tokenizer.rules.as_dict(), [*hashes, trainer.val.header.sha256])


def pretrain(settings: Settings, base: Path = PROJECT / "wiki", label: str = EMBEDDED,
             resume: str = "auto", watch: Watcher | None = None, progress: bool = False,
             preset: str = "") -> Path:
    """Train by `settings` on the datasets of `label` in `base`; returns the run folder.

    Writes run.json, vocabulary, logs/, checkpoints/ and at the end report.json: the score on the
    whole validation split with its baselines and conditions. A run folder appears when all has
    been checked. Under torchrun all ranks train together. Errors as in `runs.claim_run`, and
    `InputError` for data that are missing or do not fit.
    """
    base = Path(base)
    with join(settings.device) as ranks:
        ranks.require(settings.first_batch_size or settings.batch_size)
        trainer = build(settings, base, label, base, watch, ranks)
        here = identity(settings, label, trainer)
        run = claim_run(base, here, resume, is_finished) if ranks.is_writer else None
        try:
            trainer.open(ranks.from_writer(lambda: run.folder if run else base))
            go_on(trainer)
            if run:
                run.begin(here, trainer.batches.tokenizer.save)
                trainer.checkpoints.clear()
            score = trainer.run(progress and ranks.is_writer)
            if run and not trainer.stopped:
                report = describe(trainer, score, label, preset)
                with asks_to_stop(lambda: None):  # it is about to end anyway
                    save_plot(trainer.folder, read_metrics(trainer.folder, "val"), report)
                    write_json(trainer.folder / "report.json", report)  # last: all is there
        finally:
            if run:
                run.close()
    return trainer.folder


def go_on(trainer: Trainer) -> None:
    """Restore the newest checkpoint of the trainer's folder, if there is one.

    `InputError` if it has another form, or if the ranks do not see the same one.
    """
    found, where = trainer.checkpoints.newest(), trainer.checkpoints.folder
    with _of_this_code(where):
        state = None if found is None else convert(found, RunState)
    steps = trainer.ranks.gather(-1 if state is None else state["step"])
    if len(set(steps)) > 1:
        raise InputError(f"The ranks see different checkpoints in '{where}' (steps {steps}); give "
                         "them all the same base folder.")
    if trainer.ranks.is_writer:
        for sentence in trainer.checkpoints.notes:
            note(sentence)
    if state is not None:
        with _of_this_code(where):
            trainer.restore(state)


@contextmanager
def _of_this_code(where: Path) -> Iterator[None]:
    """What a checkpoint of another form runs into, as one sentence."""
    try:
        yield
    except InputError:
        raise
    except (ValueError, TypeError, LookupError, AttributeError, RuntimeError) as error:
        raise InputError(f"The checkpoint in '{where}' is of another version of this code "
                         f"({type(error).__name__}: {short(error)}); begin a new run with "
                         "--resume never.") from None


def is_finished(folder: Path) -> bool:
    """Whether a run ended by itself: its report is of its newest checkpoint, or of a later step."""
    try:
        report = read_json(folder / "report.json", Report, "it is made anew")
        entries = Checkpoints(folder / "checkpoints").entries
        return not entries or report["steps"] >= entries[-1]["step"]
    except InputError:
        return False


def describe(trainer: Trainer, score: Score, label: str, preset: str,
             neighbours: bool = True) -> dict[str, Any]:
    """The result of a run with its conditions and its baselines, as plain values.

    "on_the_way" has the last point of the run's curve: another exam, of fewer chunks.
    """
    settings, train, val = trainer.settings, trainer.batches.data, trainer.val
    header, way, parts = val.header, trainer.score, train.slices()
    special, counted = header.special, "masked_words"
    if ahead := trainer.model.config.causal:  # all that `NextToken` asks for is a word
        special, counted = [i for i in special if i != header.origin.special_ids.sep], "next_tokens"
        parts = (ids[:, :-1] for ids in parts)
    exams = [val.frozen(slice(chunks or None), trainer.masker)
             for chunks in (settings.final_chunks, settings.val_chunks)]
    whole, first = baselines(parts, exams, header.vocab_size, special, neighbours, ahead)
    return {
        "preset": preset, "label": label, "source": header.origin.source,
        "held_out": header.origin.unit, "objective": objective(ahead),
        "val_loss": score.loss, "val_accuracy": score.accuracy, counted: score.count,
        "tokens": trainer.tokens, "steps": trainer.step, "minutes": trainer.seconds / 60,
        "train_tokens": train.ids.size, "data_seed": header.seed, **trainer.learner.conditions(),
        **whole,
        "on_the_way": {"chunks": settings.val_chunks, "val_loss": way.loss,
                       "val_accuracy": way.accuracy, counted: way.count, **first},
    }


def main(arguments: list[str] | None = None) -> None:
    """Pretrain as the command line says and print the result."""
    asked = command_request(__doc__, arguments)
    folder = pretrain(asked.settings, asked.base, asked.label, asked.resume, progress=True,
                      preset=asked.preset)
    if not Ranks.here().is_writer:
        return
    last = read_metrics(folder, "val", "whole")[-1]
    print(f"{folder}: step {last['step']}, validation loss {last['loss']:.3f} nats, "
          f"accuracy {last['accuracy']:.1%} ({objective(asked.settings.model_config(1).causal)})")
    if Ranks.here().world == 1 and not is_finished(folder):
        raise KeyboardInterrupt("all is saved, and the same command goes on from there")


def command() -> None:
    """Entry point of the console script."""
    sys.exit(run_on_ranks(main))


if __name__ == "__main__":
    command()
