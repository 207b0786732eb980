"""A run becomes a folder that travels: python -m bertlib.huggingface wiki/runs/run0 my-model"""

import sys
from pathlib import Path

from bertlib.huggingface import export
from bertlib.plumbing.commands import run_command
from bertlib.plumbing.files import InputError


def main(arguments: list[str] | None = None) -> None:
    """Turn a run's newest checkpoint into a folder that travels."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        raise InputError("Pass two folders: a run and where to write, such as wiki/runs/run0 "
                         "assets/model.")
    print(export(*map(Path, given)))


if __name__ == "__main__":
    sys.exit(run_command(main))
