"""Checkers of what notebook 05 builds: embeddings, the encoder, the head, and BERT of them."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.attention import padding_bias
from bertlib.bert import BertConfig, BertForMaskedLM, Embeddings, Encoder, MLMHead
from bertlib.checks import checker, expect, require, same
from bertlib.checks.calling import Answer, ask, guarded
from bertlib.checks.modules import build, draw, right_one

SHAPES: tuple[dict[str, Any], ...] = (  # odd numbers show which one was taken for which
    {}, dict(vocab_size=13, seq_len=6, d_model=8, n_layer=1, d_ff=5, norm_eps=0.02),
    dict(vocab_size=17, seq_len=9, d_model=4, n_layer=2, d_ff=7, norm_eps=0.5))


def config_of(**changes: Any) -> BertConfig:
    """BERT in a tiny shape; dropout only shows in training."""
    shape = dict(vocab_size=11, seq_len=7, d_model=6, n_head=2, n_layer=3, d_ff=13, dropout=0.5,
                 attention_dropout=0.0, norm_eps=0.1)
    return BertConfig(**{**shape, **changes})


def cases(answer: Answer, cls: type[nn.Module]) -> Iterator[tuple[Any, Any, Tensor, Tensor]]:
    """The learner's module and the right one with the same numbers, ids [B, T] and their mask."""
    for seed, shape in enumerate(SHAPES):
        right = right_one(cls, config_of(**shape), seed)
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(1, 11, (2, 5), generator=generator)
        ids[1, 5 - 1 - seed:] = 0  # padding
        yield build(answer, config_of(**shape), right), right, ids, ids > 0


def judge_repeats(mine: nn.Module, *given: Any) -> None:
    """Dropout is at work in training, and in training only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        require(same(ask(mine, *given), ask(mine, *given)), "two calls differ in evaluation; "
                "dropout is for training (nn.Dropout knows)")
        one, other = (ask(mine.train(), *given) for _ in range(2))
    mine.eval()
    require(not same(one, other), "config.dropout is not used in training")


@checker
@torch.no_grad()
def check_embeddings(answer: Answer) -> None:
    """The class Embeddings(config): forward(input_ids [B, T], token_type_ids=None) -> [B, T, D].

    Parts token, position, token_type, norm; dropout comes last.
    """
    for mine, right, ids, _ in cases(answer, Embeddings):
        call, length, norm = guarded(mine), ids.shape[1], right.norm
        token, places = right.token(ids), right.position.weight[:length]
        for types in (None, ids % 2):
            kinds = torch.zeros_like(ids) if types is None else types
            typed, first = right.token_type(kinds), right.token_type(torch.zeros_like(ids))
            judge_repeats(mine, ids, *([] if types is None else [types]))
            got = call(ids) if types is None else call(ids, types)
            expect(got, right(ids, types), {
                "only the words are there; add position and token type, then norm": token,
                "only the words are there, normed; add position and token type": norm(token),
                "the norm is missing": token + places + typed,
                "the positions are missing": norm(token + typed),
                "token types are left out where none are given: they are all 0 then, and row 0 is "
                "added" if types is None else "the token types are not used":
                    norm(token + places),
                "the token types that are given are not looked up": norm(token + places + first),
                "the words are normed before the rest is added": norm(token) + places + typed,
                "the parts are multiplied; add them": norm(token * places + typed),
                "the position is looked up by the token's id; use its place":
                    norm(token + right.position.weight[ids % right.position.num_embeddings]
                         + typed),
                "the positions begin at 1; the first one is 0":
                    norm(token + right.position.weight[1:length + 1] + typed),
                "all tokens of a sequence get one position, that of its row in the batch":
                    norm(token + right.position.weight[:2, None] + typed),
            }, "the values are others: token + position + token type, then norm, then dropout")
        expect(call(ids[:1, :2]), right(ids[:1, :2]), hint="right for two rows of 5 tokens, but "
               "not for one of 2")


def _stack(right: Any, ids: Tensor, bias: Tensor | None, blocks: list[Any]) -> Tensor:
    x = right.embeddings(ids)
    for block in blocks:
        x = block(x, bias)
    return x


def _encoder_mistakes(right: Any, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    blocks, bias = list(right.blocks), padding_bias(mask)
    return {
        "that is what the embeddings return; the blocks are missing": right.embeddings(ids),
        "attention_mask is not used: padding is read": _stack(right, ids, None, blocks),
        "the mask of padding is upside down": _stack(right, ids, padding_bias(~mask), blocks),
        "only the last block is used": _stack(right, ids, bias, blocks[-1:]),
        "only the first block is used": _stack(right, ids, bias, blocks[:1]),
        "the last block is left out": _stack(right, ids, bias, blocks[:-1]),
        "the last block is used twice": _stack(right, ids, bias, [*blocks, blocks[-1]]),
        "the blocks run from the last to the first": _stack(right, ids, bias, blocks[::-1]),
        "the first block is used again and again":
            _stack(right, ids, bias, blocks[:1] * len(blocks)),
    }


@checker
@torch.no_grad()
def check_encoder(answer: Answer) -> None:
    """The class Encoder(config): ids [B, T] -> hidden states [B, T, D], or [K, D] with `keep`.

    forward(input_ids, attention_mask=None, token_type_ids=None, keep=None); parts embeddings and
    blocks. `keep` [K] are flat positions, which the last block is told.
    """
    for mine, right, ids, mask in cases(answer, Encoder):
        call, several = guarded(mine), len(right.blocks) > 1
        told = f"with {len(right.blocks)} blocks" if several else "with a single block"
        expect(call(ids, mask), right(ids, mask), _encoder_mistakes(right, ids, mask),
               f"the values {told} are others")
        expect(call(ids), right(ids), hint="right with a mask, but not without one")
        keep, types = torch.tensor([0, 6, 7]), ids % 2
        got, all_of = call(ids, mask, keep=keep), right(ids, mask)
        require(got.shape != all_of.shape, "keep is not heeded: only these positions should come "
                "back, [K, D]; hand it to the last block")
        expect(got, right(ids, mask, keep=keep), {
            "keep counts in the flattened batch [B * T], not in a row":
                all_of[0][keep % ids.shape[1]],
        }, f"with keep the values {told} are others; only the last block may drop the others")
        expect(call(ids, None, types), right(ids, None, types),
               {"token_type_ids are not handed on": right(ids)}, "the token types do harm")


@checker
@torch.no_grad()
def check_head(answer: Answer) -> None:
    """The class MLMHead(config): hidden states [.., D] -> logits [.., V].

    Parts transform, norm, decoder.
    """
    for mine, right, ids, _ in cases(answer, MLMHead):
        call, dense, norm, bend = guarded(mine), right.transform, right.norm, F.gelu
        width = dense.in_features
        for x in (draw(*ids.shape, width), draw(3, width, seed=1)):
            wrong = {
                "transform and norm are not used": right.decoder(x),
                "GELU is missing": right.decoder(norm(dense(x))),
                "the norm is missing": right.decoder(bend(dense(x))),
                "the norm stands before GELU": right.decoder(bend(norm(dense(x)))),
                "the norm stands first": right.decoder(bend(dense(norm(x)))),
                "that is ReLU; BERT's head bends by GELU": right.decoder(norm(F.relu(dense(x)))),
                "x is added; the head has no such addition":
                    right.decoder(x + norm(bend(dense(x)))),
                "these are probabilities; logits come before the softmax": right(x).softmax(-1),
                "these are log probabilities; logits come before the softmax":
                    right(x).log_softmax(-1)}
            expect(call(x.clone()), right(x), wrong, "the logits are others: transform, GELU, "
                   "norm, decoder")


@checker
def check_model(answer: Answer) -> None:
    """The class BertForMaskedLM(config): ids -> MLMOutput(logits, loss), begun as BERT is.

    forward(input_ids, positions=None, labels=None, attention_mask=None, token_type_ids=None);
    parts encoder and head. With `positions` [K], flat, logits are [K, V] and labels [K]; without,
    [B, T, V] and [B, T] with -100. Linear layers and embeddings begin with init_std, biases with
    0; zero_init: what a block adds begins with 0; decoder and token table are one tensor.
    """
    for mine, right, ids, mask in cases(answer, BertForMaskedLM):
        require(mine.head.decoder.weight is mine.encoder.embeddings.token.weight, "the decoder has "
                "weights of its own; it should hold the token table itself, the same nn.Parameter: "
                "assign it, do not copy it")
        with torch.no_grad():
            _judge_forward(guarded(mine), right, ids, mask)
            _judge_head_work(mine, ids)
    _judge_start(answer)


def _judge_forward(call: Answer, right: Any, ids: Tensor, mask: Tensor) -> None:
    """Logits and loss, with positions and without."""
    positions, labels = torch.tensor([1, 3, 6]), torch.tensor([2, 8, 0])
    table = torch.full((10,), -100).index_put((positions,), labels).view_as(ids)
    for places, wanted in ((positions, labels), (None, table)):
        told = "with positions" if places is not None else "without positions"
        out, right_logits = call(ids, places, None, mask), right(ids, places, None, mask).logits
        require(isinstance(out, tuple) and len(out) == 2, "return two things, MLMOutput(logits, "
                "loss)")
        expect(out[0], right_logits, {
            "attention_mask is not handed to the encoder": right(ids, places).logits,
            "positions are not heeded: all logits came back": right(ids, None, None, mask).logits,
            "the logits are normed; they come before the softmax": right_logits.log_softmax(-1),
        }, f"the logits {told} are others")
        require(out[1] is None, "without labels the loss is None")
        typed = call(ids, places, None, mask, ids % 2)[0]
        expect(typed, right(ids, places, None, mask, ids % 2).logits,
               {"token_type_ids are not handed on": right_logits}, "the token types do harm")
        flat, loss = right_logits.flatten(0, -2), call(ids, places, wanted, mask)[1]
        total = F.cross_entropy(flat, wanted.flatten(), reduction="sum")
        require(loss is not None, f"the loss {told} is None, though labels are given")
        expect(loss, F.cross_entropy(flat, wanted.flatten()), {
            "the losses are added up; take their mean": total,
            "the sum is divided by all positions": total / ids.numel(),
            "softmax is applied twice": F.cross_entropy(flat.softmax(-1), wanted.flatten()),
        }, f"the loss {told} is another number")


def _judge_head_work(mine: Any, ids: Tensor) -> None:
    """Where positions are given the head works at them alone."""
    rows: list[int] = []
    note = mine.head.decoder.register_forward_pre_hook(lambda module, given: rows.append(
        given[0].numel() // given[0].shape[-1]))
    with note:
        ask(mine, ids, torch.tensor([1, 3]))
    require(rows != [ids.numel()], "the head works at all positions, most of it for nothing; hand "
            "the positions to the encoder as keep")


def _judge_start(answer: Answer) -> None:
    """The numbers that a new model begins with."""
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            wide = dict(d_model=40, n_head=2, d_ff=90, vocab_size=97, init_std=0.05)
            mine, quiet = (ask(answer, config_of(**wide, zero_init=zero))
                           for zero in (False, True))
        for name, value in mine.named_parameters():
            owner, size = mine.get_submodule(name.rpartition(".")[0]), float(value.detach().std())
            if isinstance(owner, nn.Linear | nn.Embedding) and value.ndim == 2:
                require(abs(size / 0.05 - 1) < 0.2 or value.numel() < 300, f"'{name}' begins with "
                        f"numbers of size {size:.2g}; config.init_std is 0.05")
            elif isinstance(owner, nn.Linear):
                require(not value.any(), f"the bias '{name}' should begin with 0")
        for block in quiet.encoder.blocks:
            for layer in (block.attention.output, block.feed_forward.down):
                require(not layer.weight.any(), "with zero_init=True the last layers of both "
                        "halves begin with 0: attention.output and feed_forward.down")
