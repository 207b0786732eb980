"""Distil a model: a folder that holds the teacher in, a folder that holds the student out.

Example usage:
python -m bertlib.distill --teacher assets/model --layers 2 --out small --max-iters 500

Both bertlib and transformers load the student, if the teacher is a BERT as published.
"""

import sys
from dataclasses import fields
from pathlib import Path

from bertlib.data import EMBEDDED
from bertlib.distill import Distilling, distill
from bertlib.huggingface import MODEL
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser, run_command


def parser() -> Parser:
    """The command's options: where things are, and one for each of the settings."""
    parse = Parser(prog="bertlib.distill", description=__doc__)
    add = parse.add_argument
    add("--teacher", type=Path, default=MODEL, help="a model's folder (default: the course's)")
    add("--out", type=Path, required=True, help="the folder to make")
    add("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    add("--label", default=EMBEDDED, help=f"of the datasets to train on (default {EMBEDDED})")
    add("--resume", default="auto", help="auto, never, or the path of a run")
    for field in fields(Distilling):
        add(f"--{field.name.replace('_', '-')}", type=field.type, default=field.default,
            metavar="VALUE", help=f"default {field.default}")
    return parse


def main(arguments: list[str] | None = None) -> None:
    """Distil as the command line says and print what both are worth."""
    given = parser().parse_args(arguments)
    distilling = Distilling(**{field.name: getattr(given, field.name)
                               for field in fields(Distilling)})
    report = distill(given.teacher, given.out, distilling, base_folder(given.base), given.label,
                     given.resume, progress=True)
    if report is None:
        raise KeyboardInterrupt("all is saved, and the same command goes on from there")
    for name, of in (("teacher", "teacher_"), ("student", "")):
        size = report[f"{of}parameters"]
        loss, accuracy = (report[f"{of or 'val_'}{what}"] for what in ("loss", "accuracy"))
        print(f"{name}: {size:,} parameters, loss {loss:.3f} nats, accuracy {accuracy:.1%} of "
              f"{report['masked_words']:,} hidden words")


if __name__ == "__main__":
    sys.exit(run_command(main))
