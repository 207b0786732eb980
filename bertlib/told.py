"""What a head can be told before it learns: to look at the neighbours.

A position is told by waves: the sines and cosines of `rates` times the place. If the key takes them
as they are and the query turns each by rate x offset, then, as sin a sin b + cos a cos b is
cos(a - b), their product is a sum of cosines of the distance to the place `offset` tokens away,

    score(i, j) = sum over waves of weight x cos(rate x (j - i - offset)),

and a sum of cosines can have any even shape. Here it is depth x exp(-slope/depth |x|), a peak that
falls by `slope` a token near the top: its spectrum is Cauchy's, so that the weights are known. The
rates lie evenly on a logarithmic scale; evenly spaced ones would come together again some tokens
on, and a head would look there, too. The slowest wave turns once in 314 tokens: up to that length
no two places look alike. Sources: rotations as in Su et al. 2021 (RoPE), but in BERT's
own tables and matrices; Rahimi & Recht 2007, figure 1 (exp(-|x|) as a sum of waves).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bertlib.attention import MultiHeadAttention
from bertlib.bert import BertForMaskedLM
from bertlib.plumbing.files import InputError


@dataclass(frozen=True)
class Told:
    """How much of the width tells places, and where each head looks.

    waves: each takes two columns. slowest, fastest: their rates, in radians a token; above pi two
    rates look the same. heads: (slope, offset, depth) a head, then repeated; a slope of 0 leaves
    the head as it is. std: of the other columns of the token embeddings.
    """

    waves: int = 12
    slowest: float = 0.02
    fastest: float = 2.6
    heads: tuple[tuple[float, int, float], ...] = (
        (2.0, 1, 12.0), (2.0, -1, 12.0), (0.25, 0, 8.0), (0.03, 0, 2.0))
    std: float = 0.07

    @property
    def columns(self) -> slice:
        """Of the model's width: the last ones."""
        return slice(-2 * self.waves, None)

    def head(self, number: int) -> tuple[float, int, float]:
        """(slope, offset, depth) of a layer's head."""
        return self.heads[number % len(self.heads)]

    def rates(self) -> Tensor:
        """Radians a token, from slow to fast: [n]."""
        return torch.logspace(math.log10(self.slowest), math.log10(self.fastest), self.waves)


def wave_table(rates: Tensor, length: int) -> Tensor:
    """The waves at each place: [T, 2n], all sines, then all cosines."""
    angles = torch.arange(length)[:, None] * rates  # [T, n]
    return torch.cat((angles.sin(), angles.cos()), dim=1)


def turn(rates: Tensor, offset: int) -> Tensor:
    """The matrix [2n, 2n] that makes the waves of a place those of `offset` tokens further on."""
    cos, sin = (rates * offset).cos().diag(), (rates * offset).sin().diag()  # [n, n] each
    return torch.cat((torch.cat((cos, sin), 1), torch.cat((-sin, cos), 1)))


def wave_weights(rates: Tensor, slope: float, depth: float) -> Tensor:
    """What each wave weighs [n] in a sum of cosines like depth x exp(-slope/depth |x|)."""
    sharp = slope / depth
    step = rates * (rates[1] / rates[0]).log()  # from each rate to the next one
    return depth * 2 / math.pi * sharp / (rates**2 + sharp**2) * step


def level(words: Tensor, told: Told) -> None:
    """Make all words [V, D], which are zero where the waves are, equally long."""
    length = told.std * math.sqrt(words.shape[1] - 2 * told.waves)
    words.mul_(length / words.norm(dim=1, keepdim=True).clamp(min=1e-9))


@torch.no_grad()
def tell(model: BertForMaskedLM, told: Told) -> None:
    """Write the waves into the position table, and each head's preference into its matrices.

    Words and token types are zero where the waves are, and all words have one length, so that
    after the norm a wave is as strong at one word as at another. The head's own layer begins by
    doing nothing. `InputError` if the model has no table of positions, is too narrow, or must not
    look to the right.
    """
    embeddings, columns = model.encoder.embeddings, told.columns
    if model.config.causal:
        raise InputError("A GPT's heads must not look at the right neighbour, so that they are "
                         "told nothing; take another start, such as 'counts'.")
    if embeddings.position is None:
        raise InputError("Heads can be told to look at neighbours only where positions are "
                         "learned; take another architecture or another start.")
    width, head = model.config.d_model, model.config.d_model // model.config.n_head
    if 2 * told.waves > head:
        raise InputError(f"{told.waves} waves need heads of {2 * told.waves} features, and these "
                         f"have {head}; take fewer heads or a larger d_model.")
    words, rates = embeddings.token.weight, told.rates()
    words[:, columns] = 0
    level(words, told)
    embeddings.position.weight.zero_()
    waves = wave_table(rates, model.config.seq_len)  # [T, 2n], mean square 1/2
    embeddings.position.weight[:, columns] = waves * math.sqrt(2) * told.std
    if embeddings.token_type is not None:
        embeddings.token_type.weight.zero_()
    for block in model.encoder.blocks:
        tell_heads(block.attention, told)
    if (layer := model.head.transform) is not None and model.config.activation == "gelu":
        layer.weight.copy_(4 * torch.eye(width))  # up there GELU(x) = x, and the norm after it
        layer.bias.fill_(20.0)  # takes out the 20 and the 4


def tell_heads(attention: MultiHeadAttention, told: Told) -> None:
    """Make each head's queries and keys prefer a distance, where its input has waves.

    What they make of the other columns stays as it is.
    """
    rates, size = told.rates(), attention.query.weight.shape[0] // attention.n_head
    for number in range(attention.n_head):
        slope, offset, depth = told.head(number)
        if slope == 0:
            continue
        weights = wave_weights(rates, slope, depth)  # [n]
        # after the norm a wave's amplitude is sqrt(2), and scores are divided by sqrt(size)
        strength = (weights * math.sqrt(size) / 2).sqrt().repeat(2)  # [2n]
        if attention.qk_gain is not None:  # it compares directions: the peak is its gain
            attention.qk_gain[number] = weights.sum() / math.sqrt(size)
        rows = slice(number * size, number * size + len(strength))
        for matrix, waves in ((attention.key, strength.diag()),
                              (attention.query, strength[:, None] * turn(rates, offset))):
            matrix.weight[number * size : (number + 1) * size, told.columns] = 0
            matrix.weight[rows, told.columns] = waves


class Kept:
    """What was told to a model, so that training can put it back after each step.

    A step of Muon changes each direction of a matrix by the same amount and would walk over what
    was told within a minute. What blocks add to the waves would change them, too, so that they
    add nothing there; and longer words would drown them, so that all keep their length.
    """

    def __init__(self, model: BertForMaskedLM, told: Told):
        self.told, self.words = told, model.encoder.embeddings.token.weight.detach()
        self.parts = [(part, part.clone()) for part in told_parts(model, told)]

    def put_back(self) -> None:
        """Make all of it what it was."""
        for part, kept in self.parts:
            part.copy_(kept)
        level(self.words, self.told)


def told_parts(model: BertForMaskedLM, told: Told) -> list[Tensor]:
    """Views of the weights that hold what was told: places, and where heads look."""
    embeddings, columns = model.encoder.embeddings, told.columns
    assert embeddings.position is not None  # else nothing could be told
    parts = [embeddings.token.weight[:, columns], embeddings.position.weight]
    for block in model.encoder.blocks:
        for layer in (block.attention.output, block.feed_forward.down):
            parts += [parameter[columns] for parameter in layer.parameters()]
        for layer in (block.attention.query, block.attention.key):
            heads = layer.weight.unflatten(0, (block.attention.n_head, -1))  # [H, D/H, D]
            parts += [head[:, columns] for number, head in enumerate(heads)
                      if told.head(number)[0]]
    return [part.detach() for part in parts]
