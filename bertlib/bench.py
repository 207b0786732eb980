"""How fast the data preparation is, beside the tokenizer alone, on text of any size.

Example usage:
python -m bertlib.bench --megabytes 500 --rounds 3
"""

import argparse
import math
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bertlib.corpus import open_text
from bertlib.files import PROJECT, run_command
from bertlib.prepare_mlm_dataset import PrepareConfig, batches, prepare
from bertlib.pretrain import embedded_corpus
from bertlib.tokens import Tokenizer

VOCAB = PROJECT / "wiki" / "vocab"


def repeat_corpus(path: Path, megabytes: float) -> None:
    """Write the embedded corpus to `path` as often as it takes to have so many megabytes."""
    with open_text(embedded_corpus(PROJECT / "wiki")) as source:
        text = source.read().encode()
    with path.open("wb") as stream:
        for _ in range(math.ceil(megabytes * 1e6 / len(text))):
            stream.write(text)


def time_tokenizer(text: Path) -> float:
    """Seconds that `encode_batch_fast` alone takes for the text, in the batches of `prepare`."""
    tokenizer, seconds = Tokenizer.load(VOCAB), 0.0
    for texts, _ in batches(PrepareConfig(text, "bench", text.parent, VOCAB)):
        start = time.perf_counter()
        tokenizer.encode_batch(texts)
        seconds += time.perf_counter() - start
    return seconds


def time_prepare(text: Path) -> float:
    """Seconds that the whole preparation takes, files written."""
    start = time.perf_counter()
    prepare(PrepareConfig(text, "bench", text.parent, VOCAB))
    return time.perf_counter() - start


TIMERS = {"tokenizer": time_tokenizer, "prepare": time_prepare}


def measure(what: str, text: Path) -> tuple[float, float]:
    """(seconds, peak memory in MB) of one timer in a process of its own."""
    command = [sys.executable, "-m", "bertlib.bench", "--timer", what, "--text", str(text)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, memory = map(float, done.stdout.split())
    return seconds, memory


def main(arguments: list[str] | None = None) -> None:
    """Alternate the two timers over some rounds and print speeds, ratio and memory."""
    parse = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parse.add_argument("--megabytes", type=float, default=100.0, help="of text (default 100)")
    parse.add_argument("--rounds", type=int, default=3)
    parse.add_argument("--timer", choices=TIMERS, help=argparse.SUPPRESS)
    parse.add_argument("--text", type=Path, help=argparse.SUPPRESS)
    options = parse.parse_args(arguments)
    if options.timer:
        seconds = TIMERS[options.timer](options.text)
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3)
        return
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "text.txt"
        repeat_corpus(text, options.megabytes)
        size = text.stat().st_size / 1e6
        seconds: dict[str, list[float]] = {name: [] for name in TIMERS}
        for _ in range(options.rounds):
            for name, results in seconds.items():
                taken, memory = measure(name, text)
                results.append(taken)
                print(f"{name:10} {size / taken:6.2f} MB/s, peak {memory:,.0f} MB")
    ratios = [a / b for a, b in zip(seconds["tokenizer"], seconds["prepare"], strict=True)]
    print(f"prepare runs at {statistics.median(ratios):.0%} of the tokenizer's own speed "
          f"(median of {options.rounds} rounds, {size:,.0f} MB)")


if __name__ == "__main__":
    sys.exit(run_command(main))
