"""The checker of the whole model that notebook 05 ends with: BERT, its two answers, its start."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from bertlib.bert import BertForMaskedLM
from bertlib.checks import checker, expect, require
from bertlib.checks.calling import Answer, ask, guarded
from bertlib.checks.model import IDS, KINDS, MASK, config_of
from bertlib.checks.modules import build, right_one


@checker
def check_model(answer: Answer) -> None:
    """The class BertForMaskedLM(config): ids -> (logits, loss), weights drawn as BERT's are.

    forward(input_ids, positions=None, labels=None, attention_mask=None, token_type_ids=None);
    parts encoder and head. With `positions` [K], flat, logits are [K, V] and labels [K]; without,
    [B, T, V] and [B, T] with -100. Linear layers and embeddings begin with init_std, biases with
    0; zero_init: what a block adds begins with 0; tied: decoder and token table are one tensor.
    """
    for kind in KINDS:
        config = config_of(**kind)
        right: Any = right_one(BertForMaskedLM, config)
        mine = build(answer, config, right)
        shared = _tie(mine)
        require(shared or not config.tied, "the decoder has weights of its own; with tied=True it "
                "is the token table itself, the same nn.Parameter: assign it, do not copy it")
        require(config.tied or not shared, "with tied=False the decoder has weights of its own")
        with torch.no_grad():
            _judge_forward(guarded(mine), right)
            _judge_head_work(mine)
        _judge_start(answer, kind)


def _tie(model: Any) -> bool:
    return model.head.decoder.weight is model.encoder.embeddings.token.weight


def _judge_forward(call: Answer, right: Any) -> None:
    """Logits and loss, with positions and without."""
    positions, labels = torch.tensor([1, 3, 7]), torch.tensor([2, 8, 0])
    table = torch.full((10,), -100).index_put((positions,), labels).view_as(IDS)
    for places, wanted in ((positions, labels), (None, table)):
        told = "with positions" if places is not None else "without positions"
        out, right_logits = call(IDS, places, None, MASK), right(IDS, places, None, MASK).logits
        require(isinstance(out, tuple) and len(out) == 2, "return two things, MLMOutput(logits, "
                "loss)")
        expect(out[0], right_logits, {
            "attention_mask is not handed to the encoder": right(IDS, places).logits,
            "positions are not heeded: all logits came back": right(IDS, None, None, MASK).logits,
            "the logits are normed; they come before the softmax": right_logits.log_softmax(-1),
        }, f"the logits {told} are others")
        require(out[1] is None, "without labels the loss is None")
        flat, loss = right_logits.flatten(0, -2), call(IDS, places, wanted, MASK)[1]
        total = F.cross_entropy(flat, wanted.flatten(), reduction="sum")
        require(loss is not None, f"the loss {told} is None, though labels are given")
        expect(loss, F.cross_entropy(flat, wanted.flatten()), {
            "the losses are added up; take their mean": total,
            "the sum is divided by all positions": total / IDS.numel(),
            "softmax is applied twice": F.cross_entropy(flat.softmax(-1), wanted.flatten()),
        }, f"the loss {told} is another number")


def _judge_head_work(mine: Any) -> None:
    """Where positions are given the head works at them alone."""
    rows: list[int] = []
    note = mine.head.decoder.register_forward_pre_hook(lambda module, given: rows.append(
        given[0].numel() // given[0].shape[-1]))
    with note:
        ask(mine, IDS, torch.tensor([1, 3]))
    require(rows != [IDS.numel()], "the head works at all positions, most of it for nothing; hand "
            "the positions to the encoder as keep")


def _judge_start(answer: Answer, kind: dict[str, Any]) -> None:
    """The numbers that a new model begins with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        wide = dict(d_model=40, n_head=2, d_ff=90, vocab_size=97, init_std=0.05, **kind)
        mine, quiet = (ask(answer, config_of(**wide, zero_init=zero)) for zero in (False, True))
    for name, value in mine.named_parameters():
        owner = mine.get_submodule(name.rpartition(".")[0])
        if isinstance(owner, nn.Linear | nn.Embedding) and value.ndim == 2:
            size = float(value.detach().std())
            require(abs(size / 0.05 - 1) < 0.2 or value.numel() < 300, f"'{name}' begins with "
                    f"numbers of size {size:.2g}; config.init_std is 0.05")
        elif isinstance(owner, nn.Linear):
            require(not value.any(), f"the bias '{name}' should begin with 0")
    for block in quiet.encoder.blocks:
        for layer in (block.attention.output, block.feed_forward.down):
            require(not layer.weight.any(), "with zero_init=True the last layers of both halves "
                    "begin with 0: attention.output and feed_forward.down")
