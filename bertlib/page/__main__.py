"""A model becomes one HTML file: python -m bertlib.page --model wiki/runs/run0 guess.html"""

import sys
from pathlib import Path

from bertlib.huggingface import MODEL, load
from bertlib.page import WEIGHTS, check_published, document, pack, puzzles
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import atomic_write, check_output_folder


def main(arguments: list[str] | None = None) -> None:
    """Write the page of a model and print how large it is."""
    parse = Parser(prog="bertlib.page", description=__doc__)
    parse.add_argument("output", type=Path, help="the HTML file to write")
    parse.add_argument("--model", type=Path, default=MODEL, help="a folder that holds a model")
    parse.add_argument("--weights", choices=WEIGHTS, default="bf16",
                       help="bf16 (default) keeps the guesses, int8 makes a smaller file")
    parse.add_argument("--title", help="what stands above it (What MODEL guesses)")
    given = parse.parse_args(arguments)
    check_output_folder(given.output.parent)
    model, tokenizer = load(given.model)
    check_published(model.config, f"The model in '{given.model}'")
    content = pack(model, tokenizer, given.weights)
    title = given.title or f"What {given.model.resolve().name} guesses"
    page = document(content, title, puzzles(model.config, tokenizer)).encode()
    with atomic_write(given.output) as stream:
        stream.write(page)
    print(f"{given.output}: {len(page):,} bytes, of which the model in {given.weights} is "
          f"{len(content):,} before base64")


if __name__ == "__main__":
    sys.exit(run_command(main))
