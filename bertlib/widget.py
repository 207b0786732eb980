"""The page on which one hides words, in a notebook: Python answers what it asks.

    Highlighter(model, tokenizer, text="the king went to the sea .", hide=[2])

The page is that of `bertlib.page`, and `answer` is to it what `worker.js` is in a file: the same
questions, the same answers. What is hidden, guessed and scored is the page's own affair. Where no
kernel runs, the HTML of `bertlib.highlight` stands in its place (see `bertlib.plumbing.live`).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from bertlib import highlight, page
from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.masking import Masked
from bertlib.plumbing.files import InputError
from bertlib.plumbing.live import LivePage
from bertlib.plumbing.page import Page
from bertlib.predict import attention_maps, guess_hidden, guess_page
from bertlib.tokens import Tokenizer

TITLE = "Hidden words and what the model guesses"
Facts = dict[str, Any]


def script() -> str:
    """The page as one module of JavaScript, with the body and the style that it fills."""
    inside = {"BODY": page.read("body.html"), "STYLE": page.read("page.css")}
    told = "".join(f"const {name} = {json.dumps(text)};\n" for name, text in inside.items())
    return told + page.read(*page.INSTRUMENT, "widget.js")


class Highlighter(LivePage):
    """An interactive page for one model or several.

    models: a model, or a dictionary name -> model, of which the first one answers and another can
    be compared. hide: places of tokens that are hidden when the page opens. puzzles: a dataset, for
    its frozen masks; without one, the passages of `bertlib.page`. `InputError` if there is no text,
    or no word at a place.
    """

    _esm = script()
    facts = traitlets.Dict().tag(sync=True)

    def __init__(self, models: BertForMaskedLM | Mapping[str, BertForMaskedLM],
                 tokenizer: Tokenizer, text: str = "the king went to the [MASK] .",
                 hide: Sequence[int] = (), puzzles: Dataset | None = None, seed: int = 0,
                 title: str = TITLE):
        super().__init__()
        self.models = models if isinstance(models, Mapping) else {"model": models}
        self.tokenizer, self.puzzles, self.title = tokenizer, puzzles, title
        self.generator = torch.Generator().manual_seed(seed)
        self.opening = self.read(text)
        self.opening["hidden"] = self.places(hide, len(self.opening["ids"]))
        config = self.model().config
        passages = [] if puzzles else page.puzzles(config, tokenizer)
        self.facts = {"title": title, "mask": tokenizer.special.mask, "layers": config.n_layer,
                      "heads": config.n_head, "models": list(self.models),
                      "opening": self.opening, "passages": [list(told) for told in passages]}
        self.on_msg(lambda _widget, asked, _buffers: self.send(self.reply(asked)))

    # -- what is asked ---------------------------------------------------------------------------

    def reply(self, asked: Any) -> Facts:
        """The answer with the number of its question, or {"error": one sentence}."""
        number = asked.get("number") if isinstance(asked, dict) else None
        try:
            told = self.answer(asked if isinstance(asked, dict) else {})
        except InputError as error:
            told = {"error": str(error)}
        return {"number": number if type(number) is int else None} | told

    def answer(self, asked: Facts) -> Facts:
        """What `worker.js` answers to {"guess": ...}, here of the model that "model" names; to
        {"deal": true} the next puzzle. `InputError` if that cannot be.

        Of attention comes one "row" only, as [H * T].
        """
        if asked.get("deal") is True and self.puzzles:
            return self.deal()
        told = self.read(asked.get("guess"))
        ids, size = torch.tensor([told["ids"]]), len(self.tokenizer)  # [1, T]
        positions = self.places(asked.get("positions"), ids.shape[1])
        truths = asked.get("truths") or [None] * len(positions)
        if not isinstance(truths, list) or len(truths) != len(positions) or not all(
                truth is None or _whole(truth, size) for truth in truths):
            raise InputError(f"A true word is no id below {size}, or one is missing.")
        model = self.model(asked.get("model"))
        told |= self.guesses(model, ids, positions, truths, asked.get("top", 5))
        return told | {"positions": positions, "attention": self.reads(model, ids, asked)}

    def deal(self) -> Facts:
        """A chunk of the puzzles, with its frozen places hidden."""
        assert self.puzzles is not None
        number = int(torch.randint(len(self.puzzles), (), generator=self.generator))
        special, longest = self.tokenizer.special, self.longest()
        ids = [token for token in self.puzzles.chunks(slice(number, number + 1))[0].tolist()
               if token != special.pad][:longest]
        hidden = [place for place in self.puzzles.positions[number].tolist() if place < len(ids)]
        return self.spell(ids) | {"hidden": hidden,
                                  "message": f"Puzzle {number}: a text that was kept for testing."}

    # -- what is answered ------------------------------------------------------------------------

    def model(self, name: Any = None) -> BertForMaskedLM:
        """The model of that name, or the one that is asked first."""
        name = next(iter(self.models)) if name is None else name
        if not isinstance(name, str) or name not in self.models:
            raise InputError(f"There is no such model; there are: {', '.join(self.models)}.")
        return self.models[name]

    def longest(self) -> int:
        """Tokens that all models can read."""
        return min(model.config.seq_len for model in self.models.values())

    def read(self, asked: Any) -> Facts:
        """Text, or a list of ids, in pieces: text, ids, tokens, offsets in it, and a message."""
        if isinstance(asked, list) and 0 < len(asked) <= self.longest() and all(
                _whole(token, len(self.tokenizer)) for token in asked):
            return self.spell(asked)
        if not isinstance(asked, str):
            raise InputError(f"What is asked is neither text nor a list of 1 to {self.longest()} "
                             f"ids below {len(self.tokenizer)}.")
        ids, offsets, text, message = highlight.read_typed(self.tokenizer, asked, self.longest())
        return {"text": text, "ids": ids, "tokens": self.tokenizer.tokens(ids),
                "offsets": _as_javascript(text, offsets), "message": message}

    def spell(self, ids: list[int]) -> Facts:
        """Ids as a text: words with a space between them, pieces joined, no [CLS] and no [SEP]."""
        text, offsets = "", []
        for token, name in zip(ids, names := self.tokenizer.tokens(ids), strict=True):
            silent = token in (self.tokenizer.special.cls, self.tokenizer.special.sep)
            piece = name.startswith("##") and text
            text += "" if silent or piece or not text else " "
            start = len(text)
            text += "" if silent else name.removeprefix("##")
            offsets.append((start, len(text)))
        return {"text": text, "ids": ids, "tokens": names,
                "offsets": _as_javascript(text, offsets), "message": ""}

    def places(self, asked: Any, size: int) -> list[int]:
        """Places of tokens between the two ends of a text of `size` tokens."""
        inside = isinstance(asked, Sequence) and not isinstance(asked, str)
        if not inside or not all(_whole(place, size - 1) and place for place in asked):
            raise InputError(f"A position is none of a word's, which are 1 to {size - 2}.")
        return list(asked)

    def guesses(self, model: BertForMaskedLM, ids: Tensor, positions: list[int],
                truths: list[int | None], top: Any) -> Facts:
        """The `top` best tokens for each place, their ids, and how each true id fares."""
        if not _whole(top, len(self.tokenizer) + 1) or not top:
            raise InputError(f"The number of guesses must lie between 1 and {len(self.tokenizer)}.")
        labels = [-1 if truth is None else truth for truth in truths]
        puzzle = Masked(ids, *(torch.tensor(column, dtype=torch.long)
                               for column in (positions, labels)))
        holes = guess_page(model, self.tokenizer, puzzle, top).holes
        to_id = self.tokenizer.backend.token_to_id
        return {"guesses": [hole.guesses for hole in holes],
                "choices": [[to_id(guess.token) for guess in hole.guesses] for hole in holes],
                "ranks": [None if hole.rank is None else [hole.rank, hole.probability]
                          for hole in holes]}

    def reads(self, model: BertForMaskedLM, ids: Tensor, asked: Facts) -> list[float] | None:
        """How each head of a layer spreads over all tokens for one of them: [H * T]."""
        layer, row = asked.get("layer"), asked.get("row")
        if layer is None:
            return None
        if not _whole(layer, model.config.n_layer) or not _whole(row, ids.shape[1]):
            raise InputError(f"The layers are 0 to {model.config.n_layer - 1}, the rows 0 to "
                             f"{ids.shape[1] - 1}.")
        return attention_maps(model, ids)[layer, 0, :, row].flatten().tolist()

    # -- what stands where no kernel runs ----------------------------------------------------------

    def page(self, name: str | None = None) -> Page:
        """What a model says of the page as it opens."""
        hidden = [*self.opening["hidden"], *(
            place for place, token in enumerate(self.opening["ids"])
            if token == self.tokenizer.special.mask)]
        return guess_hidden(self.model(name), self.tokenizer, self.opening["ids"], hidden)

    def still(self) -> tuple[str, str]:
        """What stands for the page where no kernel runs: HTML, and text."""
        told = self.page()
        text = "\n".join((highlight.page_text(told), highlight.summary(told),
                          highlight.guesses_text(told)))
        return highlight.page_html(told, self.title), text


def _whole(value: Any, end: int) -> bool:
    """Whether `value` is one of 0, 1, ... up to `end`, which is left out; no 2.0 and no True."""
    return type(value) is int and 0 <= value < end


def _as_javascript(text: str, offsets: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Offsets as JavaScript counts letters: two for a character beyond 16 bits."""
    at = [0]
    for sign in text:
        at.append(at[-1] + 1 + (ord(sign) > 0xFFFF))
    return [[at[start], at[end]] for start, end in offsets]
