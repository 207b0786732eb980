"""Closer looks at the model and its training: blocks, the head, the loop, and a teacher."""

import torch

from bertlib.distill.student import every
from bertlib.figures.diagram import INK, PANEL, Canvas, Picture
from bertlib.figures.maps import course, words
from bertlib.figures.plots import GREY, THEIRS
from bertlib.masking import Masker
from bertlib.settings import Settings

ROAD = "#c3d6e8"


def two_blocks() -> Picture:
    """Lesson 04: norms on the road (post-norm, BERT) or on the side roads (pre-norm)."""
    c = Canvas(700, 400, "Two kinds of block", (
        "Left, post-norm, as in BERT: from below, attention branches off the road and is added to "
        "it, then a norm stands on the road itself; the feed-forward layer likewise. Right, "
        "pre-norm: norms stand on the branches, before attention and before the feed-forward "
        "layer, and the road runs free from bottom to top; one more norm follows the last block."))
    for x, title, lines in (
            (24, "post-norm: BERT, and this course",
             ("The norms stand on the road: what leaves has",
              "one size, and gradients pass every norm.")),
            (374, "pre-norm: most models since GPT-2",
             ("The road is free for gradients; what it carries",
              "grows, so one more norm stands at the end."))):
        c.text(x, 28, title, bold=True, anchor="start")
        for n, line in enumerate(lines):
            c.text(x, 364 + 17 * n, line, size=12, fill=GREY, anchor="start")
    for x in (84, 434):
        c.line((x, 340), (x, 46), width=8, colour=ROAD)
        c.text(x + 12, 334, "x [B, T, D]", size=12, fill=GREY, mono=True, anchor="start")
    _branch(c, 84, 312, 246, ("attention",))
    c.box(48, 202, 72, 24, "norm", "norm", fill=PANEL)
    _branch(c, 84, 182, 116, ("feed-forward",))
    c.box(48, 72, 72, 24, "norm", "norm", fill=PANEL)
    _branch(c, 434, 316, 216, ("norm", "attention"))
    _branch(c, 434, 186, 86, ("norm", "feed-forward"))
    c.line((350, 20), (350, 384), colour="#dddddd", head=False)
    return c.picture()


def _branch(c: Canvas, x: float, low: float, high: float, names: tuple[str, ...]) -> None:
    """A side road that leaves the road at `low`, passes some layers and is added at `high`."""
    y, middle = low - 18, x + 148
    c.line((x, low), (middle, low), (middle, y + 2))
    for n, name in enumerate(names):
        height = 24 if name == "norm" else 32
        y -= height
        if name == "norm":
            c.box(middle - 36, y, 72, height, "norm", name, fill=PANEL)
        else:
            c.box(middle - 66, y, 132, height, "learned", name)
        if n + 1 < len(names):
            c.line((middle, y), (middle, y - 10))
            y -= 12
    c.line((middle, y), (middle, high), (x + 12, high))
    c.add("circle", cx=x, cy=high, r=10, fill=PANEL, stroke=INK)
    c.text(x, high, "+", bold=True)


def masked_head() -> Picture:
    """Lesson 05: the head works at masked positions only, and its decoder is the token table."""
    config, batch = course(), Settings.make("hour").batch_size
    masker, every = Masker(words()), batch * config.seq_len
    row = torch.tensor(words().ordinary_ids[: config.seq_len - 2])
    few = len(masker(row[None], torch.Generator().manual_seed(0)).positions) * batch  # K
    V, D = config.vocab_size, config.d_model
    c = Canvas(700, 304, "The head works at masked positions only", (
        f"Of the vectors at B × T = {every:,} positions, those at K = {few} masked ones are "
        "gathered. Dense, GELU and norm prepare them, the decoder, which is the token table of the "
        f"entrance, makes {V:,} scores of each. At every position that would be "
        f"{every * V / 1e6:.1f} million scores, at the masked ones it is {few * V / 1e6:.1f}."))
    _gather(c, masker)
    for x, shape, count in ((119, "[B, T, D]", f"{every:,} vectors"),
                            (299, "[K, D]", f"K = {few} masked"), (638, "[K, V]", "scores")):
        c.text(x, 32, shape, size=12, mono=True)
        c.text(x, 142, count, size=12)
    for x, lines in ((348, ("dense, GELU,", "norm")), (476, ("decoder,", f"{D} × {V:,}"))):
        c.box(x, 68, 102, 48, "learned")
        for n, line in enumerate(lines):
            c.text(x + 51, 83 + 18 * n, line)
    c.box(432, 172, 190, 34, "learned", f"token table, {V:,} × {D}", size=12)
    c.line((527, 144), (527, 119), dashed=True)
    c.line((527, 144), (527, 169), dashed=True)
    c.text(515, 144, "one and the same", size=12, anchor="end")
    c.text(24, 204, f"How many scores for {batch} sequences?", bold=True, anchor="start")
    for y, where, rows in ((238, "at every position", every), (272, "at masked ones only", few)):
        width = 400 * rows / every
        c.text(24, y, where, anchor="start")
        c.box(176, y - 11, width, 22, "bar")
        c.text(184 + width, y, f"{rows * V / 1e6:.1f} million", anchor="start")
    return c.picture()


def _gather(c: Canvas, masker: Masker) -> None:
    """A small batch of 6 × 16 positions, the vectors at masked ones, and the scores of these."""
    ids = torch.tensor(words().ordinary_ids[:96]).view(6, 16)
    holes = masker(ids, torch.Generator().manual_seed(4)).positions.tolist()
    for place in range(96):
        c.add("rect", x=24 + place % 16 * 12, y=56 + place // 16 * 12, width=10, height=10,
              fill=THEIRS if place in holes else "#dededc")
    for n in range(len(holes)):
        for left, width in ((274, 50), (600, 76)):
            c.add("rect", x=left, y=56 + 6 * n, width=width, height=4, fill=THEIRS)
    c.text(243, 78, "gather", size=12)
    for start, end in ((218, 271), (326, 345), (450, 473), (578, 597)):
        c.line((start, 92), (end, 92))


STATIONS = (  # of the loop: what it does, what is kept of it, and by which names of the state
    (("next batch", "of puzzles"), ("place in", "the data"), ("batches",)),
    (("forward:", "the loss"), ("weights,", "random state"), ("model", "random")),
    (("backward:", "gradients"), ("nothing,", "made anew"), ()),
    (("AdamW:", "one step"), ("m and v of", "each weight"), ("optimizers", "scaler")),
    (("schedule:", "the next rate"), ("step, tokens,", "seconds"), ("step", "tokens", "seconds")),
)


def training_loop() -> Picture:
    """Lesson 06: the loop, what it remembers, and where a checkpoint lets it go on."""
    c = Canvas(700, 342, "The loop and its checkpoint", (
        "Five stations in a circle: next batch, forward to the loss, backward to gradients, a step "
        "of AdamW, schedule of the next rate. Below each what must be kept of it: the place in "
        "the data; weights and random state; nothing; two means for each weight; step, tokens and "
        "seconds. A checkpoint holds all of it between two steps, and a resumed run goes on at the "
        "next batch."))
    c.line((618, 68), (618, 30), (98, 30), (98, 65))
    c.text(358, 44, "and again, thousands of times", size=12, fill=GREY)
    for n, (does, keeps, names) in enumerate(STATIONS):
        x = 40 + 130 * n
        middle = x + 58
        c.box(x, 68, 116, 50, "step")
        if n:
            c.line((x - 14, 93), (x - 3, 93), head=True)
        c.box(x, 152, 116, 46, "data" if names else "gone")
        for y, words_, bold in ((84, does[0], True), (102, does[1], False), (166, keeps[0], False),
                                (184, keeps[1], False)):
            c.text(middle, y, words_, bold=bold, fill=INK if names or y < 120 else GREY)
        if names:
            c.line((middle, 134), (middle, 121))
            c.line((middle, 134), (middle, 149))
            c.line((middle, 198), (middle, 237))
    c.text(24, 219, "resume", size=12, fill=THEIRS, anchor="start")
    c.text(104, 219, "save", size=12, fill=GREY, anchor="start")
    c.box(40, 240, 636, 44, "result", "checkpoint: all of this at once, between two steps")
    c.line((40, 262), (18, 262), (18, 93), (37, 93), colour=THEIRS, dashed=True, width=2)
    for y, line in ((306, "A resumed run puts all of it back and goes on at the next batch."),
                    (323, "Leave one thing out, and it is another run.")):
        c.text(40, y, line, size=12, fill=GREY, anchor="start")
    return c.picture()


BLOCK_TOPS = (332, 288, 244, 200)  # of the teacher's blocks, from the lowest to the highest


def teacher_and_student() -> Picture:
    """Lesson 11: which parts of a teacher a student begins with, and where it is corrected."""
    kept, V = every(4, 2), course().vocab_size
    c = Canvas(700, 472, "A teacher and its student", (
        "Left the teacher, embeddings, four blocks and a head, which is asked and does not learn. "
        "Right the student with two blocks. Dashed arrows copy the embeddings, the blocks "
        f"{kept[0]} and {kept[1]}, which become the student's blocks 0 and 1, and the head. Both "
        "read the same puzzle. Between them stand two losses: on the hidden states after the last "
        "blocks, by their cosine, and on the shares of all words, the soft targets. A third one, "
        "right of the student, compares its shares with the hidden word."))
    for x, name, does in ((30, "teacher", "is asked"), (400, "student", "learns")):
        c.text(x + 90, 24, f"{name}: {does}", bold=True)
        c.box(x, 44, 180, 34, "data", f"shares of {V:,} words", size=12)
        c.box(x, 156, 180, 24, "data", "state at [MASK]: D", size=12)
        c.line((x + 90, 156), (x + 90, 137))
        c.line((x + 90, 98), (x + 90, 81))
    _teacher_parts(c)
    _student_parts(c, kept)
    for y, line in ((51, "soft targets"), (158, "1 − cosine")):
        c.box(245, y - 5, 120, 30, "result", line, bold=True)
        c.line((210, y + 10), (242, y + 10))
        c.line((400, y + 10), (368, y + 10), colour=THEIRS, width=2.2)
    c.box(600, 46, 92, 30, "result", "hidden word", size=12, bold=True)
    c.line((580, 61), (597, 61), colour=THEIRS, width=2.2)
    c.text(646, 100, "answer: sea", size=12, fill=THEIRS)
    c.line((646, 90), (646, 79), colour=THEIRS, dashed=True)
    c.box(120, 430, 370, 28, "step", "one puzzle for both: sailors love the [MASK]")
    c.line((120, 444), (104, 444), (104, 421))
    c.line((490, 444), (506, 444), (506, 421))
    return c.picture()


def _teacher_parts(c: Canvas) -> None:
    """What is asked, and learns nothing."""
    c.box(30, 100, 180, 34, "step", "head")
    for number, y in enumerate(BLOCK_TOPS):
        c.box(30, y, 180, 32, "step", f"block {number}")
        c.line((120, y), (120, y - 9 if number < 3 else y - 17))
    c.box(30, 384, 180, 34, "step", "embeddings")
    c.line((120, 384), (120, 367))


def _student_parts(c: Canvas, kept: list[int]) -> None:
    """What learns, and from where each part is copied."""
    parts = [("head", 100), ("embeddings", 384)]
    parts += [(f"block {place}", BLOCK_TOPS[number]) for place, number in enumerate(kept)]
    for name, y in parts:
        c.box(400, y, 180, 32 if "block" in name else 34, "learned", name)
        c.line((212, y + 16), (397, y + 16), dashed=True)
    low, high = (BLOCK_TOPS[number] for number in kept)
    for start, end in ((384, low + 35), (low, high + 35), (high, 183)):
        c.line((490, start), (490, end))
    c.text(305, low - 12, "copied once,", size=12, fill=GREY)
    c.text(305, low + 2, "at the start", size=12, fill=GREY)
