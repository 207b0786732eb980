"""The highlighter without a browser: every command, and what the reader is told."""

import base64
import functools
import json

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.predict import attention_maps, word_shares
from bertlib.widget import Highlighter

COMMANDS = ("read", "toggle", "mask", "clear", "score", "puzzle", "compare", "attend", "export")
DEEP = functools.reduce(lambda inner, _: [inner], range(100_000), [])  # repr() fails
ODD = (True, False, None, 1.0, float("nan"), 10**400, -1, "1", "\ud800", "__class__", [], [1], {},
       {"do": "mask"}, DEEP)


def build(tokenizer, seed=0):
    torch.manual_seed(seed)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer))).eval()


@pytest.fixture(scope="module")
def models(tokenizer):
    return {"old": build(tokenizer), "new": build(tokenizer, 1)}


@pytest.fixture
def page(models, tokenizer, dataset):
    return Highlighter(models, tokenizer, "the king went to the sea .", puzzles=dataset)


def test_a_click_hides_a_word_and_a_second_one_shows_it(page):
    assert page.state["tokens"] == ["[CLS]", "the", "king", "went", "to", "the", "sea", ".",
                                    "[SEP]"]
    page.receive({"do": "toggle", "index": 2})
    page.receive({"do": "toggle", "index": 6})
    assert page.state["masked"] == [2, 6]
    first, second = page.state["columns"][0]["rows"]
    assert first[2] == "king" and second[2] == "sea" and len(first) == 10
    holes = page.state["columns"][0]["holes"]
    assert [hole["truth"] for hole in holes] == ["king", "sea"]
    for hole, row in zip(holes, (first, second), strict=True):
        assert hole["right"] is (hole["guesses"][0]["token"] == hole["truth"])
        assert [f"{g['word']} {g['percent']}" for g in hole["guesses"]] == row[5:]
    assert page.hidden_ids()[0, 2] == page.tokenizer.special.mask
    page.receive({"do": "toggle", "index": 2})
    assert page.state["masked"] == [6]


def test_special_tokens_and_foreign_commands_change_nothing(page):
    before = page.state
    for command in ({"do": "toggle", "index": 0}, {"do": "toggle", "index": 99},
                    {"do": "toggle", "index": "2"}, {"do": "toggle"}, {"do": "format_disk"},
                    {}, "toggle", {"do": "attend", "layer": 99, "head": 0},
                    {"do": "compare", "name": "nobody"}):
        page.receive(command)
        assert page.state == before, command


def test_fifteen_percent_are_hidden_and_shown_again(page):
    page.receive({"do": "read", "text": "the king went to the sea . " * 3})
    page.receive({"do": "mask"})
    assert len(page.state["masked"]) == 3  # 15% of 21
    page.receive({"do": "clear"})
    assert page.state["masked"] == [] and page.state["columns"][0]["rows"] == []


@pytest.mark.parametrize(("text", "words"), [
    ("", "no word"), ("   ", "no word"), ("king " * 60, "62 tokens, the model reads 32"),
    ("the \U0001f40e went", "read as [UNK]: '\U0001f40e'"),
])
def test_odd_text_gets_a_plain_message(page, text, words):
    page.receive({"do": "read", "text": text})
    assert words in page.state["message"]
    assert len(page.state["tokens"]) <= 32
    page.receive({"do": "toggle", "index": 1})
    assert page.state["masked"] == [1]


def plain(page) -> str:
    """The state as strict JSON in UTF-8, which Jupyter sends."""
    written = json.dumps(page.state, allow_nan=False, ensure_ascii=False)
    assert json.loads(written) == page.state and written.encode()
    return written


def test_a_megabyte_is_not_carried_along(page):
    page.receive({"do": "read", "text": "the king went to the sea . " * 40_000})
    assert page.state["message"].startswith("The text has 280,002 tokens, the model reads 32: ")
    assert page.state["text"] == "the king went to the sea . " * 4 + "the king"  # 30 tokens
    assert len(plain(page)) < 5_000
    before = page.state["tokens"]
    page.receive({"do": "read", "text": page.state["text"]})
    assert page.state["tokens"] == before and page.state["message"] == ""


@pytest.mark.parametrize(("text", "words"), [
    ("x" * 1_000_000, "The first 3 tokens of the text have 1,000,000 characters"),
    (" " * 1_000_000 + "sea " * 40, "The first 32 tokens of the text have 1,000,119 characters"),
    ("sea " * 500_001, "The text has 2,000,004 characters"),
    ("the \ud800 sea", r"The text 'the \ud800 sea' holds '\ud800', letter 5"),
    (None, "no word"), (1, "no word"), ({"text": "sea"}, "no word"),
])
def test_unreadable_text_is_told_and_the_one_before_stays(page, models, tokenizer, text, words):
    before = page.state
    page.receive({"do": "read", "text": text})
    assert words in page.state["message"] and len(page.state["message"]) < 200
    assert page.state | {"message": ""} == before and plain(page)
    first = Highlighter(models, tokenizer, text)
    assert words in first.state["message"] and first.state["tokens"] == ["[CLS]", "[SEP]"]
    for do in COMMANDS:
        first.receive({"do": do, "layer": 0, "head": 0, "index": 1})
        assert plain(first)


def test_a_long_unknown_word_is_told_in_short(page):
    page.receive({"do": "read", "text": "the " + "x" * 5_000 + " sea"})
    assert "'xxx" in page.state["message"] and len(page.state["message"]) < 100
    assert page.state["tokens"] == ["[CLS]", "the", "[UNK]", "sea", "[SEP]"]


@pytest.mark.parametrize("do", [*COMMANDS, *ODD], ids=[*COMMANDS, *map(str, range(len(ODD)))])
def test_a_command_may_hold_anything(page, do):
    assert {name for name in vars(Highlighter) if name.startswith("do_")} == {
        f"do_{name}" for name in COMMANDS}
    page.receive({"do": "toggle", "index": 2})
    before = page.state
    for odd in ODD:
        page.receive({"do": do} | dict.fromkeys(("layer", "head", "index", "name", "format"), odd))
        numbers = page.state["masked"] + page.state["head"] + [page.state["selected"]]
        assert plain(page) and {type(number) for number in numbers} <= {int}, odd
        if do in ("toggle", "compare", "attend") or do not in COMMANDS:
            assert page.state == before, odd


def test_pasted_markup_stays_text(page):
    page.receive({"do": "read", "text": "<img src=x onerror=alert(1)> & [MASK]"})
    page.receive({"do": "mask"})
    bundle = page._repr_mimebundle_()["text/html"]
    assert "<img" not in bundle and "&lt;" in bundle


def test_a_typed_mask_has_no_truth_and_stays_hidden(page):
    page.receive({"do": "read", "text": "the [MASK] went ."})
    assert page.state["masked"] == [2]
    assert page.state["columns"][0]["rows"][0][2] == "unknown"
    page.receive({"do": "toggle", "index": 2})
    assert page.state["masked"] == [2] and "no word behind" in page.state["message"]
    page.receive({"do": "clear"})
    assert page.state["masked"] == [2]


def test_each_word_is_scored(page):
    page.receive({"do": "toggle", "index": 2})
    page.receive({"do": "score"})
    assert page.state["masked"] == [] and len(page.state["scores"]) == 9
    mean = word_shares(page.model(), page.tokenizer, torch.tensor(page.ids))[1:-1].log().mean()
    assert f"mean log-probability {mean:.2f} nats" in page.state["message"]
    page.receive({"do": "toggle", "index": 2})
    assert page.state["scores"] == []


def test_a_typed_mask_is_not_scored(page):
    page.receive({"do": "read", "text": "the [MASK] of the sea ."})
    page.receive({"do": "score"})
    state = page.state
    assert state["scores"][2] is None and state["percents"][2] == ""
    shares = word_shares(page.model(), page.tokenizer, torch.tensor(page.ids))
    mean = shares[[1, 3, 4, 5, 6]].log().mean()
    assert f"mean log-probability {mean:.2f} nats" in state["message"]
    page.receive({"do": "read", "text": "[MASK]"})
    page.receive({"do": "score"})
    assert page.state["message"] == "There is no word to score."


def test_a_puzzle_hides_the_frozen_positions_and_counts(page, dataset):
    page.receive({"do": "puzzle"})
    number = page.state["puzzle"]
    frozen = [p for p in dataset.positions[number].tolist() if p < 32]
    assert page.state["masked"] == frozen
    right = sum(row[1] == "✓ right" for row in page.state["columns"][0]["rows"])
    assert page.state["columns"][0]["summary"].startswith(f"{right} of {len(frozen)} right")
    page.receive({"do": "read", "text": "the sea"})
    assert page.state["puzzle"] == -1


def test_two_models_answer_side_by_side(page, models):
    page.receive({"do": "toggle", "index": 2})
    page.receive({"do": "compare", "name": "new"})
    old, new = page.state["columns"]
    assert (old["name"], new["name"]) == ("old", "new") and old["rows"] != new["rows"]
    page.receive({"do": "compare", "name": ""})
    assert len(page.state["columns"]) == 1


def test_the_chosen_head_reads_from_the_chosen_token(page, models):
    page.receive({"do": "attend", "layer": 1, "head": 2, "index": 3})
    wanted = attention_maps(models["old"], torch.tensor([page.ids]))[1, 0, 2, 3]
    assert torch.allclose(torch.tensor(page.state["reads"]), wanted, atol=1e-6)
    page.receive({"do": "attend", "layer": -1, "head": 0, "index": 3})
    assert page.state["reads"] == [] and page.state["head"] == []


def test_the_page_is_saved_whole_and_alone(page, tmp_path, monkeypatch):
    page.receive({"do": "toggle", "index": 2})
    sent = []
    monkeypatch.setattr(page, "send", lambda content, buffers=None: sent.append(content))
    for kind, start in (("png", b"\x89PNG"), ("html", b"<!doctype html>")):
        page.receive({"do": "export", "format": kind})
        page.save(tmp_path / f"page.{kind}")
        content = (tmp_path / f"page.{kind}").read_bytes()
        assert content.startswith(start)
        assert base64.b64decode(sent[-1]["data"]) == content
        assert sent[-1]["name"] == f"hidden-words.{kind}"


def test_without_a_kernel_the_notebook_still_tells_all(page):
    page.receive({"do": "toggle", "index": 2})
    bundle = page._repr_mimebundle_()
    assert "<b style=" in bundle["text/html"] and "<table>" in bundle["text/html"]
    assert "the /" in bundle["text/plain"] and "rank" in bundle["text/plain"]
    assert bundle == page._repr_mimebundle_() and set(bundle) == {"text/html", "text/plain"}
