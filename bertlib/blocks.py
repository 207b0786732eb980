"""The block: attention, then a feed-forward layer, each added to what came in.

Sources: Vaswani et al. 2017, section 3 (the norm after the addition, as in BERT);
Xiong et al. 2020 (the norm before the sublayer: trains without warm-up).
"""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.attention import MultiHeadAttention
from bertlib.plumbing.device import as_multiplied


def squared_relu(x: Tensor) -> Tensor:
    """max(x, 0)^2. Source: So et al. 2021 (Primer), section 4."""
    return F.relu(x).square()


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu, "relu2": squared_relu,
    "gelu_new": partial(F.gelu, approximate="tanh"),  # GPT-2's, by transformers' name
}


class FeedForward(nn.Module):
    """Widen, bend, narrow: [.., D] -> [.., d_ff] -> [.., D], each token for itself."""

    def __init__(self, config):
        super().__init__()
        self.up = nn.Linear(config.d_model, config.d_ff, bias=config.bias)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=config.bias)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, x: Tensor) -> Tensor:
        return self.down(self.activation(self.up(x)))


class Block(nn.Module):
    """One layer of the encoder, post-norm (BERT) or pre-norm by `config.norm`."""

    def __init__(self, config):
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.attention = MultiHeadAttention(config)
        self.attention_norm = nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)
        self.feed_forward = FeedForward(config)
        self.ffn_norm = nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: Tensor, bias: Tensor | None = None, keep: Tensor | None = None,
                past: list[Tensor] | None = None) -> Tensor:
        """x [B, T, D] -> [B, T, D], or with `keep` [K] (flat positions) -> [K, D].

        `keep` drops all other positions after the values are mixed: exact, since from there on
        each token is on its own, and most of a last block's work is saved. `past`: as in attention.
        """
        if not self.pre_norm:  # it is normed anew below, so that few digits do
            x = as_multiplied(x)
        mixed = self.attention(self.attention_norm(x) if self.pre_norm else x, bias, past)
        if keep is not None:
            x, mixed = x.flatten(0, 1)[keep], mixed.flatten(0, 1)[keep]  # [K, D]
        added = self.dropout(self.attention.output(mixed))
        if self.pre_norm:
            x = x + added
            return x + self.dropout(self.feed_forward(self.ffn_norm(x)))
        x = self.attention_norm(x + added)
        return self.ffn_norm(x + self.dropout(self.feed_forward(x)))
