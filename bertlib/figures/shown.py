"""How a figure comes into a notebook."""

import io

from IPython.display import Image, display
from matplotlib.figure import Figure
from PIL import Image as Picture


def show(figure: Figure, alt: str) -> None:
    """Display a figure in a notebook as PNG, with a text for those who cannot see it.

    It has two pixels for each that it is wide, for sharp screens, and 256 colours.
    """
    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=160)
    picture = Picture.open(drawn).convert("RGB").quantize(256, dither=Picture.Dither.NONE)
    picture.save(small, format="png", optimize=True)
    display(Image(small.getvalue(), format="png", alt=alt, width=picture.width // 2))
