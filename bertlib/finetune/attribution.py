"""Which words speak for a class: gradient times input, word by word.

Source: Simonyan et al. 2013, section 3 (the gradient as a map); Shrikumar et al. 2016 (times the
input). It tells what a small change of a word's vector would do, and no more: not what the model
would say without the word, nor why.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bertlib.finetune.classifier import Classifier, judge, read
from bertlib.finetune.examples import Examples
from bertlib.plumbing.tables import Row
from bertlib.predict import evaluation
from bertlib.tokens import Tokenizer


def gradient_times_input(model: Classifier, input_ids: Tensor, label: int) -> Tensor:
    """How much each token speaks for a class, to first order: ids [T] -> [T].

    Of the class's logit, by the vector that the token has before places and token types are added.
    """
    kept: list[Tensor] = []

    def keep(_layer: Any, _ids: Any, vectors: Tensor) -> Tensor:
        kept.append(vectors.detach().requires_grad_())  # [1, T, D]
        return kept[0]

    hook = model.encoder.embeddings.token.register_forward_hook(keep)
    try:
        with evaluation(model), torch.enable_grad():
            logit = model(input_ids[None]).logits[0, label]
    finally:
        hook.remove()
    gradient, = torch.autograd.grad(logit, kept[0])
    return (gradient * kept[0]).sum(-1)[0].detach()  # [T]


class Wrong(NamedTuple):
    """A text that was misjudged: by how much, and what its tokens spoke for the guess."""

    place: str
    text: str
    label: str
    guess: str
    probability: float
    tokens: list[str]
    weights: list[float]


def most_wrong(model: Classifier, tokenizer: Tokenizer, rows: Sequence[Row],
               count: int) -> list[Wrong]:
    """The rows of one text whose wrong class a classifier is surest of, the surest first."""
    asked = read(model, tokenizer, rows)
    shares = judge(model, asked).softmax(1)  # [n, C]
    sure, guess = shares.max(1)
    sure[guess == asked.labels] = 0.0
    found = []
    for number in sure.argsort(descending=True)[:count].tolist():
        row, label = rows[number], int(guess[number])
        if sure[number] == 0:
            break
        ids = Examples(tokenizer, [row.texts], model.config.seq_len).ids[0].long()
        weights = gradient_times_input(model, ids, label).tolist()
        found.append(Wrong(row.place, row.texts[0], row.label, model.labels[label],
                           round(float(sure[number]), 4), tokenizer.tokens(ids.tolist()),
                           [round(weight, 4) for weight in weights]))
    return found
