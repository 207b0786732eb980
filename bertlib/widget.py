"""The masked-prediction highlighter: hide words of a sentence and see what a model guesses.

    Highlighter(model, tokenizer, text="the king went to the sea .")

All that the page (`widget.js`) shows is one dictionary, `state`; all that it can ask for is a
command such as {"do": "toggle", "index": 3}, which `receive` answers by making a new state. Where
no kernel runs, the HTML of `bertlib.highlight` stands in its place (see `bertlib.plumbing.live`).
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import traitlets

from bertlib import highlight
from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.highlight import percent, summary
from bertlib.masking import Masked, Masker, MaskingConfig
from bertlib.plumbing.files import InputError, atomic_write
from bertlib.plumbing.live import LivePage
from bertlib.predict import Page, attention_maps, guess_page, word_shares
from bertlib.tokens import Tokenizer

HERE = Path(__file__).parent
EXAMPLES = (
    "the king went to the city and saw the sea .",
    "she opened the door and looked at the garden .",
    "the government of the country is a republic .",
    "he was born in london and died in paris .",
)
MIME = {"html": "text/html", "png": "image/png"}
TITLE = "Hidden words and what the model guesses"


class Highlighter(LivePage):
    """An interactive page for one model or several.

    models: a model, or a dictionary name -> model, of which the first one answers and another can
    be compared. puzzles: a dataset, for its frozen masks. Text that is empty, too long, broken or
    not in the vocabulary gets a plain sentence in state["message"].
    """

    _esm = HERE / "widget.js"
    _css = HERE / "widget.css"
    state = traitlets.Dict().tag(sync=True)

    def __init__(self, models: BertForMaskedLM | dict[str, BertForMaskedLM], tokenizer: Tokenizer,
                 text: str = EXAMPLES[0], puzzles: Dataset | None = None,
                 examples: Sequence[str] = EXAMPLES, seed: int = 0):
        super().__init__()
        self.models = models if isinstance(models, dict) else {"model": models}
        self.tokenizer, self.puzzles, self.examples = tokenizer, puzzles, list(examples)
        self.generator = torch.Generator().manual_seed(seed)
        self.shown = next(iter(self.models))
        self.compared = self.message = self.text = ""
        self.head: tuple[int, int] | None = None  # layer, head
        self.selected = 1  # the token whose attention is drawn
        self.scores: list[float | None] = []
        self.puzzle = -1  # number of the puzzle on the page
        self.ids, self.masked = tokenizer.encode(""), set[int]()
        self.on_msg(lambda _widget, command, _buffers: self.receive(command))
        self.receive({"do": "read", "text": text})

    # -- what can be asked ---------------------------------------------------------------

    def receive(self, command: dict[str, Any]) -> None:
        """Carry out one command, which may hold anything, and make the new `state`.

        An unknown one changes nothing.
        """
        name = command.get("do") if isinstance(command, dict) else None
        action = getattr(self, f"do_{name}", None) if isinstance(name, str) else None
        if action is None:
            return
        self.message = ""
        if name not in ("export", "attend", "compare"):
            self.scores = []
        action(command)
        self.state = self.show()

    def do_read(self, command: dict[str, Any]) -> None:
        """Take a new text; too much of it is left out, and said. If it cannot be read, say why."""
        text = command.get("text")
        try:
            typed = highlight.read_typed(self.tokenizer, text if isinstance(text, str) else "",
                                         self.longest())
        except InputError as error:
            self.message = str(error)
            return
        self.ids, self.text, self.message = typed
        self.masked, self.selected, self.puzzle = self.typed(), 1, -1

    def do_toggle(self, command: dict[str, Any]) -> None:
        """Hide a token, or show it again."""
        index = _number(command.get("index"), len(self.ids))
        if index is None or index not in self.maskable():
            return
        if self.ids[index] == self.tokenizer.special.mask:
            self.message = "You typed [MASK] here: there is no word behind it."
            return
        self.masked ^= {index}
        self.selected = index

    def do_mask(self, command: dict[str, Any]) -> None:
        """Hide 15% of the tokens, drawn anew."""
        masker = Masker(self.tokenizer, MaskingConfig(masked=1.0, random=0.0))
        puzzle = masker(torch.tensor([self.ids]), self.generator)
        self.masked = set(puzzle.positions.tolist()) | self.typed()

    def do_clear(self, command: dict[str, Any]) -> None:
        """Show all words."""
        self.masked = self.typed()

    def do_score(self, command: dict[str, Any]) -> None:
        """Ask for each word with it alone hidden."""
        self.do_clear(command)
        shares = word_shares(self.model(), self.tokenizer, torch.tensor(self.ids))
        self.scores = [None if share.isnan() else float(share) for share in shares]
        mean = shares[sorted(self.maskable() - self.typed())].clamp(min=1e-9).log().mean()
        self.message = (f"Each word hidden in turn: mean log-probability {mean:.2f} nats, that is "
                        f"{percent(float(mean.exp()))} a word." if mean.isfinite() else
                        "There is no word to score.")

    def do_puzzle(self, command: dict[str, Any]) -> None:
        """The next chunk of the validation puzzles, with its frozen positions hidden."""
        if self.puzzles is None:
            return
        number = int(torch.randint(len(self.puzzles), (), generator=self.generator))
        ids = self.puzzles.chunks(slice(number, number + 1))[0, : self.longest()]
        special = self.tokenizer.special
        self.ids = [token for token in ids.tolist() if token != special.pad]
        places = self.puzzles.positions[number].tolist()
        self.masked = {int(place) for place in places if place < len(self.ids)}
        self.text, self.puzzle, self.selected = self.tokenizer.decode(self.ids), number, 1

    def do_compare(self, command: dict[str, Any]) -> None:
        """Ask a second model, too; an empty name asks the first one only."""
        name = command.get("name")
        known = isinstance(name, str) and name in self.models and name != self.shown
        self.compared = str(name) if known else ""

    def do_attend(self, command: dict[str, Any]) -> None:
        """Choose a head and the token that reads; layer -1 draws nothing."""
        config = self.model().config
        layer = _number(command.get("layer"), config.n_layer)
        head = _number(command.get("head"), config.n_head)
        self.head = None if layer is None or head is None else (layer, head)
        index = _number(command.get("index"), len(self.ids))
        self.selected = self.selected if index is None else index

    def do_export(self, command: dict[str, Any]) -> None:
        """Hand the page over as a file to save: "html" or "png"."""
        kind = "png" if command.get("format") == "png" else "html"
        self.send({"name": f"hidden-words.{kind}", "kind": MIME[kind],
                   "data": base64.b64encode(self.file(kind)).decode()})

    # -- what is shown -------------------------------------------------------------------

    def model(self, name: str = "") -> BertForMaskedLM:
        """The model of that name, or the one that is asked first."""
        return self.models[name or self.shown]

    def longest(self) -> int:
        """Tokens that all models can read."""
        return min(model.config.seq_len for model in self.models.values())

    def typed(self) -> set[int]:
        """Where the reader wrote [MASK]."""
        return {i for i, token in enumerate(self.ids) if token == self.tokenizer.special.mask}

    def maskable(self) -> set[int]:
        """Where a word stands."""
        special = self.tokenizer.special
        return {i for i, token in enumerate(self.ids)
                if token not in (special.cls, special.sep, special.pad)}

    def hidden_ids(self) -> torch.Tensor:
        """What the model sees: [1, T]."""
        ids = torch.tensor([self.ids])
        ids[0, sorted(self.masked)] = self.tokenizer.special.mask
        return ids

    def page(self, name: str = "", top: int = 5) -> Page:
        """The guesses of a model for all that is hidden."""
        positions = torch.tensor(sorted(self.masked), dtype=torch.long)  # [K]
        if not len(positions):
            return Page(tuple(self.tokenizer.tokens(self.ids)), ())
        labels = torch.tensor(self.ids)[positions]
        labels[labels == self.tokenizer.special.mask] = -1  # typed: nobody knows
        puzzle = Masked(self.hidden_ids(), positions, labels)
        return guess_page(self.model(name), self.tokenizer, puzzle, top)

    def column(self, name: str) -> dict[str, Any]:
        """What one model says: facts of each hole, and its table in words."""
        page = self.page(name)
        holes = [{"truth": hole.truth, "right": hole.right,
                  "guesses": [{"token": guess.token, "percent": percent(guess.probability),
                               "word": highlight.whole(page, hole, guess.token)}
                              for guess in hole.guesses]} for hole in page.holes]
        return {"name": name, "summary": summary(page), "headings": highlight.headings(page),
                "rows": highlight.rows(page), "holes": holes}

    def reads(self) -> list[float]:
        """How the chosen head of the selected token spreads over all tokens."""
        if self.head is None:
            return []
        layer, head = self.head
        maps = attention_maps(self.model(), self.hidden_ids())  # [n_layer, 1, H, T, T]
        return maps[layer, 0, head, self.selected].tolist()

    def show(self) -> dict[str, Any]:
        """Everything that the page needs, as plain values."""
        names = [self.shown, *([self.compared] if self.compared else [])]
        config = self.model().config
        return {
            "text": self.text, "tokens": self.tokenizer.tokens(self.ids),
            "maskable": sorted(self.maskable()), "masked": sorted(self.masked),
            "columns": [self.column(name) for name in names], "selected": self.selected,
            "scores": self.scores, "percents": [percent(score) for score in self.scores],
            "reads": self.reads(), "head": list(self.head or ()), "layers": config.n_layer,
            "heads": config.n_head, "models": list(self.models), "compared": self.compared,
            "examples": self.examples, "has_puzzles": self.puzzles is not None,
            "puzzle": self.puzzle, "message": self.message,
        }

    def still(self) -> tuple[str, str]:
        """What stands for the page where no kernel runs: HTML, and text."""
        page = self.page()
        text = "\n".join((highlight.page_text(page), summary(page), highlight.guesses_text(page)))
        return highlight.page_html(page, TITLE), text

    def file(self, kind: str) -> bytes:
        """The page as a picture ("png") or as a stand-alone document ("html")."""
        if kind == "png":
            return highlight.page_png(self.page())
        return highlight.document_html(self.page(), TITLE).encode()

    def save(self, path: Path) -> None:
        """Write the page to `path`: a picture for .png, a document else."""
        with atomic_write(Path(path)) as stream:
            stream.write(self.file(Path(path).suffix[1:]))


def _number(value: Any, end: int) -> int | None:
    """`value`, if it is one of 0, 1, ... up to `end`, which is left out; no 2.0 and no True."""
    return value if type(value) is int and 0 <= value < end else None
