"""Attention: each token asks all others, and mixes what they answer.

Source: Vaswani et al. 2017, section 3.2. The readable path (`explicit_attention`) and the fast
one (PyTorch's fused kernel) stand side by side; a test holds them equal.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def explicit_attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None,
                       scale: float | None = None) -> tuple[Tensor, Tensor]:
    """Scaled dot-product attention, step by step.

    q, k, v [B, H, T, D/H]; bias broadcasts to [B, H, T, T] and is added to the scores, -inf
    where nothing may be read. Returns (mixed values [B, H, T, D/H], weights [B, H, T, T]).
    """
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.transpose(-2, -1) * scale  # [B, H, T, T]
    if bias is not None:
        scores = scores + bias
    weights = scores.softmax(dim=-1)  # each row sums to 1
    return weights @ v, weights


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    """The mixed values alone, by whichever way is faster here: [B, H, T, D/H].

    PyTorch's fused kernel never writes the weights [B, H, T, T] to memory. Its backward pass for a
    processor's bfloat16 is slow, though: the explicit steps take a quarter of its time at 128
    tokens, and half at 512 (in float32 it is the other way round).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and not dropout:
        return explicit_attention(q, k, v, bias)[0]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)


def padding_bias(attention_mask: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Scores to add so that nobody reads padding: [B, T] bool -> [B, 1, 1, T], 0 or -inf."""
    bias = torch.zeros(attention_mask.shape, dtype=dtype, device=attention_mask.device)
    return bias.masked_fill(~attention_mask.bool(), -math.inf)[:, None, None, :]


def causal_bias(length: int, device: torch.device | None = None) -> Tensor:
    """Scores to add so that nobody reads what comes after it: [T, T], 0 or -inf."""
    return torch.full((length, length), -math.inf, device=device).triu(1)


def distance_bias(heads: tuple[tuple[float, int], ...], length: int) -> Tensor:
    """A fixed preference of each head for a distance: [1, H, T, T].

    A head (slope, offset) loses `slope` per token of distance from the place `offset` tokens to
    the right of the one that asks: (2, 1) looks at the right neighbour, (2, -1) at the left one,
    (0.25, 0) around itself, (0, 0) everywhere.
    Source: ALiBi (Press et al. 2022, section 3), made two-sided; the offsets are this course's.
    """
    place = torch.arange(length)  # [T]
    distance = place[None, :] - place[:, None]  # [T, T], key minus query
    rows = [-slope * (distance - offset).abs() for slope, offset in heads]
    return torch.stack(rows)[None].float()


class MultiHeadAttention(nn.Module):
    """Several attentions side by side, each in its own slice of D/H features.

    `config` needs d_model, n_head, bias, qk_norm, attention_dropout.
    """

    def __init__(self, config):
        super().__init__()
        width = config.d_model
        self.n_head = config.n_head
        self.dropout = config.attention_dropout
        self.query = nn.Linear(width, width, bias=config.bias)
        self.key = nn.Linear(width, width, bias=config.bias)
        self.value = nn.Linear(width, width, bias=config.bias)
        self.output = nn.Linear(width, width, bias=config.bias)
        self.qk_gain = nn.Parameter(torch.ones(self.n_head, 1, 1)) if config.qk_norm else None

    def split(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, H, T, D/H]."""
        return x.unflatten(-1, (self.n_head, -1)).transpose(1, 2)

    def queries_and_keys(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What is asked and what is offered: x [B, T, D] -> two of [B, H, T, D/H]."""
        q, k = self.split(self.query(x)), self.split(self.key(x))  # [B, H, T, D/H] each
        if self.qk_gain is not None:  # Henry et al. 2020: compare directions, not lengths
            q = F.rms_norm(q, q.shape[-1:]) * self.qk_gain.to(q.dtype)
            k = F.rms_norm(k, k.shape[-1:])
        return q, k

    def weights(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """Who reads from whom, for pictures: x [B, T, D] -> [B, H, T, T], each row sums to 1."""
        q, k = self.queries_and_keys(x)
        return explicit_attention(q, k, k, bias)[1]

    def forward(self, x: Tensor, bias: Tensor | None = None,
                past: list[Tensor] | None = None) -> Tensor:
        """x [B, T, D], bias broadcasting to [B, H, T, T] -> mixed values [B, T, D].

        The output projection is left to the block, which may need it at a few positions only.
        `past` holds keys and values of P tokens before x, which are read, too: those of x join
        them, and bias then broadcasts to [B, H, T, P + T].
        """
        q, k = self.queries_and_keys(x)
        v = self.split(self.value(x))  # [B, H, T, D/H]
        if past is not None:
            past.append(torch.stack((k, v)))  # [2, B, H, T, D/H]
            k, v = torch.cat(past, dim=-2)  # [B, H, P + T, D/H] each
        dropout = self.dropout if self.training else 0.0
        bias = None if bias is None else bias.to(q.dtype)
        return attend(q, k, v, bias, dropout).transpose(1, 2).flatten(2)  # [B, T, D]


def sinusoids(length: int, width: int) -> Tensor:
    """Position codes [T, D]: waves from 2 pi to 10,000 * 2 pi tokens (Vaswani 2017, 3.5)."""
    rates = torch.exp(torch.arange(0, width, 2) * (-math.log(10_000.0) / width))  # [D/2]
    angles = torch.arange(length)[:, None] * rates  # [T, D/2]
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)[:, :width]
