"""The page on which one hides words: as a file without Python, and in a notebook.

    python -m bertlib.page --model FOLDER guess.html

`draw.js` turns facts into what is seen, `passage.js` has them, `share.js` is what leaves, `page.js`
and `controls.js` are the instrument around them, `body.html` and `page.css` its looks. Whatever it
asks goes through one function. In a file (`file.js`) a worker answers: `engine.js` is the forward
pass, `wordpiece.js` cuts text into pieces, `worker.js` has the questions. In a notebook Python
does, see `bertlib.widget`. `passages.json` holds messages of presidents, from documents that the
shipped model was not trained on; they are in the public domain.
Nothing is built and nothing is fetched: the file works from a disk, offline.
"""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template

import torch
from safetensors.torch import save
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.huggingface.published import TIED
from bertlib.huggingface.writing import KIND, is_published
from bertlib.plumbing.files import InputError, short
from bertlib.tokens import Tokenizer

Puzzle = tuple[str, str, int]  # where it is from, the text, the seed of the words that are hidden

HERE = Path(__file__).parent
WEIGHTS = ("int8", "bf16")
# What bears int8: three quarters of all numbers. Of 1,000 first guesses of the shipped model it
# changes 7; with attention and the head's transform, which hold what was told, it changed 43.
BEARS_INT8 = ("embeddings.token.", "head.decoder.", "feed_forward.")
TOLD = ("seq_len", "n_head", "n_layer", "norm_eps")  # to the page, of a model's shape
INSIDE = ("engine.js", "wordpiece.js", "worker.js")  # what the worker reads
INSTRUMENT = ("draw.js", "passage.js", "share.js", "page.js", "controls.js")
LONGEST_TEXT = 2**29 - 24  # characters of a string in Chromium


def check_published(config: BertConfig, which: str = "The model") -> None:
    """`InputError` unless a model is BERT as published, which is what `engine.js` computes."""
    if not is_published(config):
        other = [f"{name}={value!r}" for name in KIND
                 if (value := getattr(config, name)) != getattr(BertConfig, name)]
        other += [] if config.n_token_type else ["n_token_type=0"]
        raise InputError(f"{which} has {', '.join(other)}, and a page computes BERT as published "
                         "only; train one with the architecture 'bert', or pass published weights.")


def by_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights [n, m] as int8 [n, m] and the float of each row [n] that they are times.

    A row's largest weight is 127 or -127. Source: Jacob et al. 2018, section 2.1, without zero
    points, and with a scale for each row.
    """
    scale = weight.abs().amax(1) / 127  # [n]
    whole = weight / scale.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    return whole.round().to(torch.int8), scale


@torch.no_grad()
def pack(model: BertForMaskedLM, tokenizer: Tokenizer, weights: str = "int8") -> bytes:
    """A model and its words as the bytes that `engine.js` reads, in the format of safetensors.

    Matrices are bf16, or those of `BEARS_INT8` int8 with a float for each row; norms and biases
    float32. What else there is to know stands as JSON in the metadata, under "about". Raises
    `InputError` as `check_published` does, and if `weights` is none of `WEIGHTS`.
    """
    check_published(model.config)
    if weights not in WEIGHTS:
        raise InputError(f"weights is {short(weights)}; it must be one of {', '.join(WEIGHTS)}.")
    tensors = {}
    for name, tensor in model.state_dict().items():
        numbers = tensor.float().cpu().contiguous()
        if numbers.ndim == 1:
            tensors[name] = numbers
        elif name == TIED and model.config.tied:
            continue
        elif weights == "int8" and any(part in name for part in BEARS_INT8):
            tensors[name], tensors[f"{name}.scale"] = by_rows(numbers)
        else:
            tensors[name] = numbers.bfloat16()
    about = {"config": {name: getattr(model.config, name) for name in TOLD},
             "rules": tokenizer.rules.as_dict(), "vocab": tokenizer.vocab}
    return save(tensors, metadata={"about": json.dumps(about)})


def puzzles(config: BertConfig, tokenizer: Tokenizer) -> list[Puzzle]:
    """The passages of `passages.json` that a model can read: short enough, all words known."""
    told = json.loads((HERE / "passages.json").read_text(encoding="utf-8"))
    unknown = tokenizer.special.unk
    coded = [(puzzle, tokenizer.encode(puzzle[1])) for puzzle in map(tuple, told)]
    return [puzzle for puzzle, ids in coded
            if len(ids) <= config.seq_len and unknown not in ids]


def read(*names: str) -> str:
    """Files of this folder, one after the other."""
    return "".join((HERE / name).read_text(encoding="utf-8") for name in names)


def document(content: bytes, title: str, passages: Sequence[Puzzle] = ()) -> str:
    """The HTML file: `page.html` with the style, the scripts and the bytes of `pack` put in.

    passages: those of `puzzles`. Raises `InputError` if a browser could not hold the bytes as text.
    """
    coded = base64.b64encode(content).decode()
    if len(coded) > LONGEST_TEXT:
        raise InputError(f"The model takes {len(coded):,} characters, a browser holds at most "
                         f"{LONGEST_TEXT:,}; pass --weights int8, or a smaller model.")
    listed = json.dumps(passages, ensure_ascii=False).replace("<", r"\u003c")  # no tag can end it
    return Template(read("page.html")).substitute(
        title=html.escape(title), style=read("page.css"), body=read("body.html"), puzzles=listed,
        worker=read(*INSIDE), script=read(*INSTRUMENT, "file.js"), model=coded)
