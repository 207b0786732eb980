"""The row of attention that moves: true to the model and to its still twin, slow, and soon over."""

import base64
import io
import itertools
import json
import re
from typing import NamedTuple
from xml.etree import ElementTree

import pytest
import torch
from chromium import needs_chromium
from PIL import Image, ImageChops
from test_diagrams import NAME, faults, said, shapes
from torch import Tensor

from bertlib.attention import explicit_attention
from bertlib.figures.diagram import Picture, picture_html
from bertlib.figures.zoom_row import ROUNDS, STEPS, Film, attention_row
from bertlib.huggingface import load
from bertlib.plumbing.files import PROJECT
from bertlib.predict import attention_maps

LAYER, HEAD, ASKS = 2, 2, "bank"
SET = f"{NAME}set"


class Row(NamedTuple):
    """What a picture of a row is made from."""

    words: list[str]
    place: int
    q: Tensor
    k: Tensor
    v: Tensor


@pytest.fixture(scope="module")
def shipped():
    return load()


@pytest.fixture(scope="module")
def row(shipped) -> Row:
    """As notebook 03 takes it from the course's model."""
    model, tokenizer = shipped
    ids = torch.tensor([tokenizer.encode("a ship lay near the river bank .")])
    words, states = tokenizer.tokens(ids[0].tolist()), []
    with torch.no_grad():
        model.encoder(ids, layers=states)
        layer = model.encoder.blocks[LAYER].attention
        q, k = (part[0, HEAD] for part in layer.queries_and_keys(states[LAYER]))
        v = layer.split(layer.value(states[LAYER]))[0, HEAD]
    return Row(words, words.index(ASKS), q, k, v)


@pytest.fixture(scope="module")
def still(row) -> Picture:
    return attention_row(*row)


@pytest.fixture(scope="module")
def moving(row) -> Picture:
    return attention_row(*row, moving=True)


def numbers(picture: Picture, digits: int) -> list[str]:
    return [text for text in said(picture) if re.fullmatch(rf"\d+\.\d{{{digits}}}", text)]


def test_its_shares_are_the_model_s_and_sum_to_one(still, row, shipped):
    model, tokenizer = shipped
    ids = torch.tensor([tokenizer.encode("a ship lay near the river bank .")])
    shares = attention_maps(model, ids)[LAYER, 0, HEAD, row.place]  # [T]
    told = numbers(still, 2)[1::2]  # each after its scaled score
    assert told == [f"{share:.2f}" for share in shares]
    assert sum(map(float, told)) == pytest.approx(1, abs=0.005 * len(told))
    bars = [float(e.get("width")) for e in shapes(still) if e.get("height") == "18"]
    assert sum(bars) == pytest.approx(90, abs=0.05 * len(bars))
    assert bars == pytest.approx([90 * float(share) for share in shares], abs=0.06)


def test_dot_products_are_divided_by_the_root(still, row):
    dots = [float(n) for n in numbers(still, 1)]
    assert dots == pytest.approx((row.k @ row.q[row.place]).tolist(), abs=0.051)
    assert [float(n) for n in numbers(still, 2)[::2]] == pytest.approx([dot / 8 for dot in dots],
                                                                      abs=0.012)


def heights(path) -> Tensor:
    """The numbers that a row of little bars shows, in pixels, up for positive."""
    steps = [int(step) for step in re.findall(r"v(-?\d+)h1", path.get("d"))]
    return -torch.tensor(list(itertools.accumulate(steps))) * scale(path)


def scale(path) -> float:
    return float(re.search(r"scale\(\S+ (\S+)\)", path.get("transform"))[1])


def test_the_drawn_values_are_small_as_their_shares_and_add_up_to_the_drawn_sum(still, row):
    mixed = explicit_attention(row.q[row.place : row.place + 1], row.k, row.v)[0][0]  # [D/H]
    drawn = [e for e in shapes(still) if e.get("transform")]
    *values, whole = (heights(e) for e in drawn[-len(row.words) - 1 :])
    pixels = 13 / float(row.v.abs().max())
    assert torch.allclose(whole, mixed * pixels, atol=0.3)
    assert torch.allclose(torch.stack(values).sum(0), mixed * pixels, atol=0.6)
    assert torch.allclose(heights(drawn[0]), row.q[row.place] * 13 / row.q[row.place].abs().max(),
                          atol=0.3)


def test_the_notebook_prints_and_shows_just_these_numbers(still, moving):
    path = PROJECT / "notebooks" / "03_attention.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    at, = [n for n, cell in enumerate(cells) if "attention_row(*row" in "".join(cell["source"])]
    printed = "".join(cells[at - 1]["outputs"][0]["text"])
    assert re.findall(r"q · k +(\S+)", printed) == numbers(still, 1)
    assert re.findall(r"(?:divided|share) +(\S+)", printed) == numbers(still, 2)
    shown = "".join(cells[at]["outputs"][0]["data"]["text/html"])
    assert shown == picture_html(still, moving)


def test_it_ends_as_the_still_one(still, moving):
    bare = re.sub("<(set|animate|animateTransform) [^>]*/>", "", moving.svg)
    assert ElementTree.canonicalize(bare) == ElementTree.canonicalize(still.svg)
    assert moving.alt == still.alt
    assert not re.search("<(set|animate)|style|script|href", still.svg)
    assert not re.search("style|script|href", moving.svg)


def test_it_is_slow_and_comes_to_rest(moving, row):
    assert ROUNDS <= 3 and "repeat" not in moving.svg and "fill=\"freeze" not in moving.svg
    film = Film(len(row.words), moving=True)
    assert [film.starts(film.begins[step]).count(";") for step in STEPS] == [ROUNDS - 1] * 6
    begun = re.findall('begin="([^"]+)"', moving.svg)
    assert {len(begin.split(";")) for begin in begun} == {ROUNDS}
    begins = [film.begins[step] for step in STEPS] + [film.round]
    assert min(after - before for before, after in itertools.pairwise(begins)) >= 2
    dots = [float(e.find(SET).get("dur")[:-1]) for e in shapes(moving)
            if re.fullmatch(r"\d+\.\d", e.text or "")]
    assert len(dots) == len(row.words)
    assert {round(after - before, 3) for before, after in itertools.pairwise(dots)} == {1}
    ends = [float(begin.split(";")[0][:-1]) + float(dur) for begin, dur in
            re.findall(r'begin="([^"]+)" dur="([\d.]+)s"', moving.svg)]
    assert max(ends) < film.round  # a round is over before the next


def test_it_is_small_and_legible(still, moving):
    assert len(still.svg.encode()) <= 25_000 and len(moving.svg.encode()) <= 35_000
    assert faults(still) == faults(moving) == []


@pytest.mark.parametrize(("tokens", "width"), [(1, 4), (3, 64), (12, 16)])
def test_any_row_can_be_drawn(tokens, width):
    torch.manual_seed(0)
    q, k, v = torch.randn(3, tokens, width).unbind(0)
    picture = attention_row(["[MASK]"] * tokens, tokens - 1, q, k, v, moving=True)
    assert faults(picture) == []
    assert f"÷ √{width}" in said(picture)


@needs_chromium
def test_each_step_looks_different_and_the_last_like_the_still_one(browser, still, moving, row):
    page = browser.new_page(viewport={"width": 740, "height": 480})
    film, shots = Film(len(row.words), moving=True), []
    seconds = [film.begins[step] + 0.9 for step in STEPS]
    seconds += [film.begins["softmax"] + 2.5, film.begins["their sum"] + 2, ROUNDS * film.round + 1]
    page.set_content(moving.svg)
    for second in seconds:
        page.evaluate("second => {const svg = document.querySelector('svg'); svg.pauseAnimations();"
                      " svg.setCurrentTime(second)}", second)
        shots.append(pixels(page))
    page.set_content(still.svg)
    shots.append(pixels(page))
    assert [alike(*two) for two in itertools.pairwise(shots)] == [False] * 7 + [True] * 2
    page.close()


def pixels(page) -> Image.Image:
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def alike(one: Image.Image, other: Image.Image) -> bool:
    """No pixel differs by more than the edge of a line that was painted over an older picture."""
    return max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 24


@needs_chromium
@pytest.mark.parametrize(("wish", "shown"), [("no-preference", "moving"), ("reduce", "still")])
def test_nothing_moves_before_it_is_unfolded_nor_where_less_motion_is_asked_for(
        browser, still, moving, wish, shown):
    page = browser.new_page(reduced_motion=wish)
    page.set_content(picture_html(still, moving))
    first, second = page.locator("img").all()
    assert first.is_visible() and not second.is_visible()
    page.locator("summary").click()
    assert second.is_visible()
    source = second.evaluate("image => image.currentSrc").partition(",")[2]
    assert base64.b64decode(source).decode() == {"moving": moving, "still": still}[shown].svg
    page.close()
