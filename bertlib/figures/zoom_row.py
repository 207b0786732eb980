"""A closer look at attention: one row of a head with real weights, at rest or step by step.

    row = words, place, q, k, v  # of one head
    show_svg(attention_row(*row), attention_row(*row, moving=True))

It moves by <set> and <animate> (SMIL) inside an SVG that pages hold as an <img>: there is neither
style nor script to strip, and it is as sharp as the still one. What moves is hidden until its turn
comes, and nothing else: after its two rounds, or in a viewer that knows no SMIL, it *is* the still
one. An animated PNG would be as safe, but larger and blurred when enlarged.
"""

import math
from collections.abc import Sequence

from torch import Tensor

from bertlib.attention import explicit_attention
from bertlib.figures.diagram import Canvas, Picture, short
from bertlib.figures.plots import GREY, OURS

ROUNDS = 2  # then it rests
WAVE, HEIGHT = 64, 13  # pixels that a vector is wide, and the most that it goes up or down
FINE = 25  # parts of that height: no finer, so that each machine rounds alike
TOP, PITCH = 80, 32  # of the first key, and from key to key
BAR = 90  # pixels of a share of 1
STEPS = ("query", "q · k", "divided", "softmax", "share × value", "their sum")


class Film:
    """When each step begins; all markup is empty where nothing moves."""

    def __init__(self, keys: int, moving: bool):
        """A second for each key, and two or more for each other step."""
        self.moving = moving
        lasts = (2.0, keys + 1.0, 2.5, 3.0, 4.0)
        self.begins = {step: sum(lasts[:n]) for n, step in enumerate(STEPS)}
        self.round = self.begins["their sum"] + 4

    def starts(self, second: float) -> str:
        """That second in each round."""
        return ";".join(f"{short(second + n * self.round)}s" for n in range(ROUNDS))

    def comes(self, step: str, later: float = 0.0) -> str:
        """Markup: not there before some seconds of a step."""
        return self._before("opacity", "0", self.begins[step] + later) if self.moving else ""

    def grows(self, width: float) -> str:
        """Markup: a bar that has its width after the first 1.5 seconds of the softmax."""
        second = self.begins["softmax"]
        return self.moving * (self._before("width", "0", second) + (
            f'<animate attributeName="width" from="0" to="{short(width)}" '
            f'begin="{self.starts(second)}" dur="1.5s"/>'))

    def shrinks(self, share: float) -> str:
        """Markup: a value that is whole at first, and as small as its share 3 seconds later."""
        second = self.begins["share × value"] + 1.5
        by = (f'<animateTransform attributeName="transform" type="scale" additive="sum" '
              f'from="1 {1 / share:.2g}" to="1 ')
        return self.moving * (
            f'{by}{1 / share:.2g}" begin="{self.starts(0)}" dur="{short(second)}s"/>'
            f'{by}1" begin="{self.starts(second)}" dur="1.5s"/>')

    def _before(self, name: str, value: str, second: float) -> str:
        if not second:
            return ""
        return (f'<set attributeName="{name}" to="{value}" begin="{self.starts(0)}" '
                f'dur="{short(second)}s"/>')


def draw(c: Canvas, vector: Tensor, x: float, y: float, highest: float, share: float = 1.0,
         move: str = "") -> None:
    """A vector as little bars that stand on height y, or hang from it; `highest` fills a box."""
    way, here = ["M0 0"], 0
    for value in (vector * (-FINE / highest)).round().int().tolist():
        way.append(f"v{value - here}h1")
        here = value
    c.add("path", move, d="".join((*way, f"v{-here}z")), fill=OURS, transform=(
        f"translate({short(x)} {short(y)}) scale({WAVE / len(vector):.3g} "
        f"{share * HEIGHT / FINE:.2g})"))


def attention_row(words: Sequence[str], place: int, q: Tensor, k: Tensor, v: Tensor,
                  moving: bool = False) -> Picture:
    """Lesson 03: what one token asks all tokens, and what it takes along.

    words: T tokens, of which that at `place` asks; q, k, v [T, D/H] of one head.
    `moving`: the same, step by step, twice.
    """
    width, asks, last = q.shape[-1], words[place], TOP + PITCH * (len(words) - 1)
    mixed, weights = (rows[0] for rows in explicit_attention(q[place : place + 1], k, v))
    dots = k @ q[place]  # [T]
    best = int(weights.argmax())
    c = Canvas(700, last + 68, f"One row of attention: what '{asks}' reads", (
        f"The query of '{asks}' is multiplied with the key of each token: "
        + ", ".join(f"{word} {dot:.1f}" for word, dot in zip(words, dots.tolist(), strict=True))
        + f". Divided by {math.sqrt(width):.3g}, the root of {width}, and put through a softmax "
        f"they become shares that sum to 1; '{words[best]}' gets {weights[best]:.2f}. Each value "
        f"is made as small as its share, and their sum is what '{asks}' takes along."))
    film, middle, highest = Film(len(words), moving), (TOP + last) / 2, float(v.abs().max())
    _heads(c, film, width)
    c.box(12, middle - 26, 80, 52, "here")
    c.text(52, middle - 13, asks, bold=True)
    draw(c, q[place], 20, middle + 10, float(q[place].abs().max()))
    _keys(c, film, words, k, middle)
    _shares(c, film, dots, weights, width)
    _values(c, film, weights, v, middle)
    late = film.comes("their sum", 0.5)
    c.box(604, middle - 26, 84, 52, "result", move=late)
    c.text(646, middle - 13, "mixed", bold=True, move=late)
    draw(c, mixed, 614, middle + 10, highest, move=late)
    c.text(12, last + 46, f"Little bars are a vector of {width} numbers: up is positive, down is "
           "negative.", size=12, fill=GREY, anchor="start")
    return c.picture()


def _heads(c: Canvas, film: Film, width: int) -> None:
    """What the columns are, with the number of their step."""
    c.text(179, 46, "keys")
    columns = {52: "query", 266: "q · k", 322: f"÷ √{width}", 392: "softmax",
               528: "share × value", 646: "their sum"}
    for number, (step, (x, words)) in enumerate(zip(STEPS, columns.items(), strict=True), 1):
        late = film.comes(step)
        c.add("circle", late, cx=x, cy=22, r=11, fill=OURS)
        c.text(x, 22, str(number), size=12, fill="#ffffff", bold=True, move=late)
        c.text(x, 46, words, move=late)


def _keys(c: Canvas, film: Film, words: Sequence[str], k: Tensor, middle: float) -> None:
    """Each token with its key, which the query meets in its turn."""
    for n, word in enumerate(words):
        y = TOP + PITCH * n
        c.line((92, middle), (117, y), move=film.comes("q · k", n))
        c.box(120, y - 14, 118, 28)
        c.text(126, y, word, size=12, anchor="start")
        draw(c, k[n], 168, y, float(k.abs().max()))


def _shares(c: Canvas, film: Film, dots: Tensor, weights: Tensor, width: int) -> None:
    """The numbers on their way from dot products to shares."""
    for n, (dot, weight) in enumerate(zip(dots.tolist(), weights.tolist(), strict=True)):
        y = TOP + PITCH * n
        c.text(266, y, f"{dot:.1f}", move=film.comes("q · k", n + 0.3))
        c.text(322, y, f"{dot / math.sqrt(width):.2f}", move=film.comes("divided"))
        c.box(356, y - 9, BAR * weight, 18, "bar", move=film.grows(BAR * weight))
        c.text(362 + BAR * weight, y, f"{weight:.2f}", anchor="start",
               move=film.comes("softmax", 1.5))


def _values(c: Canvas, film: Film, weights: Tensor, v: Tensor, middle: float) -> None:
    """Each value, which shrinks to its share, and their way into the sum."""
    for n, share in enumerate(weights.tolist()):
        y, late = TOP + PITCH * n, film.comes("share × value")
        c.box(488, y - 14, 80, 28, move=late)
        draw(c, v[n], 496, y, float(v.abs().max()), share, late + film.shrinks(share))
        c.line((568, y), (601, middle), move=film.comes("their sum"))
