"""How fast two puzzles teach: GPT and BERT, of one shape, at equally many steps (notebook 10).

Example usage:
python -m bertlib.bench race --seed 1 --out assets/10_gpt/race.jsonl

Nothing differs but who may read what follows, how many words are graded, and in the last row
that heads are told where to look.
"""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import torch
from torch import Tensor

from bertlib.bert import PRESETS
from bertlib.data import EMBEDDED
from bertlib.masking import Masked, NextToken
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.files import InputError, check_output_folder, nearest
from bertlib.plumbing.records import add_record, read_records
from bertlib.plumbing.runlog import read_metrics
from bertlib.pretrain import build, describe
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer
from bertlib.trainer import Trainer

PRESETS["gpt_both_sides"] = PRESETS["gpt"] | dict(causal=False)  # BERT's puzzle, GPT's blocks
COMMON: dict[str, Any] = dict(start="counts", budget_minutes=0.0, max_iters=400, val_interval=40,
                              val_chunks=256, final_chunks=1024)


class Row(NamedTuple):
    """A run: its name, how it differs from the others, and the share of words that is graded."""

    name: str
    changes: dict[str, Any]
    share: float


HIDDEN = dict(architecture="gpt_both_sides", mask_rate=0.15, final_mask_rate=0.15)
ROWS = (Row("GPT, all graded", dict(architecture="gpt"), 1.0),
        Row("GPT, 15% graded", dict(architecture="gpt"), 0.15),
        Row("BERT, 15% hidden", HIDDEN, 0.15),
        Row("BERT, 15%, told", HIDDEN | dict(start="told"), 0.15))


class Result(TypedDict):
    """What each line of results says, and much besides (see `pretrain.describe`)."""

    name: str
    seed: int
    val_loss: float
    unigram_loss: float
    curve: list[list[float]]  # step, tokens seen, words graded, loss, accuracy


class Fewer(NextToken):
    """GPT's puzzle, of whose words only a random share is graded: as few as masking grades."""

    def __init__(self, tokenizer: Tokenizer, share: float):
        super().__init__(tokenizer)
        self.share = share

    def __call__(self, ids: Tensor, generator: torch.Generator, rate: float | None = None):
        """As `NextToken`; which words are graded is drawn."""
        whole = self.ask(ids)
        order = torch.randperm(len(whole.labels), generator=generator)
        kept = order[:round(self.share * len(order))].sort().values
        return Masked(ids, whole.positions[kept], whole.labels[kept])


def count_graded(trainer: Trainer) -> list[int]:
    """A list that takes how many words were graded in all after each step, 0 first."""
    graded, fetch = [0], trainer.fetch

    def counted(progress: float):
        portion = fetch(progress)
        graded.append(graded[-1] + portion.masked)
        return portion

    trainer.fetch = counted  # type: ignore[method-assign]
    return graded


def measure(row: Row, preset: str, base: Path, label: str, **changes: Any) -> dict[str, Any]:
    """Train a row in a temporary folder; returns its result as plain values."""
    settings = Settings.make(preset, **COMMON | row.changes | changes)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(settings, base, label, Path(folder))
        if trainer.model.config.causal and row.share < 1:
            trainer.batches.masker = Fewer(trainer.batches.tokenizer, row.share)
        graded = count_graded(trainer)
        score = trainer.run()
        if trainer.stopped:
            raise KeyboardInterrupt
        report = describe(trainer, score, label, preset, neighbours=False)
        curve = [[r["step"], r["tokens"], graded[r["step"]], round(r["loss"], 4),
                  round(r["accuracy"], 4)] for r in read_metrics(Path(folder), "val")]
    return {"name": row.name, "share": row.share, **report, "curve": curve}


def bench_race(arguments: list[str]) -> None:
    """Train GPT and BERT of one shape for equally many steps and append their curves to a file."""
    parse = Parser(prog="bench race", description=bench_race.__doc__)
    parse.add_argument("--rows", nargs="+", help="of the race; all if not given")
    parse.add_argument("--preset", default="cpu")
    parse.add_argument("--steps", type=int, default=COMMON["max_iters"])
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--label", default=EMBEDDED)
    parse.add_argument("--out", type=Path, required=True, help="results are appended here")
    given = parse.parse_args(arguments)
    rows = {row.name: row for row in ROWS}
    for name in given.rows or ():
        if name not in rows:
            raise InputError(f"There is no row '{name}'. {nearest(name, rows)}")
    check_output_folder(given.out.parent)
    base = base_folder(given.base)
    for name in given.rows or rows:
        result = measure(rows[name], given.preset, base, given.label, max_iters=given.steps,
                         seed=given.seed)
        add_record(given.out, result)
        print(f"{name:20} {result['curve'][-1][2] / 1e3:8,.0f} thousand words graded  loss "
              f"{result['val_loss']:.3f} (frequencies {result['unigram_loss']:.3f})", flush=True)


def read_race(path: Path) -> list[dict[str, Any]]:
    """The results in a file that this command wrote, in their order."""
    return read_records(path, Result)
