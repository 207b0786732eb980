"""Do counts still help a trained network? A product of experts (Hinton 2002), for notebook 12.

Example usage:
python -m bertlib.bench experts --model wiki/runs/run0 --out assets/12_efficiency/experts.jsonl

The network and the counted words around each have a vote, log p(w) = sum of weight * vote, up to
a constant; the weights are fitted on some held-out chunks and scored on others.
"""

from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.baselines import Surroundings, fit_weights
from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset, ensure_datasets, in_order, load_dataset
from bertlib.huggingface import load
from bertlib.masking import Masked, Masker
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.contexts import around
from bertlib.plumbing.files import InputError, check_output_folder
from bertlib.plumbing.records import add_record, read_json, read_records
from bertlib.plumbing.runs import Identity

FIT, EXAM, AT_ONCE = 64, 512, 32  # chunks: the last ones fit, the first ones are scored; a batch


class Product(NamedTuple):
    """Loss and accuracy of the network alone and of the product, on the same hidden words."""

    network_loss: float
    network_accuracy: float
    product_loss: float
    product_accuracy: float
    error: float  # standard error of the gain in accuracy, by hidden words
    network_weight: float
    masked_words: int


class Result(TypedDict):
    """What each line of results says, and the conditions of the run besides."""

    steps: int
    tokens: int
    network_accuracy: float
    product_accuracy: float
    error: float


@torch.no_grad()
def votes(model: BertForMaskedLM, counted: Surroundings, puzzle: Masked) -> Tensor:
    """What network, frequencies and six places say of each hidden word: [8, K, V]."""
    said = model(puzzle.input_ids, puzzle.positions).logits.log_softmax(-1)  # [K, V]
    near = around(puzzle.input_ids.numpy(), len(counted.p))[puzzle.positions.numpy()]  # [K, 6]
    rows, place = counted.votes(near)
    return torch.stack([said, counted.p.log().expand_as(said), *rows[place].unbind(1)])


def multiply(model: BertForMaskedLM, counted: Surroundings, val: Dataset, masker: Masker,
             fit: int = FIT, exam: int = EXAM) -> Product:
    """Fit the weights on the last `fit` chunks of `val`, and score both on its first `exam`.

    Raises `InputError` if the chunks are too few for both.
    """
    if fit < 1 or exam < 1 or len(val) < fit + exam:
        raise InputError(f"The validation split has {len(val)} chunks: too few to fit weights on "
                         f"{fit} and score {exam} others; change --fit or --exam.")
    held = val.frozen(slice(len(val) - fit, None), masker)
    weights = fit_weights(votes(model, counted, held), held.labels)
    losses, right = [], []
    for some in in_order(val, masker, AT_ONCE, exam):
        stacked = votes(model, counted, some)
        for answer in (stacked[0], torch.tensordot(weights, stacked, 1)):
            losses.append(F.cross_entropy(answer, some.labels, reduction="none"))
            right.append(answer.argmax(-1) == some.labels)
    loss = [torch.cat(losses[who::2]).mean().item() for who in (0, 1)]
    alone, both = (torch.cat(right[who::2]).double().numpy() for who in (0, 1))
    error = np.std(both - alone, ddof=1) / len(both) ** 0.5
    return Product(loss[0], alone.mean(), loss[1], both.mean(), error, weights[0].item(),
                   len(both))


def bench_experts(arguments: list[str]) -> None:
    """Multiply trained models with the counts of their text, and append what it is worth."""
    parse = Parser(prog="bench experts", description=bench_experts.__doc__)
    parse.add_argument("--model", type=Path, nargs="+", required=True, help="runs that ended")
    parse.add_argument("--fit", type=int, default=FIT, help=f"chunks for weights; default {FIT}")
    parse.add_argument("--exam", type=int, default=EXAM, help=f"chunks to score; default {EXAM}")
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--out", type=Path, required=True, help="results are appended here")
    given = parse.parse_args(arguments)
    check_output_folder(given.out.parent)
    base = base_folder(given.base)
    for folder in given.model:
        model, tokenizer = load(folder)
        report = read_json(folder / "report.json", dict[str, Any], "take a run that ended")
        files = ensure_datasets(base, Identity.read(folder).label, model.config.seq_len)
        train, val = (load_dataset(path, tokenizer) for path in (files.train[0], files.val))
        counted = Surroundings(np.concatenate([ids.numpy() for ids in train.slices()]),
                               len(tokenizer), val.header.special)
        found = multiply(model, counted, val, Masker(tokenizer), given.fit, given.exam)
        add_record(given.out, {**report, **found._asdict()})
        print(f"{report['tokens'] / 1e6:6.2f} M tokens  network {found.network_accuracy:.1%}  with "
              f"counts {found.product_accuracy:.1%}  (error {found.error:.2%})", flush=True)


def read_experts(path: Path) -> list[dict[str, Any]]:
    """The results in a file that this command wrote, in their order."""
    return read_records(path, Result)
