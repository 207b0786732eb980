"""Attention: the fast kernel against the explicit steps."""

import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from bertlib.attention import (
    MultiHeadAttention,
    attend,
    causal_bias,
    distance_bias,
    explicit_attention,
    padding_bias,
)
from bertlib.bert import BertConfig

torch.manual_seed(0)


def heads(*shape):
    return [torch.randn(*shape) for _ in range(3)]


def test_explicit_steps_agree_with_the_fused_kernel():
    q, k, v = heads(2, 4, 10, 16)
    keep = torch.tensor([[True] * 10, [True] * 6 + [False] * 4])
    mixed, weights = explicit_attention(q, k, v, padding_bias(keep))
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=padding_bias(keep))
    assert torch.allclose(mixed, fused, atol=1e-6)
    assert torch.allclose(weights.sum(-1), torch.ones(2, 4, 10))
    assert (weights[1, :, :, 6:] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("is_padded", [False, True])
def test_either_way_of_attending_mixes_the_same_and_learns_the_same(dtype, is_padded):
    """In bfloat16 a processor takes the explicit steps; both ways round to 8 binary digits."""
    keep = torch.tensor([[True] * 10, [True] * 6 + [False] * 4])
    bias, target = padding_bias(keep) if is_padded else None, torch.randn(2, 4, 10, 16)
    whole = [x.requires_grad_() for x in heads(2, 4, 10, 16)]
    rounded = [x.detach().to(dtype).requires_grad_() for x in whole]
    wanted = F.scaled_dot_product_attention(*whole, attn_mask=bias)
    mixed = attend(*rounded, None if bias is None else bias.to(dtype), 0.0)
    for out in (wanted, mixed):
        (out.float() * target).sum().backward()
    near = dict(atol=1e-5) if dtype == torch.float32 else dict(atol=0.06, rtol=0.05)
    assert mixed.dtype == dtype and torch.allclose(mixed.float(), wanted, **near)
    for x, y in zip(rounded, whole, strict=True):
        assert torch.allclose(x.grad.float(), y.grad, **near)


def test_attention_is_blind_to_padding():
    config = BertConfig.preset("tiny", vocab_size=50)
    attention = MultiHeadAttention(config).eval()
    x = torch.randn(1, 8, config.d_model)
    keep = torch.tensor([[True] * 5 + [False] * 3])
    short = attention(x[:, :5])
    padded = attention(x, padding_bias(keep))[:, :5]
    assert torch.allclose(short, padded, atol=1e-6)


def test_nobody_reads_what_comes_later():
    q, k, v = heads(2, 4, 10, 16)
    mixed, weights = explicit_attention(q, k, v, causal_bias(10))
    fused = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    assert torch.allclose(mixed, fused, atol=1e-6)
    assert (weights.triu(1) == 0).all() and (weights.tril() > 0).sum() == 2 * 4 * 55


@torch.no_grad()
def test_what_was_read_before_is_read_as_if_it_were_here():
    attention = MultiHeadAttention(BertConfig.preset("fast", vocab_size=50)).eval()
    x, bias = torch.randn(2, 9, 256), causal_bias(9)
    whole, past = attention(x, bias), []
    for start, end in ((0, 4), (4, 5), (5, 9)):
        part = attention(x[:, start:end], bias[start:end, :end], past)
        assert torch.allclose(part, whole[:, start:end], atol=1e-6)
    assert [tuple(kept.shape) for kept in past] == [(2, 2, 4, n, 64) for n in (4, 1, 4)]


def test_distance_heads_look_where_they_should():
    bias = distance_bias(((2.0, 1), (2.0, -1), (0.25, 0), (0.0, 0)), 6)
    assert bias.shape == (1, 4, 6, 6)
    row = bias[0, :, 3]  # the token at place 3
    assert [row[h].argmax().item() for h in range(3)] == [4, 2, 3]
    assert row[2, 5].item() == pytest.approx(-0.5)
    assert (row[3] == 0).all()


def test_qk_norm_ignores_lengths():
    config = BertConfig.preset("fast", vocab_size=50)
    attention = MultiHeadAttention(config)
    x = torch.randn(1, 8, config.d_model)
    before = attention(x)
    with torch.no_grad():
        attention.query.weight.mul_(7)
    assert torch.allclose(before, attention(x), atol=1e-5)


def test_the_gain_of_a_head_sharpens_that_head():
    torch.manual_seed(0)
    layer = MultiHeadAttention(SimpleNamespace(d_model=16, n_head=2, bias=False, qk_norm=True,
                                               attention_dropout=0.0))
    x = torch.randn(2, 5, 16)
    with torch.no_grad():
        layer.qk_gain.copy_(torch.tensor([1.0, 3.0])[:, None, None])
        weights = layer.weights(x)  # [B, H, T, T]
        q, k = (layer.split(part(x)) for part in (layer.query, layer.key))
        for head, gain in enumerate((1.0, 3.0)):
            unit = [h[:, head] / h[:, head].square().mean(-1, keepdim=True).sqrt() for h in (q, k)]
            scores = gain * unit[0] @ unit[1].mT / 8**0.5
            assert torch.allclose(weights[:, head], scores.softmax(-1), atol=1e-5)


def test_scale_is_one_over_root_of_head_width():
    q = torch.zeros(1, 1, 1, 4)
    q[..., 0] = 2.0
    k = torch.tensor([[[[2.0, 0, 0, 0], [0.0, 0, 0, 0]]]])
    _, weights = explicit_attention(q, k, k)
    assert weights[0, 0, 0, 0].item() == pytest.approx(1 / (1 + math.exp(-2)))
