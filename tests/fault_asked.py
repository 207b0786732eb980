"""What people ask for, at random: options, notebook parameters, texts, clicks."""

import json
import os
import random
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import torch
from fault_fuzz import ONLY, Example, batch
from fault_kinds import Kind
from fault_museum import RUN
from fault_random import WORDS, some_text, some_value
from IPython.core.interactiveshell import InteractiveShell

import bertlib
from bertlib import highlight, predict
from bertlib.data import load_dataset
from bertlib.parameters import KINDS as TYPES
from bertlib.parameters import command_request, watch_cells
from bertlib.plumbing.page import Guess, Hole, Page
from bertlib.prepare_mlm_dataset import PrepareConfig, parser
from bertlib.settings import CHOICES, PRESETS, Settings
from bertlib.widget import Highlighter

NAMES = [*TYPES, "preset", "base", "label", "resume"]
PREPARE = ("--input", "--label", "--output", "--max-len", "--vocab", "--seed", "--segment",
           "--documents")


def likely(draw: random.Random, name: str) -> Any:
    """A value for a setting: one that it may have, or any."""
    if draw.random() < 0.5:
        return some_value(draw)
    known = {name: tuple(words) for name, words in ({"preset": PRESETS} | CHOICES).items()}
    if name in known:
        return draw.choice(known[name])
    return {int: draw.choice((1, 2, 8, 32, 128)), float: draw.choice((0, 0.1, 0.5, 1, 3)),
            bool: draw.random() < 0.5}.get(TYPES.get(name), draw.choice(WORDS))


def options(base: Path) -> Example:
    """An example of the options of `pretrain-bert`, or of `prepare-mlm-dataset`."""
    os.chdir(base)

    def example(draw: random.Random) -> str | None:
        arguments: list[str] = []
        prepares = draw.random() < 0.3
        for _ in range(draw.randint(0, 6)):
            name = draw.choice([*PREPARE, "-m", "-s"] if prepares else NAMES)
            name = name if prepares else f"--{name.replace('_', '-')}"
            if draw.random() < 0.1:
                name = draw.choice(WORDS)
            value = str(likely(draw, name.strip("-").replace("-", "_")))
            arguments += [f"{name}={value}"] if draw.random() < 0.7 else [name, value]
        if prepares:
            PrepareConfig(**vars(parser().parse_args(arguments)) | {"seed": 1})
            return None
        return of_wrong_type(command_request("", arguments).settings)

    return example


def settings(base: Path) -> Example:
    """An example of settings by their names."""
    def example(draw: random.Random) -> str | None:
        names = [draw.choice(NAMES[:-4]) for _ in range(draw.randint(1, 4))]
        return of_wrong_type(Settings.make(draw.choice([*PRESETS, "cpu", draw.choice(WORDS)]),
                                           **{name: likely(draw, name) for name in names}))

    return example


def of_wrong_type(made: Settings) -> str | None:
    """What is told of a setting that is not of its own type; None if all are."""
    wrong = [name for name, kind in TYPES.items() if type(getattr(made, name)) is not kind]
    return f"a setting of another type is taken: {', '.join(wrong)}" if wrong else None


FIRST = "preset, base, label, resume = 'smoke', None, 'english', 'auto'"
ASK = """
from bertlib.parameters import *
changes = notebook_settings(globals())
places = [as_text("label", label), as_text("resume", resume), base_folder(base)]
settings = Settings.make(choose_preset(preset), **changes)
"""


def notebook(base: Path) -> Example:
    """An example of notebook 07's parameters, as papermill writes them."""
    os.chdir(base)
    shell = InteractiveShell(ipython_dir=str(base))

    def example(draw: random.Random) -> str | None:
        shell.reset()
        watch_cells(shell)
        shell.user_ns |= {"nan": float("nan"), "inf": float("inf")}
        names = [draw.choice([*NAMES, "_i3", "In", "x"]) for _ in range(draw.randint(1, 4))]
        injected = "# Parameters\n" + "".join(f"{n} = {likely(draw, n)!r}\n" for n in names)
        for cell in (FIRST, injected, ASK):
            done = shell.run_cell(cell)
            if cell == ASK and done.error_in_exec:
                raise done.error_in_exec
            if not done.success:
                return None  # the reader's own cell is no Python
        return of_wrong_type(shell.user_ns["settings"])

    return example


# -- texts ---------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Collects what a browser would take for markup that the page does not have of itself."""

    TAGS = {"p", "b", "s", "sup", "mark", "span", "table", "tr", "th", "td", "h1", "html", "head",
            "meta", "title", "style", "body"}
    ATTRIBUTES = {"style", "class", "lang", "charset", "name", "content"}

    def __init__(self):
        super().__init__()
        self.strange: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        """Note what is strange."""
        self.strange += {tag} - self.TAGS | {name for name, _ in attrs} - self.ATTRIBUTES


def some_page(draw: random.Random) -> Page:
    """A page with any tokens in it that a file can hold."""
    def token() -> str:
        return some_text(draw, 4).encode(errors="ignore").decode()

    tokens = [token() for _ in range(draw.randint(1, 9))]
    places = sorted(draw.sample(range(len(tokens)), draw.randint(0, len(tokens))))
    holes = tuple(Hole(place, tuple(Guess(token(), draw.random()) for _ in range(3)),
                       tokens[place], draw.randint(1, 99), draw.random()) for place in places)
    return Page(tuple(tokens), holes)


def pages(base: Path) -> Example:
    """An example of a page with any tokens, shown in every way."""
    def example(draw: random.Random) -> str | None:
        page, tags = some_page(draw), Tags()
        tags.feed(highlight.page_html(page, page.tokens[0]) + highlight.inline_html(page))
        highlight.page_text(page), highlight.guesses_text(page)
        return f"a token becomes markup: {tags.strange[0]}" if tags.strange else None

    return example


def texts(base: Path) -> Example:
    """An example of a text that is read, guessed and scored."""
    torch.set_num_threads(1)
    model, tokenizer = bertlib.load(base / RUN)

    def example(draw: random.Random) -> None:
        text = some_text(draw)
        ids = tokenizer.encode(text)
        tokenizer.decode(ids), tokenizer.tokens(ids), tokenizer.encode_batch([text, ""])
        predict.word_shares(model, tokenizer, torch.tensor(ids[:model.config.seq_len]))
        predict.fill(model, tokenizer, text, draw.choice((1, 5, 0, -1, 10**9)))

    return example


FIELDS = ("guess", "positions", "truths", "top", "layer", "row", "model", "deal", "number", "x")


def clicks(base: Path) -> Example:
    """An example of questions that a page asks the highlighter."""
    torch.set_num_threads(1)
    model, tokenizer = bertlib.load(base / RUN)
    data = load_dataset(next((base / "datasets").glob("val*.gz")), tokenizer)

    def example(draw: random.Random) -> None:
        page = Highlighter({"a": model, "b": model}, tokenizer, some_text(draw), data)
        for _ in range(5):
            asked = {"guess": some_text(draw)}
            for field in FIELDS:
                if draw.random() < 0.3:
                    asked[field] = draw.choice((
                        some_value(draw), draw.randint(-2, 30), some_text(draw),
                        [draw.randint(-1, 9) for _ in range(draw.randint(0, 4))]))
            json.dumps(page.reply(asked if draw.random() < 0.95 else some_value(draw)),
                       allow_nan=False)
        page.still()

    return example


BOTH = ("silent", *ONLY)
KINDS = [
    Kind("fuzz-options", "fuzz: options of the commands", batch("fuzz-options", 200, options),
         2.5, 1, columns=BOTH, size=200),
    Kind("fuzz-settings", "fuzz: settings of all types", batch("fuzz-settings", 200, settings),
         2.5, 1, columns=BOTH, size=200),
    Kind("fuzz-notebook", "fuzz: notebook parameters", batch("fuzz-notebook", 10, notebook),
         3, 0.5, columns=BOTH, size=10),
    Kind("fuzz-texts", "fuzz: texts to read and to guess", batch("fuzz-texts", 50, texts),
         3.5, 1, columns=ONLY, size=50),
    Kind("fuzz-pages", "fuzz: pages of any tokens", batch("fuzz-pages", 100, pages),
         2.5, 0.5, columns=BOTH, size=100),
    Kind("fuzz-clicks", "fuzz: clicks on the highlighter", batch("fuzz-clicks", 10, clicks),
         3, 1, columns=ONLY, size=10),
]
