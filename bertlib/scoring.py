"""What a model is worth, its loss and right guesses on frozen puzzles, and what it costs."""

from collections.abc import Iterator
from typing import NamedTuple

import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.masking import Masked
from bertlib.plumbing.device import autocast
from bertlib.plumbing.files import InputError
from bertlib.plumbing.ranks import ALONE, Ranks


class Score(NamedTuple):
    """Validation: mean loss in nats, share of right guesses, number of masked words.

    Of a causal model these are all words and ends of documents: see `masking.NextToken`.
    """

    loss: float
    accuracy: float
    count: int  # type: ignore[assignment]


@torch.no_grad()
def evaluate(model: BertForMaskedLM, batches: Iterator[Masked], device: torch.device,
             dtype: torch.dtype, ranks: Ranks = ALONE) -> Score:
    """Score `model` on puzzles; all masked positions count, the unchanged ones too.

    Of several `ranks` each passes its own share of the puzzles, and all get the score on all.
    Raises `InputError` if no puzzle hides a word.
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
    if not count:
        raise InputError("None of the puzzles to score hides a word of the vocabulary; raise "
                         "val_chunks, or prepare with a vocabulary made from this text.")
    return Score(loss / count, right / count, int(count))


def head_weights(config: BertConfig) -> int:
    """Weights that a position meets in the head: its own layer, if any, and the decoder."""
    width = config.d_model
    return width * config.vocab_size + (width**2 if config.head_transform else 0)


def flops_per_token(config: BertConfig, mask_rate: float) -> float:
    """Floating-point operations to train on one token, forward and backward.

    6 a weight (nanoGPT's count, Chowdhery et al. 2022, appendix B), with the head and the last
    block's output and feed-forward counted at masked positions only, and 12 L D T for attention.
    With `mask_rate` 1 it is the count of a model that computes everything at all positions, as
    Hugging Face's does: 6 (L (4 D^2 + 2 D d_ff) + D^2 + D V) + 12 L D T. So it is of a causal one.
    """
    mask_rate = 1.0 if config.causal else mask_rate
    width, layers = config.d_model, config.n_layer
    mixing, own = 3 * width**2, width**2 + 2 * width * config.d_ff  # a block's weights
    weights = layers * mixing + (layers - 1 + mask_rate) * own + mask_rate * head_weights(config)
    return 6 * weights + 12 * layers * width * config.seq_len
