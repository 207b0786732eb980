"""Closer looks at attention: one query's way, the heads' cut, and how waves tell a neighbour.

    show_svg(one_query())
"""

import math

import torch
from torch import Tensor

from bertlib.attention import explicit_attention
from bertlib.figures.diagram import BLUE, EDGE, PANEL, Canvas, Picture, Point
from bertlib.figures.maps import course
from bertlib.figures.plots import GREY, OURS, THEIRS
from bertlib.told import Told, turn, wave_table, wave_weights

NAMES = ("the", "river", "bank")
TOKENS = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 1.0]])  # [T, 2], as in notebook 03


def pair(vector: Tensor, digits: int = 0) -> str:
    """A vector of two numbers."""
    return f"({', '.join(f'{value:.{digits}f}' for value in vector.tolist())})"


def one_query() -> Picture:
    """Lesson 03: one query meets all keys; scores, softmax, and the weighted sum of the values."""
    query = TOKENS[-1:]  # [1, 2]
    mixed, weights = explicit_attention(query, TOKENS, TOKENS, scale=1.0)  # [1, 2], [1, T]
    scores = (query @ TOKENS.T)[0]  # [T]
    c = Canvas(700, 268, "One query's way through attention", (
        f"The query of '{NAMES[-1]}', {pair(query[0])}, is multiplied with the keys of "
        f"{', '.join(NAMES)}. A softmax turns the scores {', '.join(f'{s:.0f}' for s in scores)} "
        f"into the weights {', '.join(f'{w:.2f}' for w in weights[0])}, which sum to 1. The "
        f"values, each times its weight, add up to {pair(mixed[0], 1)}."))
    for x, words in ((56, "query"), (169, "keys"), (251, "1. q · k"), (405, "2. weights"),
                     (516, "3. values"), (636, "their sum")):
        c.text(x, 28, words, bold=True)
    c.box(16, 120, 80, 48)
    c.text(56, 135, NAMES[-1], bold=True)
    c.text(56, 153, pair(query[0]))
    c.box(286, 56, 64, 176, "step", "softmax")
    for n in range(len(NAMES)):
        _one_key(c, n, f"{scores[n]:.0f}", float(weights[0, n]))
    c.box(580, 120, 104, 48, "result")
    c.text(632, 135, f"{NAMES[-1]}, mixed", bold=True)
    c.text(632, 153, pair(mixed[0], 1))
    c.text(16, 248, "Toy vectors: (how watery, how financial).", size=12, fill=GREY, anchor="start")
    c.text(684, 248, "bank comes in undecided and leaves watery", size=12, fill=GREY, anchor="end")
    return c.picture()


def _one_key(c: Canvas, n: int, score: str, weight: float) -> None:
    """The line of one token: its key, score, weight and value."""
    y, width = 86 + 58 * n, 120 * weight
    c.line((96, 144), (121, y))
    c.box(124, y - 16, 90, 32, "data", f"{NAMES[n]} {pair(TOKENS[n])}")
    c.line((214, y), (233, y))
    c.box(236, y - 16, 30, 32, "data", score, bold=True)
    c.line((266, y), (283, y))
    c.line((350, y), (363, y))
    c.box(366, y - 11, width, 22, "bar")
    c.text(372 + width, y, f"{weight:.2f}", anchor="start")
    c.text(470, y, "×", size=15)
    c.box(484, y - 16, 64, 32, "data", pair(TOKENS[n]))
    c.line((548, y), (577, 136 + 8 * n))


def heads_cut() -> Picture:
    """Lesson 03: features are cut into heads by a cut and a swap, not by a mere view."""
    config = course()
    x = torch.tensor([[[10, 11, 12, 13], [20, 21, 22, 23]]])  # [B, T, D] = [1, 2, 4]
    heads = x.unflatten(-1, (2, -1)).transpose(1, 2)  # [B, H, T, D/H] = [1, 2, 2, 2]
    c = Canvas(700, 290, "How features are cut into heads", (
        "Two tokens of four features: 10 to 13 are the first, 20 to 23 the second. They are cut "
        "into two halves, which are regrouped by head: head 0 holds 10, 11 of the first token and "
        "20, 21 of the second, head 1 the rest. A view straight to that shape would give head 0 "
        "all of the first token and nothing of the second. The model cuts "
        f"{config.d_model} features into {config.n_head} heads of "
        f"{config.d_model // config.n_head}."))
    for left, shape in ((104, "[B, T, D]"), (315, "[B, T, H, D/H]"), (576, "[B, H, T, D/H]")):
        c.text(left, 26, shape, mono=True)
    _grid(c, 24, 70, x[0])
    _grid(c, 228, 70, x[0, :, :2])
    _grid(c, 322, 70, x[0, :, 2:])
    for n in range(2):
        c.text(522 + 108 * n, 54, f"head {n}", size=12, bold=True)
        _grid(c, 482 + 108 * n, 70, heads[0, n])
        _grid(c, 482 + 108 * n, 176, x.view(2, 2, 2)[n])
    c.text(206, 90, "cut", size=12)
    c.line((188, 104), (224, 104))
    c.text(442, 90, "swap", size=12)
    c.line((406, 104), (476, 104))
    c.text(576, 153, "✓ each head sees both tokens", size=12, fill=OURS)
    c.line((104, 142), (104, 210), (476, 210), dashed=True)
    c.text(290, 197, "only a view, to the same shape", size=12)
    c.text(290, 226, "✗ head 0 never sees the second token", size=12, fill=THEIRS)
    c.text(24, 270, "10 to 13 are the first token, 20 to 23 the second. The model cuts "
           f"D = {config.d_model} into H = {config.n_head} heads of "
           f"{config.d_model // config.n_head}.", size=12, fill=GREY, anchor="start")
    return c.picture()


def _grid(c: Canvas, x: float, y: float, rows: Tensor) -> None:
    """Numbers in squares: the last digit tells the head that they belong to."""
    for down, row in enumerate(rows.tolist()):
        for right, number in enumerate(row):
            c.add("rect", x=x + 40 * right, y=y + 34 * down, width=40, height=34, stroke=EDGE,
                  fill=BLUE if number % 10 < 2 else PANEL)
            c.text(x + 40 * right + 20, y + 34 * down + 17, str(number))


def _clock(c: Canvas, x: float, y: float, hands: dict[str, float]) -> None:
    """A face with hands: whose -> angle in radians, clockwise from twelve."""
    c.add("circle", cx=x, cy=y, r=26, fill=PANEL, stroke=EDGE)
    for whose, angle in hands.items():
        tip = (x + 23 * math.sin(angle), y - 23 * math.cos(angle))
        _hand(c, (x, y), tip, whose)


def _hand(c: Canvas, start: Point, tip: Point, whose: str) -> None:
    """Keys' hands are arrows, the query's is dashed, and thin before it is turned."""
    c.line(start, tip, colour=OURS if whose == "key" else THEIRS if whose == "query" else EDGE,
           width=3 if whose == "query" else 1.8, dashed=whose == "query", head=whose == "key")


def told_waves(place: int = 1, places: int = 7) -> Picture:
    """Lesson 03: how waves of position make a head look at the neighbour (see bertlib.told)."""
    told = Told()
    rates, (slope, offset, depth) = told.rates(), told.heads[0]  # [n]
    target = place + offset
    keys = wave_table(rates, places)  # [T, 2n]
    query = turn(rates, offset) @ keys[place]  # [2n]
    strength = wave_weights(rates, slope, depth).repeat(2)  # [2n]
    weights = (keys @ (strength * query)).softmax(0)  # [T]
    c = Canvas(700, 330, "How waves make a head look at its neighbour", (
        "A place is told by the hands of clocks that turn at different rates. Keys have the hands "
        f"of their places; the query of place {place} has its own turned {offset} place further. "
        f"A fast hand agrees with it at place {target} and again some places on, a slow one "
        f"roughly at several places. All {told.waves} waves agree at place {target} alone, which "
        f"gets {weights[target]:.0%} of the attention."))
    left, pitch = 236, 67
    c.box(left + pitch * target - 31, 14, 62, 288, "here")
    c.text(134, 24, f"query of {place},", size=12)
    c.text(134, 40, "turned on", size=12)
    for t in range(places):
        c.text(left + pitch * t, 32, f"key of {t}", size=12, bold=t == target)
    for y, wave, words in ((80, -2, "fast"), (144, -5, "slow")):
        rate = float(rates[wave])
        c.text(24, y - 8, f"a {words}", anchor="start")
        c.text(24, y + 8, "wave", anchor="start")
        _clock(c, 134, y, {"before": rate * place, "query": rate * target})
        for t in range(places):
            _clock(c, left + pitch * t, y, {"query": rate * target, "key": rate * t})
    for y, words in ((232, f"all {told.waves} waves,"), (248, "after the softmax")):
        c.text(24, y, words, anchor="start")
    for t, weight in enumerate(weights.tolist()):
        c.box(left + pitch * t - 18, 278 - 130 * weight, 36, 130 * weight, "bar")
        c.text(left + pitch * t, 290, f"{weight:.0%}", size=12, bold=t == target)
    for x, whose, words in ((24, "key", "key: the hand of its place"),
                            (250, "query", f"query, turned {offset} place on"),
                            (450, "before", "before it was turned")):
        _hand(c, (x, 316), (x + 26, 316), whose)
        c.text(x + 34, 316, words, size=12, fill=GREY, anchor="start")
    return c.picture()
