"""How good a model is: its loss and its share of right guesses on puzzles with frozen masks."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from bertlib.bert import BertForMaskedLM
from bertlib.device import autocast
from bertlib.masking import Masked
from bertlib.ranks import ALONE, Ranks


class Score(NamedTuple):
    """Validation: mean loss in nats, share of right guesses, number of masked words."""

    loss: float
    accuracy: float
    count: int


@torch.no_grad()
def evaluate(model: BertForMaskedLM, batches: Iterator[Masked], device: torch.device,
             dtype: torch.dtype, ranks: Ranks = ALONE) -> Score:
    """Score `model` on puzzles; all masked positions count, the unchanged ones too.

    Of several `ranks` each passes its own share of the puzzles, and all get the score on all.
    """
    was_training = model.training
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)  # loss, right guesses, masked words
    for batch in batches:
        if (count := len(batch.labels)) == 0:  # only [UNK]: the mean over no word is no number
            continue
        batch = batch.to(device)
        with autocast(device, dtype):
            out = model(batch.input_ids, batch.positions, batch.labels, batch.attention_mask)
        right = int((out.logits.argmax(-1) == batch.labels).sum())
        sums += torch.tensor([float(out.loss) * count, right, count], dtype=torch.float64)
    model.train(was_training)
    loss, right, count = ranks.sum(sums).tolist()
    return Score(loss / count, right / count, int(count))
