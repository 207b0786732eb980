"""Pretrain a BERT: a base folder with data in, a run folder with a model out.

Example usage:
python -m bertlib.pretrain --preset cpu --label english
python -m bertlib.pretrain --preset cuda --base wiki --label wiki103 --max-iters 30000
"""

import argparse
import json
import os
import shutil
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints, load_weights
from bertlib.counts import baselines, start_from_counts
from bertlib.data import Batches, find_files, load_dataset
from bertlib.device import machine_name
from bertlib.files import PROJECT, InputError, atomic_write, nearest, run_command
from bertlib.masking import Masker, MaskingConfig
from bertlib.plots import save_plot
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.runlog import read_metrics
from bertlib.settings import PRESETS, Settings
from bertlib.tokens import Tokenizer
from bertlib.trainer import Trainer, Watcher

DATA_SEED = 123


def choose_preset(name: str) -> str:
    """"auto": what BERTLIB_PRESET says (tests set it), `cuda` where there is a GPU, else `cpu`."""
    if name != "auto":
        return name
    return os.environ.get("BERTLIB_PRESET") or ("cuda" if torch.cuda.is_available() else "cpu")


def notebook_settings(before: set[str], namespace: dict[str, Any]) -> dict[str, Any]:
    """The settings among a notebook's parameters: all names that were not there `before`.

    papermill only warns of a parameter that a notebook does not know; this refuses it.
    """
    known = {field.name for field in fields(Settings)}
    given = {name: value for name, value in namespace.items()
             if name not in before and not name.startswith("_")}
    for name in given:
        if name not in known | {"preset", "base", "label", "resume"}:
            raise InputError(f"There is no parameter '{name}'. {nearest(name, known)}")
    return {name: value for name, value in given.items() if name in known}


def embedded_corpus(base: Path) -> Path:
    """All .xz texts of `base`/input as one file in `base`/datasets, made if need be.

    Compressed streams may simply be joined: the joined file unpacks to the joined texts.
    """
    parts = sorted((base / "input").glob("*.xz"))
    if not parts:
        raise InputError(f"There is no .xz text in '{base / 'input'}'; put some there.")
    joined = base / "datasets" / "english.txt.xz"
    joined.parent.mkdir(parents=True, exist_ok=True)
    if not joined.exists() or joined.stat().st_size != sum(p.stat().st_size for p in parts):
        with atomic_write(joined) as stream:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream)
    return joined


def ensure_datasets(base: Path, label: str, max_len: int, source: Path | None = None,
                    progress: bool = False) -> str:
    """The pattern of the training files of `label`, which are made from `source` if missing."""
    folder = base / "datasets"
    pattern = str(folder / f"train_{label}_{max_len}_*.msgpack.gz")
    if not list(folder.glob(Path(pattern).name)):
        source = source or embedded_corpus(base)
        config = PrepareConfig(source, label, folder, base / "vocab", max_len, DATA_SEED)
        prepare(config, progress)
    return pattern


def run_number(folder: Path) -> int:
    """N of a folder named runN; -1 for others."""
    number = folder.name.removeprefix("run")
    return int(number) if number.isdigit() else -1


def choose_run(base: Path, settings: Settings, resume: str = "auto") -> Path:
    """The run folder to use below `base`/runs.

    "auto" goes on with the latest run if it has the same settings and did not finish, and else
    begins the next number; "never" begins the next number; "run3" goes on with that one.
    """
    folder = base / "runs"
    runs = sorted((p for p in folder.glob("run*") if run_number(p) >= 0), key=run_number)
    if resume not in ("auto", "never"):
        if not (folder / resume / "settings.json").exists():
            raise InputError(f"There is no run '{folder / resume}' to resume; pass auto or never.")
        return folder / resume
    if resume == "auto" and runs and not (runs[-1] / "report.json").exists():
        path = runs[-1] / "settings.json"
        if path.exists() and json.loads(path.read_text()) == settings.as_dict():
            return runs[-1]
    return folder / f"run{run_number(runs[-1]) + 1 if runs else 0}"


def build(settings: Settings, base: Path, label: str, folder: Path,
          watch: Watcher | None = None) -> Trainer:
    """A trainer on the datasets of `label`, its model fresh by `settings.start`."""
    tokenizer = Tokenizer.load(base / "vocab")
    masker = Masker(tokenizer, MaskingConfig())
    paths = find_files(ensure_datasets(base, label, settings.seq_len))
    name = paths[0].name.removeprefix("train_")
    val = load_dataset(paths[0].with_name(f"val_{name}"), tokenizer)
    batches = Batches(paths, masker, tokenizer, settings.seed, settings.dynamic_masks)
    if val.header.max_len != settings.seq_len:
        raise InputError(f"'{name}' has {val.header.max_len} tokens a chunk, seq_len says "
                         f"{settings.seq_len}; set seq_len={val.header.max_len}.")
    batches.require(settings.batch_size)
    torch.manual_seed(settings.seed)
    model = BertForMaskedLM(settings.model_config(len(tokenizer)))
    if settings.start == "counts":
        special = list(val.header.special_ids.values())
        start_from_counts(model, batches.data.all_ids(), special)
    return Trainer(settings, model, batches, val, masker, folder, watch)


def pretrain(settings: Settings, base: Path = PROJECT / "wiki", label: str = "english",
             resume: str = "auto", watch: Watcher | None = None, progress: bool = False,
             preset: str = "") -> Path:
    """Train by `settings` on the datasets of `label` in `base`; gives the run folder.

    Writes settings.json, logs/, checkpoints/ and at the end report.json: the score on the whole
    validation split with its baselines and conditions.
    """
    base = Path(base)
    folder = choose_run(base, settings, resume)
    folder.mkdir(parents=True, exist_ok=True)
    trainer = build(settings, base, label, folder, watch)
    state = trainer.checkpoints.newest()
    if state is not None:
        check_vocab(state, trainer)
        trainer.restore(state)
    with atomic_write(folder / "settings.json") as stream:
        stream.write(json.dumps(settings.as_dict(), indent=1).encode())
    trainer.log.say(f"on {trainer.device}, {trainer.dtype}, from step {trainer.step}")
    score = trainer.run(progress)
    if not trainer.stopped:
        report = describe(trainer, score, label, preset)
        with atomic_write(folder / "report.json") as stream:
            stream.write(json.dumps(report, indent=1).encode())
        save_plot(folder, read_metrics(folder, "val"), report)
    return folder


def check_vocab(state: dict[str, Any], trainer: Trainer) -> None:
    """`InputError` if a checkpoint was trained with another vocabulary than the data."""
    if state["vocab_sha256"] != trainer.val.header.vocab_sha256:
        raise InputError(
            f"The checkpoint in '{trainer.checkpoints.folder}' was trained with another "
            "vocabulary than the dataset has; prepare the data with the run's vocabulary."
        )


def describe(trainer: Trainer, score, label: str, preset: str) -> dict[str, Any]:
    """The result of a run with its conditions, as plain values."""
    header = trainer.val.header
    special = list(header.special_ids.values())
    everything = trainer.val.frozen(slice(None), trainer.masker)
    train = trainer.batches.data.all_ids()
    return {
        "preset": preset, "label": label, "source": header.source,
        "val_loss": score.loss, "val_accuracy": score.accuracy, "masked_words": score.count,
        "tokens": trainer.tokens, "steps": trainer.step, "minutes": trainer.seconds / 60,
        "train_tokens": train.numel(), "parameters": trainer.model.n_parameters(),
        "seed": trainer.settings.seed, "data_seed": header.seed, "device": str(trainer.device),
        "precision": str(trainer.dtype), "threads": torch.get_num_threads(),
        "machine": machine_name(trainer.device), "torch": str(torch.__version__),
        **baselines(train, everything.labels, header.vocab_size, special),
    }


def load_model(folder: Path, vocab_size: int, best: bool = False) -> BertForMaskedLM:
    """The model of a run folder, in evaluation mode: its newest checkpoint or its best one."""
    checkpoints = Checkpoints(Path(folder) / "checkpoints")
    state = checkpoints.best_state() if best else checkpoints.newest()
    if state is None:
        raise InputError(f"'{folder}' holds no checkpoint; train first.")
    model = BertForMaskedLM(Settings(**state["settings"]).model_config(vocab_size))
    load_weights(model, state["model"], f"The checkpoint in '{folder}'")
    return model.eval()


def parser() -> argparse.ArgumentParser:
    """The command's options: one for each setting, and where to read and write."""
    parse = argparse.ArgumentParser(
        prog="pretrain", description=__doc__, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parse.add_argument("--preset", default="auto", help=f"auto, {', '.join(PRESETS)}")
    parse.add_argument("--base", type=Path, default=PROJECT / "wiki", help="the base folder")
    parse.add_argument("--label", default="english", help="of the datasets to train on")
    parse.add_argument("--resume", default="auto", help="auto, never or a run's name")
    for field in fields(Settings):
        kind = boolean if field.type is bool else field.type
        parse.add_argument(f"--{field.name.replace('_', '-')}", type=kind, metavar="VALUE")
    return parse


def boolean(text: str) -> bool:
    """true or false, as in the published configuration."""
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{text}' is neither true nor false")
    return text.lower() == "true"


def main(arguments: list[str] | None = None) -> None:
    """Pretrain as the command line says and print the result."""
    known, unknown = parser().parse_known_args(arguments)
    options = vars(known)
    if unknown:
        names = [f"--{name.replace('_', '-')}" for name in options]
        raise InputError(f"There is no option '{unknown[0]}'. {nearest(unknown[0], names)}")
    preset = choose_preset(options.pop("preset"))
    base, label, resume = (options.pop(name) for name in ("base", "label", "resume"))
    given = {name: value for name, value in options.items() if value is not None}
    settings = Settings.make(preset, **given)
    folder = pretrain(settings, base, label, resume, progress=True, preset=preset)
    last = read_metrics(folder, "val")[-1]
    print(f"{folder}: step {last['step']}, validation loss {last['loss']:.3f} nats, "
          f"accuracy {last['accuracy']:.1%}")


def command() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    command()
