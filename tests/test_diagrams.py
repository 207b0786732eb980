"""The diagrams: legible anywhere, laid out without collisions, and true to the code they show."""

import base64
import hashlib
import html
import itertools
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import pytest
import torch

from bertlib.attention import explicit_attention
from bertlib.bert import BertConfig
from bertlib.figures.diagram import Canvas, Picture, picture_html, text_width
from bertlib.figures.maps import ANSWER, LESSONS, SENTENCE, bert_map, course
from bertlib.figures.zoom_attention import TOKENS, heads_cut, one_query, told_waves
from bertlib.figures.zoom_model import (
    STATIONS,
    masked_head,
    teacher_and_student,
    training_loop,
    two_blocks,
)
from bertlib.figures.zoom_puzzle import fates, longest_match, masked_row
from bertlib.masking import n_hidden
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.pretrain import build
from bertlib.settings import Settings

ZOOMS = {"01": (longest_match,), "02": (masked_row,), "03": (one_query, heads_cut, told_waves),
         "04": (two_blocks,), "05": (masked_head,), "06": (training_loop,)}
PICTURES = {"map": bert_map(), **{f"map {lesson}": bert_map(lesson) for lesson in LESSONS},
            **{make.__name__: make() for zooms in ZOOMS.values() for make in zooms},
            "teacher_and_student": teacher_and_student()}
NAME = "{http://www.w3.org/2000/svg}"
Box = tuple[float, float, float, float]  # left, top, right, bottom
every_picture = pytest.mark.parametrize("picture", PICTURES.values(), ids=PICTURES)


def shapes(picture: Picture) -> list[ElementTree.Element]:
    return list(ElementTree.fromstring(picture.svg))[2:]  # after title and desc


def number(element, name: str, default: float = 0.0) -> float:
    return float(element.get(name, default))


def words_box(text) -> Box:
    """Where words stand, in the widest font that readers are likely to have."""
    size = number(text, "font-size", 13)
    width = text_width(text.text, size, "font-weight" in text.attrib, "font-family" in text.attrib)
    left = number(text, "x") - width * {"middle": 0.5, "end": 1}.get(text.get("text-anchor"), 0)
    return left, number(text, "y") - 0.74 * size, left + width, number(text, "y") + 0.2 * size


def shape_box(shape) -> Box | None:
    if shape.tag == f"{NAME}circle":
        x, y, r = (number(shape, name) for name in ("cx", "cy", "r"))
        return x - r, y - r, x + r, y + r
    if shape.tag == f"{NAME}rect":
        x, y = number(shape, "x"), number(shape, "y")
        return x, y, x + number(shape, "width"), y + number(shape, "height")
    return None


def inside(inner: Box, outer: Box, margin: float = 0.0) -> bool:
    return (outer[0] + margin <= inner[0] and outer[1] + margin <= inner[1]
            and inner[2] <= outer[2] - margin and inner[3] <= outer[3] - margin)


def apart(one: Box, other: Box) -> bool:
    return (one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1])


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def faults(picture: Picture) -> list[str]:
    """Words that are cut off, collide, stick out of their box, or are hard to read."""
    found, drawn = [], shapes(picture)
    texts = [(n, e, words_box(e)) for n, e in enumerate(drawn) if e.tag == f"{NAME}text"]
    panel = shape_box(drawn[0])
    for n, text, box in texts:
        behind = [(e, b) for e in drawn[:n] if (b := shape_box(e)) and not apart(box, b)]
        ground, area = behind[-1]
        if not inside(box, panel, 6):
            found.append(f"{text.text} leaves the panel")
        if not inside(box, area, 1):
            found.append(f"{text.text} sticks out of what lies behind it")
        if contrast(text.get("fill"), ground.get("fill")) < 4.5:
            found.append(f"{text.text} has too little contrast")
        if number(text, "font-size", 13) < 12:
            found.append(f"{text.text} is too small")
        after = [b for e in drawn[n:] if (b := shape_box(e))]
        found += [f"{text.text} is covered" for b in after if not apart(box, b)]
    found += [f"{one.text} and {other.text} collide"
              for (_, one, a), (_, other, b) in itertools.combinations(texts, 2) if not apart(a, b)]
    return found + crossings(drawn, texts)


def crossings(drawn, texts) -> list[str]:
    """Words with a line through them, unless a box lies between."""
    found = []
    for n, line in enumerate(drawn):
        if line.get("fill") != "none":
            continue
        flat = [float(v) for v in re.findall(r"-?[\d.]+", line.get("d"))]
        points = list(zip(flat[::2], flat[1::2], strict=True))
        dots = [(a[0] + (b[0] - a[0]) * t / 40, a[1] + (b[1] - a[1]) * t / 40)
                for a, b in itertools.pairwise(points) for t in range(41)]
        between = [b for e in drawn[n:] if (b := shape_box(e))]
        found += [f"a line crosses {text.text}" for _, text, box in texts
                  if any(not apart((x, y, x, y), box) for x, y in dots)
                  and not any(inside(box, b) for b in between)]
    return found


@every_picture
def test_any_viewer_can_show_it_and_a_screen_reader_can_say_it(picture):
    root = ElementTree.fromstring(picture.svg)
    title, told = root[:2]
    assert root.get("role") == "img"
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert (title.tag, told.tag) == (f"{NAME}title", f"{NAME}desc")
    assert picture.alt == f"{title.text}. {told.text}" and len(told.text) > 100
    tags = {element.tag.removeprefix(NAME) for element in root.iter()}
    assert tags == {"svg", "title", "desc", "rect", "text", "path"} | (tags & {"circle"})
    names = {name for element in root.iter() for name in element.attrib}
    assert not names & {"style", "class", "id", "href"} and "url(" not in picture.svg
    assert len(picture.svg.encode()) <= 25_000 and int(root.get("width")) == 700


@every_picture
def test_words_can_be_read_and_nothing_collides(picture):
    assert faults(picture) == []


def test_the_layout_test_notices_each_fault():
    c = Canvas(200, 200, "bad", "bad")
    c.text(190, 20, "cut off")
    c.text(20, 50, "one", anchor="start")
    c.text(30, 52, "other", anchor="start")
    c.box(20, 80, 30, 20, "data", "too wide a word")
    c.text(100, 120, "pale", fill="#bbbbbb")
    c.line((10, 150), (150, 150))
    c.text(80, 150, "struck")
    c.text(80, 180, "buried")
    c.box(60, 170, 60, 20)
    c.text(150, 100, "tiny", size=9)
    found = " ".join(faults(c.picture()))
    for problem in ("cut off leaves", "one and other collide", "too wide a word sticks out",
                    "pale has too little contrast", "a line crosses struck", "buried is covered",
                    "tiny is too small"):
        assert problem in found
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.programs
def test_bytes_are_the_same_in_another_process():
    code = ("import hashlib, torch\ntorch.set_num_threads(1)\n"
            "from bertlib.figures import maps, zoom_attention as attention, zoom_puzzle as puzzle\n"
            "for make in (maps.bert_map, attention.told_waves, puzzle.masked_row,"
            " puzzle.longest_match):\n"
            "    print(hashlib.sha256(make().svg.encode()).hexdigest())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env=os.environ | {"PYTHONPATH": str(PROJECT), "PYTHONHASHSEED": "7"})
    here = [hashlib.sha256(PICTURES[name].svg.encode()).hexdigest()
            for name in ("map", "told_waves", "masked_row", "longest_match")]
    assert done.stdout.split() == here


def said(picture: Picture) -> list[str]:
    return [e.text for e in shapes(picture) if e.tag == f"{NAME}text"]


def test_every_lesson_has_its_place_on_the_map_and_a_closer_look():
    assert set(LESSONS) == set(ZOOMS) == {f"0{n}" for n in range(1, 7)}
    for lesson, parts in LESSONS.items():
        assert said(bert_map(lesson)).count("you are here") == len(parts)
        assert f"You are here: lesson {lesson}" in bert_map(lesson).alt
    assert "you are here" not in said(bert_map())
    with pytest.raises(InputError, match="no lesson '1' on the map"):
        bert_map("1")


def test_the_numbers_on_the_map_are_those_of_the_model(tokenizer):
    assert course() == BertConfig.preset("bert", vocab_size=len(tokenizer))
    other = BertConfig(vocab_size=5_000, seq_len=77, d_model=96, n_head=6, n_layer=7, d_ff=480,
                       n_token_type=3)
    told = " | ".join(said(bert_map(config=other)))
    for numbers in ("5,000 × 96", "77 × 96", "3 × 96", "96 × 96", "96 × 5,000", "480", "block × 7",
                    "H = 6 heads", "[B, T, 5D]", "T = 77 tokens", "D = 96", "V = 5,000 words"):
        assert numbers in told
    assert not re.search(r"\b(256|128|1,024|8,192)\b", told)
    ids = tokenizer.encode(SENTENCE)
    found = said(bert_map())
    assert [word for word in found if word in map(str, ids)] == [str(i) for i in ids]
    assert found.count("[MASK]") == 1 and found.count(ANSWER) == 2


@pytest.mark.parametrize("word", ["lighthouses", "sailors", "sea"])
def test_the_cut_of_a_word_is_the_tokenizers(word, tokenizer):
    ids = tokenizer.encode(word, add_special_tokens=False)
    told = said(longest_match(word))
    assert [t for t in told if t.isdigit()] == [str(i) for i in ids]
    assert told.count("✓ a piece") == len(ids)
    assert " ".join(tokenizer.tokens(ids)).replace(" ", ", ") in longest_match(word).alt


def test_a_row_is_masked_as_the_masker_does_it():
    length = course().seq_len
    chosen = list(fates().values())
    assert len(chosen) == int(n_hidden(torch.tensor(length - 2), 0.15)) == 19
    assert [chosen.count(fate) for fate in ("[MASK]", "random", "kept")] == [15, 2, 2]  # typical
    told = said(masked_row())
    assert [told.count(mark) for mark in "M?="] == [16, 3, 3]  # with the legend
    assert {"80%", "10%", "1. Choose 15% of a row"} <= set(told)


def test_the_query_finds_what_attention_returns():
    mixed, weights = explicit_attention(TOKENS, TOKENS, TOKENS, scale=1.0)
    told = said(one_query())
    assert [t for t in told if t.startswith("0.")] == [f"{w:.2f}" for w in weights[-1]]
    assert f"({mixed[-1, 0]:.1f}, {mixed[-1, 1]:.1f})" in told


def test_waves_tell_the_neighbour():
    told = said(told_waves())
    shares = [int(t[:-1]) for t in told if t.endswith("%")]
    assert shares.index(max(shares)) == 2 and max(shares) > 50 and 97 <= sum(shares) <= 103
    assert f"gets {max(shares)}% of the attention" in told_waves().alt


def test_norms_stand_on_the_road_or_beside_it():
    drawn = shapes(two_blocks())
    roads = [float(re.match(r"M([\d.]+)", e.get("d"))[1]) for e in drawn
             if e.get("stroke-width") == "8"]
    norms = [shape_box(e) for e in drawn if e.get("rx") == "12"]
    assert len(roads) == 2 and len(norms) == 4
    on = [any(box[0] < road < box[2] for road in roads) for box in norms]
    assert sorted(zip([box[0] > 350 for box in norms], on, strict=True)) == [
        (False, True), (False, True), (True, False), (True, False)]


def test_the_head_is_asked_at_k_positions():
    batch, length = Settings.make("hour").batch_size, course().seq_len
    few = batch * int(n_hidden(torch.tensor(length - 2), 0.15))
    told = said(masked_head())
    assert f"K = {few} masked" in told and f"{batch * length:,} vectors" in told
    assert f"{few * course().vocab_size / 1e6:.1f} million" in told


def test_the_loop_keeps_what_a_checkpoint_keeps(base, tmp_path):
    settings = Settings.make("smoke", start="random", optimizer="adamw")
    state = build(settings, base, "toy", tmp_path).state()
    assert {name for *_, names in STATIONS for name in names} == set(state)


def test_a_notebook_gets_an_image_with_alt_text():
    picture = Picture("<svg/>", 'a "b" < c', 700)
    told = re.fullmatch(r'<img src="data:image/svg\+xml;base64,(\S+)" alt="([^"<]*)" width="700">',
                        picture_html(picture))
    assert base64.b64decode(told[1]).decode() == picture.svg
    assert html.unescape(told[2]) == picture.alt
