"""BERT: embeddings, a stack of blocks, and a head that names the hidden words.

Source: Devlin et al. 2018, sections 3 and 3.1. The defaults are BERT as published; the fields of
`BertConfig` turn it into the variants that the course compares.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bertlib.attention import causal_bias, distance_bias, padding_bias, sinusoids
from bertlib.blocks import ACTIVATIONS, Block
from bertlib.plumbing.files import InputError, nearest

MOST = {"vocab_size": 10_000_000, "seq_len": 100_000, "d_model": 65_536, "n_head": 1_024,
        "n_layer": 1_000, "d_ff": 1_000_000, "n_token_type": 1_000}
MOST_DISTANCES = 2**27  # H * T * T, the table for position="distance": half a gigabyte


@dataclass(frozen=True)
class BertConfig:
    """The shape of a model. `d_ff=0` means 4 * d_model; `replace` keeps what came of it."""

    vocab_size: int = 30522
    seq_len: int = 512  # longest input, in tokens
    d_model: int = 768
    n_head: int = 12
    n_layer: int = 12
    d_ff: int = 0
    dropout: float = 0.1
    attention_dropout: float = 0.1
    causal: bool = False  # GPT: each token reads those before it only, and predicts the next one
    norm: str = "post"  # "pre": norm before the sublayer, and one more at the end
    position: str = "learned"  # "sinusoidal", or "distance": a bias per head, see distance_heads
    distance_heads: tuple[tuple[float, int], ...] = ()  # (slope, offset) a head, then repeated
    n_token_type: int = 2  # 0: none
    embedding_norm: bool = True
    activation: str = "gelu"  # "relu2", "gelu_new"
    tied: bool = True  # the decoder shares the token embeddings
    head_transform: bool = True  # dense + activation + norm before the decoder
    bias: bool = True  # in the blocks and the encoder's norms; a head has its own in any case
    qk_norm: bool = False
    norm_eps: float = 1e-12
    init_std: float = 0.02
    zero_init: bool = False  # sublayers start by adding nothing

    def __post_init__(self):
        object.__setattr__(self, "d_ff", self.d_ff or 4 * self.d_model)
        for name, most in MOST.items():
            low, value = int(name != "n_token_type"), getattr(self, name)
            if not low <= value <= most:
                raise InputError(f"{name} is {value}; it must lie in {low}..{most:,}.")
        if self.d_model % self.n_head:
            raise InputError(f"d_model={self.d_model} is no multiple of n_head={self.n_head}.")
        below = {"dropout": 1, "attention_dropout": 1, "norm_eps": math.inf, "init_std": math.inf}
        for name, end in below.items():
            if not 0 <= (value := getattr(self, name)) < end:
                raise InputError(f"{name} is {value}; it must be at least 0 and below {end}.")
        choices = {"norm": ("post", "pre"), "activation": tuple(ACTIVATIONS),
                   "position": ("learned", "sinusoidal", "distance")}
        for name, known in choices.items():
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name} is '{value}'. {nearest(str(value), known)}")
        entries = len(self.distance_heads)
        if self.position == "distance" and (not entries or self.n_head % entries):
            raise InputError(
                f"distance_heads has {entries} entries for n_head={self.n_head}; give one "
                "(slope, offset) a head, or a pattern that the heads are a multiple of."
            )
        if self.position == "distance" and self.n_head * self.seq_len**2 > MOST_DISTANCES:
            raise InputError(f"n_head * seq_len**2 is more than {MOST_DISTANCES:,}; take less.")

    @classmethod
    def preset(cls, name: str, **changes) -> "BertConfig":
        """A named shape, with `changes`: bert_base, bert, wiki, gpt, fast, small, tiny."""
        if name not in PRESETS:
            raise InputError(f"There is no model preset '{name}'. {nearest(name, PRESETS)}")
        return cls(**PRESETS[name] | changes)


PRESETS: dict[str, dict[str, Any]] = {
    "bert_base": {},
    "wiki": dict(seq_len=128, n_layer=6, dropout=0.35, attention_dropout=0.35, norm="pre",
                 position="sinusoidal", n_token_type=0, tied=False, head_transform=False,
                 norm_eps=1e-5),
    "gpt": dict(causal=True, norm="pre", embedding_norm=False, n_token_type=0, norm_eps=1e-5,
                activation="gelu_new", head_transform=False, zero_init=True),
    "fast": dict(seq_len=128, d_model=256, n_head=4, n_layer=4, dropout=0.0, attention_dropout=0.0,
                 norm="pre", position="distance", n_token_type=0, activation="relu2",
                 head_transform=False, bias=False, qk_norm=True, norm_eps=1e-5, zero_init=True,
                 distance_heads=((2.0, 1), (2.0, -1), (0.25, 0), (0.03, 0))),
    "bert": dict(seq_len=128, d_model=256, n_head=4, n_layer=4, zero_init=True),
    "small": dict(seq_len=128, d_model=256, n_head=4, n_layer=4),
    "tiny": dict(seq_len=32, d_model=64, n_head=4, n_layer=2),
}


class Embeddings(nn.Module):
    """Token + position + token type, normed: ids [B, T] from place `first` on -> [B, T, D]."""

    waves: Tensor | None

    def __init__(self, config: BertConfig):
        super().__init__()
        width, kind = config.d_model, config.position
        self.token = nn.Embedding(config.vocab_size, width)
        self.position = nn.Embedding(config.seq_len, width) if kind == "learned" else None
        waves = sinusoids(config.seq_len, width) if kind == "sinusoidal" else None
        self.register_buffer("waves", waves, persistent=False)
        types = config.n_token_type
        self.token_type = nn.Embedding(types, width) if types else None
        norm = nn.LayerNorm(width, eps=config.norm_eps, bias=config.bias)
        self.norm = norm if config.embedding_norm else nn.Identity()
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None, first=0) -> Tensor:
        places = slice(first, first + input_ids.shape[1])
        x = self.token(input_ids)  # [B, T, D]
        if self.position is not None:
            x = x + self.position.weight[places]  # [T, D]
        if self.waves is not None:
            x = x + self.waves[places]  # [T, D]
        if self.token_type is not None:
            kinds = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
            x = x + self.token_type(kinds)
        return self.dropout(self.norm(x))


class Encoder(nn.Module):
    """Embeddings and blocks: what the MLM head and all later heads stand on."""

    distance: Tensor | None

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.blocks: Sequence[Block] = nn.ModuleList(  # type: ignore[assignment]
            Block(config) for _ in range(config.n_layer))
        norm = nn.LayerNorm(config.d_model, eps=config.norm_eps, bias=config.bias)
        self.final_norm = norm if config.norm == "pre" else nn.Identity()
        pattern = config.distance_heads * (config.n_head // max(1, len(config.distance_heads)))
        table = distance_bias(pattern, config.seq_len) if config.position == "distance" else None
        self.register_buffer("distance", table, persistent=False)

    def scores_bias(self, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor | None:
        """What is added to all attention scores: padding, distance, the future; or None."""
        bias = None if attention_mask is None else padding_bias(attention_mask)
        if self.distance is not None:
            length = input_ids.shape[1]
            near = self.distance[:, :, :length, :length]  # [1, H, T, T]
            bias = near if bias is None else bias + near
        if self.config.causal:
            later = causal_bias(input_ids.shape[1], input_ids.device)  # [T, T]
            bias = later if bias is None else bias + later
        return bias

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None, keep: Tensor | None = None,
                layers: list[Tensor] | None = None) -> Tensor:
        """Ids [B, T] -> hidden states [B, T, D], or [K, D] at the flat positions `keep`.

        attention_mask [B, T] is False at padding. `layers` collects the state after the
        embeddings and after each block.
        """
        if input_ids.shape[1] > self.config.seq_len:
            raise InputError(
                f"The input has {input_ids.shape[1]} tokens, the model takes at most "
                f"{self.config.seq_len}; shorten it."
            )
        bias = self.scores_bias(input_ids, attention_mask)
        x = self.embeddings(input_ids, token_type_ids)  # [B, T, D]
        collect = (lambda state: None) if layers is None else layers.append
        collect(x)
        for block in self.blocks[:-1]:
            x = block(x, bias)
            collect(x)
        x = self.blocks[-1](x, bias, keep)  # [B, T, D] or [K, D]
        collect(x)
        return self.final_norm(x)


class MLMHead(nn.Module):
    """Hidden states [.., D] -> logits [.., V]."""

    def __init__(self, config: BertConfig):
        super().__init__()
        width = config.d_model
        self.transform = nn.Linear(width, width) if config.head_transform else None
        self.norm = nn.LayerNorm(width, eps=config.norm_eps) if config.head_transform else None
        self.activation = ACTIVATIONS[config.activation]
        self.decoder = nn.Linear(width, config.vocab_size)

    def forward(self, x: Tensor) -> Tensor:
        if self.transform is not None and self.norm is not None:
            x = self.norm(self.activation(self.transform(x)))
        return self.decoder(x)


class MLMOutput(NamedTuple):
    """logits [K, V], or [B, T, V] if no positions were given; loss in nats, or None."""

    logits: Tensor
    loss: Tensor | None


class BertForMaskedLM(nn.Module):
    """The whole model: predicts the words at masked positions."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.head = MLMHead(config)
        self.apply(self._init)
        if config.zero_init:
            for block in self.encoder.blocks:
                nn.init.zeros_(block.attention.output.weight)
                nn.init.zeros_(block.feed_forward.down.weight)
        if config.tied:
            self.head.decoder.weight = self.encoder.embeddings.token.weight

    def _init(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.config.init_std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)

    def forward(self, input_ids: Tensor, positions: Tensor | None = None,
                labels: Tensor | None = None, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None) -> MLMOutput:
        """Ids [B, T] -> logits and, with labels, the mean cross-entropy in nats.

        With `positions` [K], flat into [B*T], only those are computed and `labels` is [K];
        without, all are and `labels` is [B, T] with -100 where nothing is predicted.
        """
        hidden = self.encoder(input_ids, attention_mask, token_type_ids, keep=positions)
        logits = self.head(hidden).float()  # [K, V] or [B, T, V]
        if labels is None:
            return MLMOutput(logits, None)
        return MLMOutput(logits, F.cross_entropy(logits.flatten(0, -2), labels.flatten()))

    def n_parameters(self) -> int:
        """Trainable numbers, shared ones once."""
        return sum(p.numel() for p in self.parameters())
