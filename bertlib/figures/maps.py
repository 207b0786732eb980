"""The map of BERT: one sentence on its way from text to loss, with the shape of all that flows.

    show_svg(bert_map("03"))  # "you are here", for notebook 03

The model is BERT as published (norms after the additions, learned places, token types, a tied head
with a transform), at the size that the course trains.
"""

from functools import cache, partial

from bertlib.bert import BertConfig
from bertlib.figures.diagram import PANEL, Canvas, Picture, text_width
from bertlib.figures.plots import GREY, OURS, THEIRS
from bertlib.plumbing.files import PROJECT, InputError, nearest
from bertlib.tokens import Tokenizer

SENTENCE, ANSWER = "sailors love the sea", "sea"
LEFT, PITCH, CELL, END = 160, 62, 56, 588  # of the columns, one a token
SIDE, SHAPES = 608, 618  # where the answer goes up; where shapes stand
LESSONS = {  # what each builds: its name on the map, and from which height to which it reaches
    "01": (("tokens", 551, 603),),
    "02": (("masking", 497, 537),),
    "03": (("attention", 362, 406),),
    "04": (("block", 230, 420),),
    "05": (("embeddings", 428, 484), ("head, loss", 54, 176)),
    "06": (("the loop", 8, 46),),
}


@cache
def words() -> Tokenizer:
    """The vocabulary of the course."""
    return Tokenizer.load(PROJECT / "wiki" / "vocab")


@cache
def course() -> BertConfig:
    """The model on the map: BERT at the size that the course trains."""
    return BertConfig.preset("bert", vocab_size=len(words()))


def bert_map(here: str | None = None, config: BertConfig | None = None) -> Picture:
    """BERT from a sentence (below) to its loss (above); `here` is the lesson that is marked.

    `InputError` if there is no such lesson on the map.
    """
    if here is not None and here not in LESSONS:
        raise InputError(f"There is no lesson '{here}' on the map. {nearest(here, LESSONS)}")
    config = config or course()
    place = f" You are here: lesson {here}, {LESSONS[here][0][0]}." if here else ""
    c = Canvas(700, 712, "A map of BERT", (
        f"From below: the sentence '{SENTENCE}' is cut into tokens with ids; one of them is hidden "
        "by [MASK] and its id kept as the answer. Embeddings (token, position and token type, "
        f"added) make a vector of {config.d_model} numbers of each. {config.n_layer} blocks "
        f"follow, each attention with {config.n_head} heads, add and norm, a feed-forward layer, "
        "add and norm. Only the vector at the masked position goes on to the head, whose scores "
        f"for {config.vocab_size:,} words and the answer make the loss. The loop around it sends "
        f"gradients back, steps, and takes the next batch.{place}"))
    for _, top, bottom in LESSONS[here] if here else ():
        c.box(28, top, 666, bottom - top, "here")
    tokens = words().tokens(words().encode(SENTENCE))
    masked, columns = tokens.index(ANSWER), range(len(tokens))
    _puzzle(c, tokens, masked)
    _embeddings(c, config, columns)
    _block(c, config, columns, masked)
    _head(c, config, middle(masked))
    _loop(c, here == "06")
    _gutter(c, config, here)
    _legend(c, config)
    return c.picture()


def middle(column: int) -> float:
    """Where the middle of a token's column is."""
    return LEFT + column * PITCH + CELL / 2


def _rise(c: Canvas, columns: range, low: float, high: float, masked: int = -1) -> None:
    """What flows from one row to the next, upwards, one arrow a column."""
    for n in columns:
        c.line((middle(n), low), (middle(n), high), colour=THEIRS if n == masked else GREY,
               width=2.2 if n == masked else 1.2)


def _puzzle(c: Canvas, tokens: list[str], masked: int) -> None:
    """Text, tokens with their ids, and the same with one hidden, whose answer is kept."""
    ids, columns = words().encode(SENTENCE), range(len(tokens))
    c.box(LEFT, 614, END - LEFT, 26, "step", f"“{SENTENCE}”")
    _rise(c, columns, 614, 600)
    for n, (token, number) in enumerate(zip(tokens, ids, strict=True)):
        x = LEFT + n * PITCH
        c.box(x, 555, CELL, 42)
        c.text(middle(n), 567, token)
        c.text(middle(n), 585, str(number), size=12, fill=GREY, mono=True)
        c.box(x, 502, CELL, 30, "hidden" if n == masked else "data",
              "[MASK]" if n == masked else token)
    _rise(c, columns, 555, 535, masked)
    c.line((middle(masked) + 14, 555), (middle(masked) + 14, 545), (SIDE, 545), (SIDE, 85),
           (END + 3, 85), colour=THEIRS, dashed=True)
    c.text(SHAPES, 543, f"answer: {ANSWER}", size=12, fill=THEIRS, anchor="start")
    _shapes(c, {576: "[B, T]", 517: "[B, T]"})


def _shapes(c: Canvas, at: dict[int, str]) -> None:
    """Shapes at some heights, at the right."""
    for y, shape in at.items():
        c.text(SHAPES, y, shape, size=12, anchor="start", mono=True)


def _embeddings(c: Canvas, config: BertConfig, columns: range) -> None:
    """Three tables whose rows are added."""
    tables = {"token": config.vocab_size, "position": config.seq_len,
              "token type": config.n_token_type}
    c.add("rect", x=LEFT - 6, y=432, width=END - LEFT + 12, height=48, rx=9, fill=PANEL,
          stroke=GREY)
    _rise(c, columns, 502, 483)
    for n, (name, rows) in enumerate(tables.items()):
        x = LEFT + n * 129
        _table(c, x, 437, 111, name, rows, config.d_model)
        c.text(x + 120, 456, "+" if n < 2 else "→", size=15)
    c.box(END - 42, 437, 42, 38, "learned", "norm", size=12)
    _shapes(c, {456: "[B, T, D]"})


def _table(c: Canvas, x: float, y: float, width: float, name: str, rows: int, size: int) -> None:
    """A learned matrix with its size."""
    c.box(x, y, width, 38, "learned")
    c.text(x + width / 2, y + 12, name, size=12)
    c.text(x + width / 2, y + 27, f"{rows:,} × {size:,}", size=12, fill=GREY, mono=True)


def _block(c: Canvas, config: BertConfig, columns: range, masked: int) -> None:
    """Attention and a feed-forward layer, each added and normed; and what leaves the last block."""
    for shift in (6, 3, 0):
        c.add("rect", x=LEFT - 6 + shift, y=246 - shift, width=END - LEFT + 12, height=168, rx=9,
              fill=PANEL, stroke=GREY)
    _rise(c, columns, 432, 403)
    c.box(LEFT, 367, END - LEFT, 34, "learned",
          f"attention: each token asks all tokens, H = {config.n_head} heads")
    _rise(c, columns, 367, 353)
    _rise(c, columns, 331, 317)
    for n in columns:
        c.box(LEFT + n * PITCH, 287, CELL, 28, "learned", f"{config.d_ff:,}", size=12, mono=True)
    _rise(c, columns, 287, 276)
    for y in (331, 254):
        c.box(LEFT, y, END - LEFT, 20, "learned", "add what came in, norm", size=12)
    for n in columns:
        if n != masked:
            c.box(LEFT + n * PITCH, 198, CELL, 20, "gone")
    c.box(LEFT + masked * PITCH, 198, CELL, 20, "hidden")
    _rise(c, range(masked, masked + 1), 238, 221, masked)
    for y, line in ((295, "feed-forward,"), (310, "each alone"), (201, "only masked"),
                    (216, "positions go on")):
        c.text(34, y, line, size=12, fill=GREY, anchor="start")
    wide = config.d_ff / config.d_model
    _shapes(c, {302: f"[B, T, {wide:g}D]", 264: "[B, T, D]", 208: "[K, D]"})


def _head(c: Canvas, config: BertConfig, x: float) -> None:
    """From the vector at the masked position to a loss."""
    hot = partial(c.line, colour=THEIRS, width=2.2)
    hot((x, 198), (x, 173))
    _table(c, END - 185, 132, 185, "dense, GELU, norm", config.d_model, config.d_model)
    hot((END - 185, 151), (LEFT + 198, 151))
    _table(c, LEFT, 132, 195, "decoder: the token table", config.d_model, config.vocab_size)
    hot((LEFT + 97, 132), (LEFT + 97, 111))
    c.box(LEFT, 62, 250, 46)
    c.text(LEFT + 10, 85, f"{config.vocab_size:,} scores", size=12, anchor="start")
    for n, height in enumerate((8, 5, 28, 11, 4, 14, 6, 3)):
        c.box(LEFT + 110 + 16 * n, 102 - height, 10, height, "bar")
    c.text(LEFT + 155, 78, ANSWER, size=12, anchor="start")
    hot((LEFT + 250, 85), (END - 128, 85))
    c.box(END - 125, 62, 125, 46, "step")
    c.text(END - 62, 76, "loss", bold=True)
    c.text(END - 62, 94, f"−ln p({ANSWER})", size=12)
    _shapes(c, {151: "[K, D]", 85: "[K, V]"})


def _loop(c: Canvas, marked: bool) -> None:
    """What the trainer does with the loss, and the way back to the next batch."""
    c.box(LEFT, 14, END - LEFT, 26, "step",
          "gradients go back into all that is blue; AdamW moves it", size=12)
    c.line((END - 62, 62), (END - 62, 43))
    c.line((33, 27), (18, 27), (18, 627), (56, 627), colour=THEIRS if marked else GREY,
           width=2.4 if marked else 1.4)
    c.text(60, 627, "next batch", anchor="start")


def _gutter(c: Canvas, config: BertConfig, here: str | None) -> None:
    """The lessons beside what they build."""
    for lesson, parts in LESSONS.items():
        marked = lesson == here
        for name, top, bottom in parts:
            y = (top + bottom) / 2 if name != "block" else 262
            times = f" × {config.n_layer}" if name == "block" else ""
            c.add("circle", cx=44, cy=y, r=11, fill=THEIRS if marked else PANEL,
                  stroke=THEIRS if marked else OURS)
            c.text(44, y, lesson, size=12, fill=PANEL if marked else OURS, bold=True)
            c.text(60, y - 8 * marked, name + times, anchor="start", bold=marked)
            if marked:
                c.text(60, y + 8, "you are here", size=12, fill=THEIRS, anchor="start")


def _legend(c: Canvas, config: BertConfig) -> None:
    """What the forms and the letters mean."""
    x = 34.0
    for kind, meaning in (("learned", "learned"), ("data", "numbers on their way"),
                          ("hidden", "masked"), ("step", "nothing to learn")):
        c.box(x, 661, 20, 14, kind)
        c.text(x + 27, 668, meaning, size=12, anchor="start")
        x += 46 + text_width(meaning, 12)
    c.text(34, 692, f"B sequences, T = {config.seq_len} tokens, D = {config.d_model} numbers a "
           f"token, V = {config.vocab_size:,} words, K masked positions", size=12, anchor="start")
