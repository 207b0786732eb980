"""Diagrams: a few shapes and words on a light panel, as SVG that any viewer can show.

Everything is said by attributes, for sites that show notebooks strip <style>; words are <text>
in the reader's own font. Blue and rounded is what learns, white and square is what flows, orange
and dashed is what is hidden: nothing is told by colour alone.
"""

import base64
from html import escape
from typing import NamedTuple

from IPython.display import display
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextToPath

from bertlib.figures.plots import GREY, OURS, THEIRS

INK, PANEL, PALE, EDGE = "#1a1a1a", "#ffffff", "#f3f3f1", "#8c8c8c"
BLUE, ORANGE, HERE = "#e4eff9", "#fdefe3", "#fff3c9"  # grounds that words stand on
KINDS: dict[str, dict[str, float | str]] = {  # what a box is: fill, stroke, corners, dashes
    "learned": dict(fill=BLUE, stroke=OURS, rx=7),
    "norm": dict(fill=OURS, stroke=OURS, rx=12),
    "data": dict(fill=PANEL, stroke=EDGE, rx=0),
    "hidden": dict(fill=ORANGE, stroke=THEIRS, rx=0, stroke_width=1.6, stroke_dasharray="5 2.5"),
    "gone": dict(fill=PANEL, stroke="#c4c4c4", rx=0, stroke_dasharray="2 3"),
    "step": dict(fill=PALE, stroke=EDGE, rx=7),
    "result": dict(fill=PANEL, stroke=INK, rx=0, stroke_width=2),
    "here": dict(fill=HERE, stroke=THEIRS, rx=7, stroke_width=1.6),
    "bar": dict(fill=OURS, rx=0),
}
MONO = "ui-monospace, monospace"
Point = tuple[float, float]


class Picture(NamedTuple):
    """An SVG and what it shows, in words for those who cannot see it."""

    svg: str
    alt: str
    width: int


def text_width(words: str, size: float, bold: bool = False, mono: bool = False) -> float:
    """Pixels that words take in DejaVu, the widest of the fonts that readers are likely to have."""
    family = "DejaVu Sans Mono" if mono else "DejaVu Sans"
    font = FontProperties(family=family, size=size, weight="bold" if bold else "normal")
    return TextToPath().get_text_width_height_descent(words, font, ismath=False)[0]


def short(value: float | str) -> str:
    """A number without needless digits, so that files are small and the same everywhere."""
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")


class Canvas:
    """A panel to draw on; what comes later lies above. Lengths are pixels, y grows downwards.

    `move` is the markup of an animation; what does not move has none.
    """

    def __init__(self, width: int, height: int, title: str, words: str):
        """`title` names the picture, `words` tell what is to be seen: its alt text."""
        self.width, self.height, self.title, self.words = width, height, title, words
        self.parts: list[str] = []
        self.add("rect", x=0.5, y=0.5, width=width - 1, height=height - 1, rx=10, fill=PANEL,
                 stroke="#d4d4d4")

    def add(self, tag: str, inner: str = "", **attributes: float | str) -> None:
        """An element; `_` in a name stands for `-`, and `inner` is markup."""
        told = "".join(f' {name.replace("_", "-")}="{escape(short(value))}"'
                       for name, value in attributes.items())
        self.parts.append(f"<{tag}{told}>{inner}</{tag}>" if inner else f"<{tag}{told}/>")

    def box(self, x: float, y: float, width: float, height: float, kind: str = "data",
            words: str = "", move: str = "", **text) -> None:
        """A box of one of the KINDS, with `words` in its middle."""
        self.add("rect", move, x=x, y=y, width=width, height=height, **KINDS[kind])
        if words:
            self.text(x + width / 2, y + height / 2, words, move=move, **text)

    def text(self, x: float, y: float, words: str, size: float = 13, fill: str = INK,
             anchor: str = "middle", bold: bool = False, mono: bool = False,
             move: str = "") -> None:
        """Words with their middle at height y; `anchor`: start, middle or end at x."""
        more: dict[str, float | str] = {} if anchor == "start" else {"text_anchor": anchor}
        if bold:
            more["font_weight"] = "bold"
        if mono:
            more["font_family"] = MONO
        if size != 13:
            more["font_size"] = size
        self.add("text", escape(words, quote=False) + move, x=x, y=y + 0.36 * size, fill=fill,
                 **more)

    def line(self, *points: Point, colour: str = GREY, width: float = 1.4, dashed: bool = False,
             head: bool = True, bend: float = 6, move: str = "") -> None:
        """A line with round bends from point to point, with an arrow's `head` at its end."""
        way = [f"M{short(points[0][0])} {short(points[0][1])}"]
        tip = points[-1]
        end = toward(tip, points[-2], 2 + 1.4 * width) if head else tip
        for before, here, after in zip(points, points[1:], points[2:], strict=False):
            enter, leave = toward(here, before, bend), toward(here, after, bend)
            way.append("L{} {}Q{} {} {} {}".format(*map(short, (*enter, *here, *leave))))
        way.append(f"L{short(end[0])} {short(end[1])}")
        more: dict[str, float | str] = {"stroke_dasharray": "4 3"} if dashed else {}
        self.add("path", move, d="".join(way), fill="none", stroke=colour, stroke_width=width,
                 **more)
        if head:
            base = toward(tip, points[-2], 5 + 1.5 * width)
            across = ((tip[1] - base[1]) * 0.45, (base[0] - tip[0]) * 0.45)
            corners = (tip, (base[0] + across[0], base[1] + across[1]),
                       (base[0] - across[0], base[1] - across[1]))
            self.add("path", move, d="M" + "L".join(f"{short(x)} {short(y)}" for x, y in corners)
                     + "Z", fill=colour)

    def picture(self) -> Picture:
        """What was drawn, with its title and its words inside for screen readers."""
        svg = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{self.width}" '
               f'height="{self.height}" viewBox="0 0 {self.width} {self.height}" role="img" '
               f'font-family="system-ui, sans-serif" font-size="13">'
               f"<title>{escape(self.title, quote=False)}</title>"
               f"<desc>{escape(self.words, quote=False)}</desc>{''.join(self.parts)}</svg>")
        return Picture(svg, f"{self.title}. {self.words}", self.width)


def toward(start: Point, end: Point, length: float) -> Point:
    """The point that lies `length` from `start` on the way to `end`."""
    far = max(1e-9, ((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2) ** 0.5)
    return (start[0] + (end[0] - start[0]) * length / far,
            start[1] + (end[1] - start[1]) * length / far)


def data_uri(svg: str) -> str:
    """An SVG as an address that an <img> can have."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def picture_html(picture: Picture, moving: Picture | None = None) -> str:
    """An <img> with its alt text, and folded below it a twin that moves, if there is one.

    Nothing moves before it is unfolded, nor, where a page keeps <picture>, for readers who have
    asked their system for less motion: they see the still one there, too.
    """
    def image(shown: Picture) -> str:
        return (f'<img src="{data_uri(shown.svg)}" alt="{escape(shown.alt)}" '
                f'width="{shown.width}">')

    if moving is None:
        return image(picture)
    return (f"{image(picture)}<details><summary>The same, step by step (it moves for a minute, "
            "unless your system asks for less motion)</summary><picture><source "
            f'media="(prefers-reduced-motion: reduce)" srcset="{data_uri(picture.svg)}">'
            f"{image(moving)}</picture></details>")


def show_svg(picture: Picture, moving: Picture | None = None) -> None:
    """Display a picture in a notebook, as an <img> that holds its SVG and its alt text.

    Tried with JupyterLab 4.6, light and dark, and nbconvert 7.17 (lab, classic, slides). An output
    of type image/svg+xml becomes an <img>, too, but one without alt text, and JupyterLab shows it
    only in a notebook that it trusts, hence not in one that was cloned and not yet run. Of this
    HTML nothing is lost there but the tag <picture>: the twin moves, once it is unfolded, whatever
    the system asks for. Its time begins when it is unfolded (Chromium 156). (nbconvert with
    --HTMLExporter.sanitize_html prints the tag as text. GitHub was not tried: its viewer is said
    to keep <img> with data addresses, karolzak/ipyplot #3, and to inline image/svg+xml through a
    cleaner, jupyter/nbviewer #1037.)
    """
    display({"text/html": picture_html(picture, moving), "text/plain": picture.alt}, raw=True)
