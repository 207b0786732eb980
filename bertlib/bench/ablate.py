"""One lever at a time: short runs that differ in a single thing, each to the end of its schedule.

Example usage:
python -m bertlib.bench ablate levers --out assets/12_efficiency/levers.jsonl
python -m bertlib.bench ablate start --rows random counts --seed 2 --out more.jsonl

Every row is a run of its own with the same budget, tokenizer, validation text and frozen masks;
it is appended to the output as one line of JSON with all its conditions.
"""

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

from bertlib.bert import PRESETS
from bertlib.counts import CountStart
from bertlib.data import EMBEDDED
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.files import InputError, check_output_folder, nearest
from bertlib.plumbing.records import add_record, read_records
from bertlib.plumbing.runlog import read_metrics
from bertlib.pretrain import build, describe
from bertlib.settings import Settings


@dataclass(frozen=True)
class Row:
    """A run: what it is called and how it differs from its preset."""

    name: str
    changes: dict[str, Any] = field(default_factory=dict)
    preset: str = "cpu"


class Result(TypedDict):
    """What every line of results says, and much besides (see `pretrain.describe`)."""

    name: str
    seed: int
    minutes: float
    tokens: int
    val_loss: float
    val_accuracy: float


FAST: dict[str, Any] = dict(  # the architecture that the presets trained before BERT's own
    architecture="fast", start="counts", output_share=1.0, query_key_share=1.0,
    learning_rate=4e-3, matrix_learning_rate=0.03)
FAST_PARTS: dict[str, dict[str, Any]] = {  # how "fast" differs with one of BERT's parts
    "learned": dict(position="learned"), "gelu": dict(activation="gelu"),
    "no_qk_norm": dict(qk_norm=False), "post_norm": dict(norm="post"), "biases": dict(bias=True),
    "head_transform": dict(head_transform=True), "types": dict(n_token_type=2),
}
BERT_PARTS: dict[str, dict[str, Any]] = {  # how "bert" differs with another part
    "pre_norm": dict(norm="pre"), "relu2": dict(activation="relu2"), "qk_norm": dict(qk_norm=True),
    "no_head_transform": dict(head_transform=False), "no_zero_init": dict(zero_init=False),
}
PRESETS |= {f"fast_{name}": PRESETS["fast"] | changes for name, changes in FAST_PARTS.items()}
PRESETS |= {f"bert_{name}": PRESETS["bert"] | changes for name, changes in BERT_PARTS.items()}

STEPS = dict(budget_minutes=0.0, max_iters=1_000, val_interval=250)  # equal work on any machine
LONG = STEPS | dict(max_iters=2_000)
WIDE = STEPS | dict(d_model=768, heads=12, n_layer=6, batch_size=16, max_iters=60)

GROUPS: dict[str, tuple[Row, ...]] = {
    # the recipe, then the same without one of its levers, or with another part
    "levers": (
        Row("BERT", STEPS),
        Row("random start", STEPS | dict(start="random")),
        Row("counted, told nothing", STEPS | dict(start="counts")),
        Row("AdamW, no Muon", STEPS | dict(optimizer="adamw")),
        Row("outputs at the full rate", STEPS | dict(output_share=1.0)),
        Row("queries and keys at the full rate", STEPS | dict(query_key_share=1.0)),
        Row("dropout 0.35", STEPS | dict(dropout=0.35, attention_dropout=0.35)),
        Row("rate stays at its peak", STEPS | dict(min_learning_rate=2e-3)),
        Row("mask 15% throughout", STEPS | dict(mask_rate=0.15)),
        Row("static masks", STEPS | dict(dynamic_masks=False)),
        Row("pre-norm", STEPS | dict(architecture="bert_pre_norm")),
        Row("squared ReLU", STEPS | dict(architecture="bert_relu2")),
        Row("QK-norm", STEPS | dict(architecture="bert_qk_norm")),
        Row("no head transform", STEPS | dict(architecture="bert_no_head_transform")),
        Row("no zero start of blocks", STEPS | dict(architecture="bert_no_zero_init")),
    ),
    # what of the counted start does it
    "start": (
        Row("random", STEPS | dict(start="random")),
        Row("frequencies", STEPS | dict(start="frequencies")),
        Row("counts", STEPS | dict(start="counts")),
        Row("told", STEPS),
        Row("window 1", STEPS | dict(count_window=1)),
        Row("window 16", STEPS | dict(count_window=16)),
        Row("shift 5", STEPS | dict(count_shift=5.0)),
        Row("std 0.02", STEPS | dict(count_std=0.02)),
        Row("std 0.2", STEPS | dict(count_std=0.2)),
        Row("64 columns", STEPS | dict(count_width=64)),
    ),
    # how much text the counted start needs, at equal training
    "text": (
        Row("none of the text", STEPS | dict(start="random")),
        Row("1/30 of the text", STEPS | dict(count_share=1 / 30)),
        Row("1/10 of the text", STEPS | dict(count_share=0.1)),
        Row("1/3 of the text", STEPS | dict(count_share=1 / 3)),
        Row("all of the text", STEPS),
    ),
    # how many sequences a step, at equal text
    "batch": (
        Row("batch 32", STEPS),
        Row("batch 16", STEPS | dict(batch_size=16, max_iters=2_000)),
        Row("batch 64", STEPS | dict(batch_size=64, max_iters=500)),
        Row("batch 16 to 64", STEPS | dict(first_batch_size=16, batch_size=64, max_iters=800)),
    ),
    # the shape of the model (layers x width) at equal time
    "shape": (
        Row("4 x 128", dict(n_layer=4, d_model=128)),
        Row("4 x 192", dict(n_layer=4, d_model=192)),
        Row("4 x 256", dict(n_layer=4, d_model=256)),
        Row("2 x 256", dict(n_layer=2, d_model=256)),
        Row("2 x 384", dict(n_layer=2, d_model=384)),
        Row("1 x 256", dict(n_layer=1, d_model=256)),
    ),
    # from fast to BERT as published, one part at a time, at equal steps
    "ledger": (
        Row("fast", LONG | FAST),
        Row("learned positions, told", LONG | FAST | dict(architecture="fast_learned",
                                                          start="told")),
        *(Row(name.replace("_", " "), LONG | FAST | dict(architecture=f"fast_{name}"))
          for name in FAST_PARTS if name != "learned"),
        Row("BERT, one rate for all matrices", LONG | dict(output_share=1.0, query_key_share=1.0)),
        Row("BERT", LONG),
        Row("BERT, told nothing", LONG | dict(start="counts")),
    ),
    # how far more steps bring: schedules of several lengths
    "time": tuple(Row(f"{steps:,} steps", STEPS | dict(max_iters=steps))
                  for steps in (250, 500, 1_000, 2_000, 15_000)),
    # does the counted start help the published size, too? (few steps: two cores are slow)
    "wide": (
        Row("6 x 768, random", WIDE | dict(start="random")),
        Row("6 x 768, told", WIDE),
        Row("6 x 768, told, std 0.07 / 3", WIDE | dict(count_std=CountStart.std / 3)),
    ),
}


def measure(row: Row, minutes: float, seed: int, chunks: int, base: Path, label: str) -> dict:
    """Train one row in a temporary folder; returns its result as plain values."""
    common = dict(budget_minutes=minutes, seed=seed, val_chunks=256, final_chunks=chunks,
                  val_interval=50)
    settings = Settings.make(row.preset, **common | row.changes)
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(settings, base, label, Path(folder))
        score = trainer.run()
        if trainer.stopped:
            raise KeyboardInterrupt
        report = describe(trainer, score, label, row.preset, neighbours=False)
        curve = read_metrics(Path(folder), "val")
    points = [[r["seconds"], round(r["loss"], 4), round(r["accuracy"], 4)] for r in curve]
    return {**asdict(row), "budget_minutes": settings.budget_minutes, **report, "curve": points}


def choose(group: str, names: list[str] | None) -> list[Row]:
    """The rows of `group`, or those of them that are named."""
    if group not in GROUPS:
        raise InputError(f"There is no group '{group}'. {nearest(group, GROUPS)}")
    rows = {row.name: row for row in GROUPS[group]}
    for name in names or ():
        if name not in rows:
            raise InputError(f"Group '{group}' has no row '{name}'. {nearest(name, rows)}")
    return [rows[name] for name in names or rows]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The results in a file that this command wrote, in their order."""
    return read_records(path, Result)


def main(arguments: list[str] | None = None) -> None:
    """Run the rows that the command line names and append their results to a file."""
    parse = Parser(prog="ablate", description=__doc__)
    parse.add_argument("group", help=", ".join(GROUPS))
    parse.add_argument("--rows", nargs="+", help="of the group; all if not given")
    parse.add_argument("--minutes", type=float, default=2.0,
                       help="of training for each row that counts no steps (shape)")
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--chunks", type=int, default=0, help="to score at the end; 0: all")
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--label", default=EMBEDDED)
    parse.add_argument("--out", type=Path, required=True, help="results are appended here")
    options = parse.parse_args(arguments)
    rows = choose(options.group, options.rows)
    check_output_folder(options.out.parent)
    base = base_folder(options.base)
    for row in rows:
        result = measure(row, options.minutes, options.seed, options.chunks, base, options.label)
        add_record(options.out, {"group": options.group, **result})
        print(f"{row.name:26} {result['tokens'] / 1e6:6.2f} M tokens  loss "
              f"{result['val_loss']:.3f}  accuracy {result['val_accuracy']:.2%}", flush=True)
