"""Checkers of what notebook 05 builds of its model: embeddings, the encoder, the head."""

from typing import Any

import torch
from torch import Tensor, nn

from bertlib.attention import padding_bias
from bertlib.bert import BertConfig, Embeddings, Encoder, MLMHead
from bertlib.blocks import ACTIVATIONS
from bertlib.checks import checker, expect, require, same
from bertlib.checks.calling import Answer, NotYet, ask, guarded
from bertlib.checks.modules import build, draw, right_one

IDS = torch.tensor([[3, 1, 4, 1, 5], [9, 2, 6, 0, 0]])  # [B, T]
MASK = IDS > 0
HEADS = ((0.5, 1), (0.25, -1))
KINDS: tuple[dict[str, Any], ...] = (  # BERT, the published run, a comparison
    {}, dict(norm="pre", position="sinusoidal", n_token_type=0, head_transform=False, tied=False),
    dict(norm="pre", position="distance", distance_heads=HEADS, n_token_type=0, bias=False,
         activation="relu2", qk_norm=True))


def config_of(**changes: Any) -> BertConfig:
    """A tiny shape with an odd number of everything; dropout only shows in training."""
    shape = dict(vocab_size=11, seq_len=7, d_model=6, n_head=2, n_layer=3, d_ff=13, dropout=0.5,
                 attention_dropout=0.0, norm_eps=0.1)
    return BertConfig(**{**shape, **changes})


def _judge_training(mine: nn.Module, *given: Any) -> None:
    """Dropout is at work in training."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, other = (ask(mine.train(), *given) for _ in range(2))
    mine.eval()
    require(not same(one, other), "config.dropout is not used in training")


@checker
@torch.no_grad()
def check_embedding_layer(answer: Answer) -> None:
    """The class Embeddings(config): forward(input_ids [B, T], token_type_ids=None) -> [B, T, D].

    Parts token, position (if learned), token_type (if n_token_type), norm. config.position:
    "learned", "sinusoidal" (a table that is not learned) or "distance" (nothing is added here).
    """
    for kind in KINDS:
        config = config_of(**kind)
        right: Any = right_one(Embeddings, config)
        mine = build(answer, config, right)
        call, length = guarded(mine), IDS.shape[1]
        token = right.token(IDS)
        places = 0 * token if right.position is None else right.position.weight[:length]
        places = places if right.waves is None else right.waves[:length]
        for types in (None, (IDS % 2)) if right.token_type else (None,):
            kinds = torch.zeros_like(IDS) if types is None else types
            typed = right.token_type(kinds) if right.token_type else 0 * token
            got = call(IDS) if types is None else call(IDS, types)
            require(same(got, call(IDS, types)), "two calls differ in evaluation; dropout is for "
                    "training")
            told = f"with position='{config.position}' and n_token_type={config.n_token_type}"
            expect(got, right(IDS, types), {
                "the norm is missing": token + places + typed,
                "the positions are missing": right.norm(token + typed),
                "only the words are there, normed": right.norm(token),
                "token types are left out where none are given: they are all 0 then, and row 0 is "
                "added" if types is None else "the token types are not used":
                    right.norm(token + places),
                "the token types that are given are not looked up":
                    right.norm(token + places + (typed if types is None else
                                                 right.token_type(torch.zeros_like(IDS)))),
                "the words are normed before the rest is added": right.norm(token) + places + typed,
                "the parts are multiplied; add them": right.norm(token * places + typed),
            }, f"the values {told} are others")
        expect(call(IDS[:1, :2]), right(IDS[:1, :2]), hint="right for rows of 5 tokens, not of 2")
        _judge_training(mine, IDS)


def _stack(right: Any, bias: Tensor | None, blocks: list[Any], final: bool = True) -> Tensor:
    x = right.embeddings(IDS)
    for block in blocks:
        x = block(x, bias)
    return right.final_norm(x) if final else x


def _encoder_mistakes(right: Any) -> dict[str, Tensor]:
    blocks, bias = list(right.blocks), right.scores_bias(IDS, MASK)
    return {
        "attention_mask is not used: padding is read": _stack(right, right.scores_bias(IDS, None),
                                                              blocks),
        "the distances are not used: add them to the scores": _stack(right, padding_bias(MASK),
                                                                     blocks),
        "the mask of padding is upside down": _stack(right, right.scores_bias(IDS, ~MASK), blocks),
        "the final norm is missing; with norm='pre' nothing else norms the stream":
            _stack(right, bias, blocks, final=False),
        "only the last block is used": _stack(right, bias, blocks[-1:]),
        "only the first block is used": _stack(right, bias, blocks[:1]),
        "the last block is left out": _stack(right, bias, blocks[:-1]),
        "the blocks run from the last to the first": _stack(right, bias, blocks[::-1]),
        "the first block is used again and again": _stack(right, bias, blocks[:1] * len(blocks)),
    }


@checker
@torch.no_grad()
def check_encoder(answer: Answer) -> None:
    """The class Encoder(config): ids [B, T] -> hidden states [B, T, D], or [K, D] with `keep`.

    forward(input_ids, attention_mask=None, token_type_ids=None, keep=None, layers=None); parts
    embeddings, blocks, final_norm (for norm="pre"). `layers` is a list that takes the state after
    the embeddings and after each block. More than seq_len tokens are refused with an `InputError`.
    """
    for kind in KINDS:
        config = config_of(**kind)
        right: Any = right_one(Encoder, config)
        mine = build(answer, config, right)
        call, told = guarded(mine), f"norm='{config.norm}' and position='{config.position}'"
        expect(call(IDS, MASK), right(IDS, MASK), _encoder_mistakes(right),
               f"the values with {told} are others")
        expect(call(IDS), right(IDS), hint=f"right with a mask, but not without one, with {told}")
        keep, types = torch.tensor([0, 6, 7]), IDS % 2
        got = call(IDS, MASK, keep=keep)
        require(got.shape != right(IDS).shape, "keep is not heeded: only these positions should "
                "come back, [K, D]; hand it to the last block")
        expect(got, right(IDS, MASK, keep=keep), hint="with keep the values are others; only the "
               "last block may drop the others")
        if config.n_token_type:
            expect(call(IDS, None, types), right(IDS, None, types),
                   {"token_type_ids are not handed on": right(IDS)}, "the token types do harm")
        states: list[Tensor] = []
        found: list[Tensor] = []
        right(IDS, MASK, layers=states)
        ask(mine, IDS, MASK, layers=found)
        require(len(found) == len(states), f"layers takes {len(found)} states, it should take "
                f"{len(states)}: after the embeddings and after each block")
        expect(found, states, hint="the states in layers are others")
        _judge_length(mine, config.seq_len)


def _judge_length(mine: nn.Module, most: int) -> None:
    try:
        ask(mine, torch.ones(1, most + 1, dtype=torch.int64))
    except NotYet as stop:
        kind = type(stop.__cause__).__name__
        require(kind == "InputError", f"{most + 1} tokens, with seq_len={most}, stop with {kind}; "
                "say so in a sentence: raise InputError(...)")
        return
    raise NotYet(f"{most + 1} tokens are taken, with seq_len={most}; refuse them: InputError(...)")


@checker
@torch.no_grad()
def check_head(answer: Answer) -> None:
    """The class MLMHead(config): hidden states [.., D] -> logits [.., V].

    Parts decoder and, with config.head_transform, transform and norm.
    """
    for kind in KINDS:
        config = config_of(**kind)
        right: Any = right_one(MLMHead, config)
        mine, bend = guarded(build(answer, config, right)), ACTIVATIONS[config.activation]
        for x in (draw(2, 5, 6), draw(3, 6, seed=1)):
            wrong = {"these are probabilities; logits come before the softmax":
                     right(x).softmax(-1), "these are log probabilities": right(x).log_softmax(-1)}
            if config.head_transform:
                dense, norm = right.transform, right.norm
                wrong |= {
                    "transform and norm are not used": right.decoder(x),
                    "the activation is missing": right.decoder(norm(dense(x))),
                    "the norm is missing": right.decoder(bend(dense(x))),
                    "the norm stands before the activation": right.decoder(bend(norm(dense(x)))),
                    "the norm stands first": right.decoder(bend(dense(norm(x)))),
                    "x is added; the head has no such addition":
                        right.decoder(x + norm(bend(dense(x)))),
                }
            expect(mine(x.clone()), right(x), wrong, f"the logits with head_transform="
                   f"{config.head_transform} and activation='{config.activation}' are others")
