"""Checkers of notebook 04 for the classes that the learner builds: FeedForward and Block."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.attention import padding_bias
from bertlib.bert import BertConfig
from bertlib.checks import NotYet, checker, expect, require

Step = Callable[[Tensor], Tensor]


def _build(answer: Any, config: BertConfig, parts: dict[str, type]) -> Any:
    """A module of the learner's class with its named parts, filled with numbers of normal size."""
    require(isinstance(answer, type) and issubclass(answer, nn.Module),
            "pass the class itself, a child of nn.Module")
    module = answer(config).eval()
    for name, kind in parts.items():
        require(isinstance(getattr(module, name, None), kind),
                f"self.{name} is no {kind.__name__}")
    draw = torch.Generator().manual_seed(5)
    for parameter in module.parameters():
        parameter.data = torch.randn(parameter.shape, generator=draw) * 0.5
    return module


def _call(module: nn.Module, *given: Any) -> Any:
    if (got := module(*given)) is None:
        raise NotYet("forward returns nothing; end with return")
    return got


@checker
@torch.no_grad()
def check_feed_forward(answer):
    """answer(config) is a module with `up` and `down`: x [.., D] -> [.., D]."""
    config = BertConfig(d_model=4, n_head=2, d_ff=10)
    module = _build(answer, config, {"up": nn.Linear, "down": nn.Linear})
    up, down = module.up, module.down
    for name, layer, shape in (("up", up, (10, 4)), ("down", down, (4, 10))):
        require(tuple(layer.weight.shape) == shape, f"self.{name} has weights of "
                f"{tuple(layer.weight.shape)}, they should be {shape}: config.d_model and "
                "config.d_ff (which need not be 4 * d_model)")
        require(layer.bias is not None, f"self.{name} has no bias; BERT's has one")
    x = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(6))
    wide = up(x)
    expect(_call(module, x), down(F.gelu(wide)), {
        "nothing bends between the two layers: put F.gelu around the first": down(wide),
        "it bends by ReLU; BERT's bend is GELU": down(F.relu(wide)),
        "that is the tanh approximation of GELU; BERT's is exact":
            down(F.gelu(wide, approximate="tanh")),
        "the bend stands after the second layer; it belongs between the two": F.gelu(down(wide)),
        "it bends twice; after the second layer nothing bends": F.gelu(down(F.gelu(wide))),
        "x was bent before the first layer; bend what the first layer returns": down(up(F.gelu(x))),
        "x is added already; that is left to the block": x + down(F.gelu(wide)),
    }, "first self.up, then F.gelu, then self.down", tolerance=1e-5)


def _post_norm_mistakes(x: Tensor, attend: Step, think: Step, norm_1: Step,
                        norm_2: Step) -> dict[str, Tensor]:
    """What known mistakes in a post-norm block return."""
    h = norm_1(x + attend(x))
    first, bare = norm_1(attend(x)), x + attend(x)
    pre, slip = x + attend(norm_1(x)), norm_1(x) + attend(norm_1(x))
    return {
        "the norm comes after the addition; this is pre-norm": pre + think(norm_2(pre)),
        "the norm comes after the addition, of x itself":
            norm_2(slip) + think(norm_2(slip)),
        "the norm is put on what the sublayer returns; put it on the sum":
            x + first + norm_2(think(x + first)),
        "the first residual was forgotten: add x to what attention returns":
            norm_2(first + think(first)),
        "the second residual was forgotten": norm_2(think(h)),
        "both residuals were forgotten": norm_2(think(first)),
        "the second residual goes back to the old x; add to what the first half returned":
            norm_2(x + think(h)),
        "the feed-forward reads the old x; it comes after attention": norm_2(h + think(x)),
        "the first norm was forgotten": norm_2(bare + think(bare)),
        "the second norm was forgotten": h + think(h),
        "attention_norm is used twice; the second half has ffn_norm": norm_1(h + think(h)),
        "the two norms are exchanged": norm_1(norm_2(bare) + think(norm_2(bare))),
        "the second half is missing": h,
        "the two halves are exchanged: attention comes first":
            norm_1(norm_2(x + think(x)) + attend(norm_2(x + think(x)))),
        "nothing was added to x": x,
    }


def _post_norm(x: Tensor, attend: Step, think: Step, norm_1: Step, norm_2: Step) -> Tensor:
    h = norm_1(x + attend(x))
    return norm_2(h + think(h))


def _pre_norm(x: Tensor, attend: Step, think: Step, norm_1: Step, norm_2: Step) -> Tensor:
    h = x + attend(norm_1(x))
    return h + think(norm_2(h))


def _pre_norm_mistakes(x: Tensor, attend: Step, think: Step, norm_1: Step,
                       norm_2: Step) -> dict[str, Tensor]:
    """What known mistakes in a pre-norm block return."""
    h = x + attend(norm_1(x))
    post = norm_1(x + attend(x))
    first, second = norm_1(x), norm_2(h)
    normed = first + attend(first)
    return {
        "the norm stands after the addition: that is post-norm": norm_2(post + think(post)),
        "the residual is taken from the normed x, in both halves; add to x itself":
            norm_2(normed) + think(norm_2(normed)),
        "the first residual is taken from the normed x; add to x itself":
            normed + think(norm_2(normed)),
        "the second residual is taken from the normed x; add to x itself": second + think(second),
        "the second residual was forgotten: add what the feed-forward returns": think(second),
        "the first residual was forgotten: add what attention returns":
            attend(first) + think(norm_2(attend(first))),
        "both residuals were forgotten": think(norm_2(attend(first))),
        "the second residual goes back to the old x; what attention added is lost":
            x + think(second),
        "the feed-forward reads the old x; it comes after attention": h + think(norm_2(x)),
        "the norm is put on what the sublayer returns; put it on what the sublayer reads":
            x + norm_1(attend(x)) + norm_2(think(x + norm_1(attend(x)))),
        "the second norm was forgotten": h + think(h),
        "the first norm was forgotten": x + attend(x) + think(norm_2(x + attend(x))),
        "norm_1 is used twice; the second half has norm_2": h + think(norm_1(h)),
        "both norms were forgotten": x + attend(x) + think(x + attend(x)),
        "the two halves are exchanged: attention comes first":
            x + think(norm_2(x)) + attend(norm_1(x + think(norm_2(x)))),
        "the second half is missing": h,
        "one norm too many: the stream itself is not normed inside a block":
            norm_2(h + think(second)),
        "nothing was added to x": x,
    }


@checker
@torch.no_grad()
def check_block(answer):
    """answer(config) is a block, post- or pre-norm by config.norm: x [B, T, D], bias -> [B, T, D].

    Its parts are attention, attention_norm, feed_forward and ffn_norm.
    """
    _check_order(answer, "post", _post_norm, _post_norm_mistakes)
    _check_order(answer, "pre", _pre_norm, _pre_norm_mistakes)
    _check_dropout_of(answer)


def _check_order(answer: Any, norm: str, right: Callable[..., Tensor],
                 slips: Callable[..., dict[str, Tensor]]) -> None:
    config = BertConfig(d_model=8, n_head=2, d_ff=12, norm=norm, norm_eps=0.3)
    block = _build(answer, config, {
        "attention": nn.Module, "attention_norm": nn.LayerNorm, "feed_forward": nn.Module,
        "ffn_norm": nn.LayerNorm})
    for name in ("attention_norm", "ffn_norm"):
        require(getattr(block, name).eps == 0.3, f"self.{name} has another eps than "
                "config.norm_eps")
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(7))
    bias = padding_bias(torch.arange(5) < torch.tensor([[5], [3]]))
    attention, rest = block.attention, (block.feed_forward, block.attention_norm, block.ffn_norm)

    def attend(h: Tensor) -> Tensor:
        return attention.output(attention(h, bias))
    wrong = slips(x, attend, *rest) | {
        "what the heads found is not mixed: self.attention.output is missing":
            right(x, lambda h: attention(h, bias), *rest),
        "bias is not passed on to attention: padding is read":
            right(x, lambda h: attention.output(attention(h)), *rest)}
    expect(_call(block, x, bias), right(x, attend, *rest),
           {f"{norm}-norm: {words}": value for words, value in wrong.items()},
           f"{norm}-norm: the order is another; look at the two pairs of lines above")


def _check_dropout_of(answer: Any) -> None:
    """Whether dropout falls on what the sublayers return, and not on the stream."""
    config = BertConfig(d_model=8, n_head=2, norm="pre", dropout=0.9999, attention_dropout=0)
    block, x = answer(config).train(), torch.randn(2, 5, 8)
    with torch.random.fork_rng(devices=[]):
        got = block(x)
    require(not bool((got == 0).any()), "dropout falls on the stream; drop only what a sublayer "
                                        "returns, before it is added")
    expect(got, x, hint="in training nothing is dropped of what the sublayers return; put "
                        "self.dropout around both")
