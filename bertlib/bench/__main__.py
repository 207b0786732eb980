"""How fast it all is: training beside Hugging Face's BERT, preparing, loading, guessing.

Example usage:
python -m bertlib.bench --layers 6 --width 256 --batch 32 --rounds 5 --json speed.json
python -m bertlib.bench prepare --megabytes 500 --rounds 3
python -m bertlib.bench load --tokens 100000000
python -m bertlib.bench ablate levers --minutes 2 --out levers.jsonl
python -m bertlib.bench distill --rows distilled plain --seed 2 --out rows.jsonl
python -m bertlib.bench experts --model wiki/runs/run0 --out experts.jsonl
python -m bertlib.bench finetune periods --seed 1 --out assets/09_finetune/periods.jsonl
python -m bertlib.bench overlap --base wiki --label english
python -m bertlib.bench guess --clicks 100
python -m bertlib.bench race --seed 1 --out assets/10_gpt/race.jsonl
python -m bertlib.bench texts --model wiki/runs/run0 --out assets/10_gpt
python -m bertlib.bench notebooks --json costs.json
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from bertlib.bench.ablate import main as ablate
from bertlib.bench.contest import MASK_RATE, Contest, contestants, hugging_face
from bertlib.bench.data import bench_load, bench_prepare
from bertlib.bench.distill import main as distill
from bertlib.bench.experts import bench_experts
from bertlib.bench.finetune import main as finetune
from bertlib.bench.overlap import bench_overlap
from bertlib.bench.race import bench_race
from bertlib.bench.texts import bench_texts
from bertlib.bench.train import Peaks, memory_of, summarise, time_rounds
from bertlib.huggingface import load
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.device import machine_name, measured_bandwidth, pick_device
from bertlib.plumbing.files import PROJECT, InputError, check_output_folder, nearest
from bertlib.plumbing.records import write_json
from bertlib.widget import Highlighter


def parser() -> argparse.ArgumentParser:
    """The options of the training benchmark: those of `Contest`, and what to do with it."""
    parse = Parser(prog="bench", description=__doc__)
    for field in fields(Contest):
        parse.add_argument(f"--{field.name}", type=field.type, default=field.default,
                           help=f"default {field.default}")
    parse.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parse.add_argument("--no-memory", action="store_true",
                       help="leave out the extra process that measures each one's memory")
    parse.add_argument("--compiled", action="store_true",
                       help="also Hugging Face's model under torch.compile (needs g++)")
    parse.add_argument("--memory-of", metavar="NAME", help=argparse.SUPPRESS)
    return parse


def bench_train(arguments: list[str]) -> None:
    """Compare, print the table, write the figures."""
    options = parser().parse_args(arguments)
    contest = Contest(**{field.name: getattr(options, field.name) for field in fields(Contest)})
    device = pick_device(contest.device)
    named = {contestant.name: contestant
             for contestant in contestants(device, options.compiled)}
    if options.memory_of:
        print(memory_of(named[options.memory_of], contest, device))
        return
    hugging_face()  # refuse at once if it is missing
    if options.json:
        check_output_folder(options.json.parent)
    if not any(contestant.dtype is torch.bfloat16 for contestant in named.values()):
        print("This machine has no bfloat16 instructions (a step would take minutes), so those "
              "lines are left out.")
    memory = {}  # first, while this process is small and leaves the most to the others
    if not options.no_memory:
        memory = {name: ask_memory(name, arguments) for name in named}
    timings, peaks = time_rounds(contest, device, list(named.values()))
    lines = summarise(contest, timings, peaks)
    for name, line in lines.items():
        line["memory_bytes"] = memory.get(name)
    print(table(lines, device), describe_peak(peaks, device), sep="\n")
    if options.json:
        write_json(options.json, conditions(contest, device, peaks) | {"lines": lines})


def ask_memory(name: str, arguments: list[str]) -> int:
    """Bytes that one contestant takes, measured in a process of its own."""
    command = [sys.executable, "-m", "bertlib.bench", "train", *arguments, "--memory-of", name]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return int(done.stdout.split()[-1])


def table(lines: dict[str, dict[str, Any]], device: torch.device) -> str:
    """One line a contestant; a dash where there is nothing to say."""
    def show(value: float | None, form: str, scale: float = 1.0) -> str:
        return "-" if value is None else format(value / scale, form)

    share = "MFU" if device.type == "cuda" else "of peak"
    heads = ("tokens/s", "x best HF", "x its equal", "GFLOP/s", share, "MB")
    rows = [" " * 40 + "".join(f"{head:>13}" for head in heads)]
    for name, line in lines.items():
        values = (
            show(line["tokens_per_second"], ",.0f"), show(line["to_best"], ".2f"),
            show(line["to_equal"], ".2f"), show(line["flops_per_second"], ",.0f", 1e9),
            show(line["share_of_peak"], ".0%"), show(line["memory_bytes"], ",.0f", 1e6),
        )
        rows.append(f"{name:40}" + "".join(f"{value:>13}" for value in values))
    return "\n".join(rows)


def describe_peak(peaks: Peaks, device: torch.device) -> str:
    """What the last but one column is a share of."""
    kind = "data sheet, bf16" if device.type == "cuda" else "matrix products measured in each round"
    figures = {str(dtype).removeprefix("torch."): statistics.median(measured) / 1e9
               for dtype, measured in peaks.items()}
    said = ", ".join(f"{name} {value:,.0f}" if value else f"{name} unknown"
                     for name, value in figures.items())
    return f"Peak in GFLOP/s ({kind}): {said}. GFLOP/s count what each way to compute needs."


def conditions(contest: Contest, device: torch.device, peaks: Peaks) -> dict[str, Any]:
    """All that the figures depend on, as plain values."""
    return {
        **asdict(contest), "mask_rate": MASK_RATE, "machine": machine_name(device),
        "device": str(device), "threads": torch.get_num_threads(),
        "torch": str(torch.__version__), "transformers": version("transformers"),
        "bandwidth": measured_bandwidth(device),
        "peak_flops": {str(dtype).removeprefix("torch."): p for dtype, p in peaks.items()},
    }


def bench_guess(arguments: list[str]) -> None:
    """Time clicks in the highlighter: one word of a text of 128 tokens is hidden and guessed."""
    parse = Parser(prog="bench guess", description=bench_guess.__doc__)
    parse.add_argument("--clicks", type=int, default=100, help="default 100")
    clicks = parse.parse_args(arguments).clicks
    if clicks < 1:
        raise InputError(f"--clicks is {clicks}; it must be at least 1.")
    model, tokenizer = load()
    page = Highlighter(model, tokenizer, "the king went to the sea and saw the ship . " * 12)
    ids, seconds = page.opening["ids"], []
    for click in range(clicks):
        place = 1 + click % (len(ids) - 2)
        hidden = [*ids[:place], tokenizer.special.mask, *ids[place + 1 :]]
        start = time.perf_counter()
        page.answer({"guess": hidden, "positions": [place], "truths": [ids[place]]})
        seconds.append(time.perf_counter() - start)
    slow = sorted(seconds)[int(0.95 * (clicks - 1))]
    print(f"{len(ids)} tokens, {model.n_parameters() / 1e6:.1f} million parameters, "
          f"{torch.get_num_threads()} threads, {machine_name(torch.device('cpu'))}: median "
          f"{1e3 * statistics.median(seconds):.0f} ms a click, 95 of 100 within "
          f"{1e3 * slow:.0f} ms")


def run_notebook(path: Path) -> tuple[float, float]:
    """Execute a notebook as its test does: (seconds, MB of its largest process)."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute",
             "--log-level=ERROR", "--output-dir", folder, str(path)], check=True,
            env=os.environ | {"BERTLIB_PRESET": "smoke", "OMP_NUM_THREADS": "2"},
            stderr=subprocess.DEVNULL)
    import resource  # not on Windows

    seconds = time.perf_counter() - start
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit / 1e6


def bench_notebooks(arguments: list[str]) -> None:
    """Run notebooks, each from a process of its own; print seconds and memory of each."""
    parse = Parser(prog="bench notebooks", description=bench_notebooks.__doc__)
    parse.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    parse.add_argument("--one", type=Path, metavar="NOTEBOOK", help="this one only")
    options = parse.parse_args(arguments)
    if options.one:
        print(*run_notebook(options.one))
        return
    costs = {}
    for path in sorted((PROJECT / "notebooks").glob("*.ipynb")):
        command = [sys.executable, "-m", "bertlib.bench", "notebooks", "--one", str(path)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        seconds, memory = map(float, done.stdout.split()[-2:])
        costs[path.stem] = {"seconds": round(seconds), "megabytes": round(memory, -1)}
        print(f"{path.stem:20} {seconds:4.0f} s {memory:6,.0f} MB")
    if options.json:
        write_json(options.json, {"machine": machine_name(torch.device("cpu")), "costs": costs})


COMMANDS = {"train": bench_train, "prepare": bench_prepare, "load": bench_load,
            "overlap": bench_overlap, "ablate": ablate, "finetune": finetune,
            "distill": distill, "experts": bench_experts, "guess": bench_guess,
            "race": bench_race, "texts": bench_texts, "notebooks": bench_notebooks}


def main(arguments: list[str] | None = None) -> None:
    """Run the benchmark that the first word names; `train` if there is none."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0].startswith("-"):
        arguments = ["train", *arguments]
    name, *rest = arguments
    if name not in COMMANDS:
        raise InputError(f"There is no benchmark '{name}'. {nearest(name, COMMANDS)}")
    COMMANDS[name](rest)


if __name__ == "__main__":
    sys.exit(run_command(main))
