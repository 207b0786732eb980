"""What lesson 09 draws: the head on the encoder, and words that speak for a class or against it."""

from collections.abc import Sequence

from bertlib.figures.diagram import INK, Canvas, Picture
from bertlib.figures.plots import GREY, THEIRS
from bertlib.highlight import literal

TEXTS = (("[CLS]", "we", "are", "at", "war", ".", "[SEP]"),
         ("[CLS]", "peace", ".", "[SEP]", "[PAD]", "[PAD]", "[PAD]"))
FOR = "background:#dcebf7;color:#000;border-bottom:2px solid #00568f"
AGAINST = "background:#fbe3d6;color:#000;border-bottom:2px dashed #a33a00"


def encoder_and_head(width: int = 256, classes: int = 4) -> Picture:
    """A small batch, the encoder, and which of its rows the head reads."""
    c = Canvas(700, 430, "An encoder and a head on its first row", (
        "From below: a batch of two texts, the second padded with three [PAD] that nobody reads. "
        f"The pretrained encoder makes a state of {width} numbers of each token. Only the two "
        "states of [CLS], the first row of each text, go on: through the pooler with a tanh, "
        f"through dropout, and through a linear layer to {classes} logits a text, which the label "
        "turns into a loss. Pooler and linear layer are new, the encoder is not."))
    for row, tokens in enumerate(TEXTS):
        for n, token in enumerate(tokens):
            x, y, gone = 110 + 62 * n, 350 + 32 * row, token == "[PAD]"
            c.box(x, y, 56, 26, "gone" if gone else "data", token, mono=True, size=12,
                  fill=GREY if gone else INK)
            c.box(x, 214 + 32 * row, 56, 26, "hidden" if n == 0 else "gone", "D" if n == 0 else "",
                  size=12)
    c.box(110, 282, 428, 46, "learned", "encoder: embeddings and blocks, pretrained", bold=True)
    c.line((324, 346), (324, 331))
    c.line((324, 279), (324, 273))
    for y, line in ((364, "ids, mask"), (380, "[B, T]"), (228, "states"), (244, "[B, T, D]"),
                    (120, "new")):
        c.text(24, y, line, size=12, fill=GREY, anchor="start")
    c.text(556, 224, "nobody reads", size=12, fill=GREY, anchor="start")
    c.text(556, 241, "these states", size=12, fill=GREY, anchor="start")
    c.line((138, 211), (138, 143), colour=THEIRS, width=2)
    c.text(150, 180, "states of [CLS], [B, D]", size=12, fill=GREY, anchor="start")
    for x, wide, name, kind in ((78, 120, "pooler, tanh", "learned"), (226, 92, "dropout", "step"),
                                (346, 110, "classifier", "learned"),
                                (484, 110, f"{classes} logits a text", "data")):
        c.box(x, 100, wide, 40, kind, name, size=12)
    for start, end in ((198, 223), (318, 343), (456, 481)):
        c.line((start, 120), (end, 120))
    c.box(484, 32, 110, 36, "result", "loss")
    c.line((539, 100), (539, 71))
    c.text(316, 50, "label of each text, [B]", size=12, fill=GREY, anchor="start")
    c.line((462, 50), (481, 50))
    return c.picture()


def spoken(tokens: Sequence[str], weights: Sequence[float], most: int = 5) -> tuple[str, str]:
    """A text with the tokens that speak most for a class, and against it: (HTML, plain text).

    Marked are the `most` largest weights in size; a plus or a minus says the same as the colour.
    """
    size = sorted((abs(weight) for weight in weights), reverse=True)[: most][-1]
    page, plain = [], []
    for token, weight in zip(tokens, weights, strict=True):
        if abs(weight) < size or not weight:
            page.append(literal(token))
            plain.append(token)
            continue
        sign, style = ("+", FOR) if weight > 0 else ("−", AGAINST)
        page.append(f"<mark style='{style}'>{literal(token)}<sup>{sign}</sup></mark>")
        plain.append(f"{token}({sign})")
    return f"<p style='max-width:46em;line-height:1.9'>{' '.join(page)}</p>", " ".join(plain)
