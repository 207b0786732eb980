"""Students of the course's model: each row differs in one thing, all have the same exam.

Example usage:
python -m bertlib.bench distill --rows distilled plain --seed 2 --out assets/11_distill/rows.jsonl
python -m bertlib.bench distill --speed --out assets/11_distill/speed.json

Steps are equal, so that all see the same batches with the same masks; "equal time" has as many more
as a step without a teacher is cheaper.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bertlib.analysis import spread
from bertlib.data import EMBEDDED
from bertlib.distill import Distilling, build, teacher_of
from bertlib.huggingface import MODEL
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.device import autocast
from bertlib.plumbing.files import InputError, check_output_folder, nearest
from bertlib.plumbing.records import add_record, write_json
from bertlib.plumbing.runlog import read_metrics
from bertlib.scoring import evaluate

STEPS = 100
EXAM = 1_024  # chunks, spread evenly over the validation split
COST = 1.8  # of a step with a teacher, in steps without one; see --speed
ALONE: dict[str, Any] = dict(soft=0.0, states=0.0)
# a model that starts from nothing likes larger steps, see `settings.QUICK`
FRESH: dict[str, Any] = dict(take="none", learning_rate=4e-3, matrix_learning_rate=0.03)
ROWS: dict[str, dict[str, Any]] = {
    "distilled": {},
    "plain": ALONE,
    "plain, equal time": ALONE | dict(max_iters=round(COST * STEPS)),
    "no soft targets": dict(soft=0.0),
    "no hidden words": dict(words=0.0),
    "no hidden states": dict(states=0.0),
    "scratch": ALONE | FRESH,
    "scratch, distilled": FRESH,
    "temperature 1": dict(temperature=1.0),
    "temperature 4": dict(temperature=4.0),
}
SCORED = ("teacher", "cut every", "cut spread", "cut lowest")  # nobody trains them


def measure(name: str, distilling: Distilling, base: Path, label: str,
            chunks: int = EXAM) -> dict[str, Any]:
    """Train, or just score, one row; returns its result as plain values."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = build(MODEL, distilling, base, label, Path(folder))
        model, curve = trainer.model, list[Any]()
        if name == "teacher":
            model = teacher_of(trainer)
        elif name not in SCORED:
            trainer.run()
            if trainer.stopped:
                raise KeyboardInterrupt
            curve = [[look["step"], round(look["loss"], 4), round(look["accuracy"], 4)]
                     for look in read_metrics(Path(folder), "val")]
    chosen = spread(len(trainer.val), chunks)
    parts = [chosen[n : n + 64] for n in range(0, len(chosen), 64)]
    score = evaluate(model, (trainer.val.frozen(part, trainer.masker) for part in parts),
                     trainer.device, trainer.dtype)
    train, header = trainer.batches.data, trainer.val.header
    return {
        "name": name, "label": label, "source": header.origin.source,
        "held_out": header.origin.unit, "train_tokens": train.ids.size, "data_seed": header.seed,
        "val_loss": score.loss, "val_accuracy": score.accuracy, "masked_words": score.count,
        "exam_chunks": len(chosen), "tokens": trainer.tokens, "steps": trainer.step,
        "minutes": trainer.seconds / 60, **trainer.learner.conditions(),
        "parameters": model.n_parameters(), "distilling": asdict(distilling), "curve": curve,
    }


def speeds(base: Path, label: str, rounds: int) -> dict[str, Any]:
    """Seconds of one core that teacher and student take, turn by turn; medians.

    On one thread, by the clock of the process: other work beside it hardly counts.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        plain, taught = (build(MODEL, Distilling(**ROWS[name]), base, label, Path(folder))
                         for name in ("plain", "distilled"))
    models = {"teacher": teacher_of(taught), "student": taught.model}
    batch = taught.fetch(0.0)
    ids = batch.micro[0].input_ids  # [B, T]
    few, hole = ids[:1, :32], torch.tensor([7])
    jobs: dict[str, Callable[[], Any]] = {
        "a step, plain": lambda: plain.train_step(batch.micro, batch.masked),
        "a step, distilled": lambda: taught.train_step(batch.micro, batch.masked)}
    for name, model in models.items():
        jobs[f"{name}, blocks of a batch"] = partial(model.encoder, ids)
        jobs[f"{name}, a hidden word in 32 tokens"] = partial(model, few, hole)
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            trains = "step" in name
            plain.model.train(trains), taught.model.train(trains)
            with torch.set_grad_enabled(trains), autocast(taught.device, taught.dtype):
                job()  # warms up
                start = time.process_time()
                job()
                taken[name].append(time.process_time() - start)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    return {**taught.learner.conditions(), "rounds": rounds, "tokens": ids.numel(),
            "seconds_of_a_core": medians,
            "step_cost": medians["a step, distilled"] / medians["a step, plain"]}


def main(arguments: list[str] | None = None) -> None:
    """Run the rows that the command line names and append their results to a file."""
    parse = Parser(prog="bench distill", description=__doc__)
    parse.add_argument("--rows", nargs="+", help=", ".join((*SCORED, *ROWS)))
    parse.add_argument("--speed", action="store_true", help="measure seconds instead")
    parse.add_argument("--rounds", type=int, default=20, help="of --speed; default 20")
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--steps", type=int, default=STEPS, help=f"default {STEPS}")
    parse.add_argument("--rates", type=float, default=1.0, help="times the rates; default 1")
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--label", default=EMBEDDED)
    parse.add_argument("--out", type=Path, required=True, help="rows are appended, speeds written")
    given = parse.parse_args(arguments)
    check_output_folder(given.out.parent)
    base = base_folder(given.base)
    if given.speed:
        return write_json(given.out, speeds(base, given.label, given.rounds))
    for name in given.rows or ROWS:
        if name not in (*SCORED, *ROWS):
            raise InputError(f"There is no row '{name}'. {nearest(name, (*SCORED, *ROWS))}")
    for name in given.rows or ROWS:
        result = measure(name, recipe(name, given.seed, given.steps, given.rates), base,
                         given.label)
        add_record(given.out, result)
        print(f"{name:20} loss {result['val_loss']:.3f}  accuracy {result['val_accuracy']:.2%}",
              flush=True)
    return None


def recipe(name: str, seed: int, steps: int, rates: float) -> Distilling:
    """The settings of a row; one that has steps of its own has them in proportion."""
    changes = ROWS.get(name, {"take": name.removeprefix("cut ")} if "cut" in name else {})
    changes = {"learning_rate": rates * Distilling.learning_rate,
               "matrix_learning_rate": rates * Distilling.matrix_learning_rate, **changes}
    longer = changes.get("max_iters", STEPS) / STEPS
    return Distilling(**changes | dict(seed=seed, max_iters=round(longer * steps),
                                        val_chunks=128, final_chunks=128, val_interval=50))
