"""The highlighter without a browser: every question, and what the page is told."""

import functools
import json

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.plumbing.files import InputError
from bertlib.predict import attention_maps, guess_hidden
from bertlib.widget import Highlighter

TEXT = "the king went to the sea ."
DEEP = functools.reduce(lambda inner, _: [inner], range(100_000), [])  # repr() fails
ODD = (True, False, None, 1.0, float("nan"), 10**400, -1, "1", "\ud800", "__class__", [], [1], {},
       {"guess": "the"}, [-1], [10**9], [True], DEEP)
FIELDS = ("guess", "positions", "truths", "top", "layer", "row", "model", "deal", "number")


def build(tokenizer, seed=0):
    torch.manual_seed(seed)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer))).eval()


@pytest.fixture(scope="module")
def models(tokenizer):
    return {"old": build(tokenizer), "new": build(tokenizer, 1)}


@pytest.fixture
def page(models, tokenizer, dataset):
    return Highlighter(models, tokenizer, TEXT, puzzles=dataset)


def ask(page, places, ids=None, **more):
    """The answer for a text with `places` hidden, as the page would ask."""
    ids = ids or page.opening["ids"]
    hidden = [page.tokenizer.special.mask if place in places else token
              for place, token in enumerate(ids)]
    return page.answer({"guess": hidden, "positions": places,
                        "truths": [ids[place] for place in places], **more})


def test_the_answer_is_what_the_model_says(page, models, tokenizer):
    told = ask(page, [2, 6])
    wanted = guess_hidden(models["old"], tokenizer, page.opening["ids"], [2, 6])
    assert [hole.truth for hole in wanted.holes] == ["king", "sea"]
    for number, hole in enumerate(wanted.holes):
        assert [tuple(guess) for guess in told["guesses"][number]] == list(hole.guesses)
        assert told["ranks"][number] == [hole.rank, hole.probability]
        assert tokenizer.tokens(told["choices"][number]) == [g.token for g in hole.guesses]
    assert ask(page, [2], model="new")["guesses"] != ask(page, [2], model="old")["guesses"]
    assert len(ask(page, [2], top=7)["guesses"][0]) == 7
    unknown = page.answer({"guess": "the [MASK] went", "positions": [2]})
    assert unknown["ranks"] == [None] and len(unknown["guesses"][0]) == 5


def test_a_head_reads_from_one_token(page, models):
    told = ask(page, [], layer=1, row=3)
    maps = attention_maps(models["old"], torch.tensor([page.opening["ids"]]))[1, 0, :, 3]  # [H, T]
    assert torch.allclose(torch.tensor(told["attention"]).view_as(maps), maps, atol=1e-6)
    assert ask(page, [2])["attention"] is None


@pytest.mark.parametrize("text", [TEXT, "Été, [MASK]", "a \U0001f40e \U0001f40e b.", "x" * 25])
def test_offsets_count_letters_as_javascript_does(page, text):
    told = page.answer({"guess": text, "positions": []})
    units = text.encode("utf-16-le")
    words = [units[2 * start : 2 * end].decode("utf-16-le") for start, end in told["offsets"]]
    encoding = page.tokenizer.backend.encode(text)
    assert words == [text[start:end] for start, end in encoding.offsets]
    assert told["ids"] == encoding.ids and told["tokens"] == encoding.tokens


def test_a_puzzle_hides_the_frozen_places_of_a_chunk(page, dataset):
    told = page.answer({"deal": True})
    number = int(told["message"].split()[1].strip(":"))
    chunk = dataset.chunks(slice(number, number + 1))[0].tolist()
    assert told["ids"] == [token for token in chunk if token != page.tokenizer.special.pad]
    assert told["hidden"] == [p for p in dataset.positions[number].tolist()
                              if p < len(told["ids"])]
    assert page.answer({"deal": True})["ids"] != told["ids"]
    words = [told["text"][start:end] for start, end in told["offsets"]]
    assert words[0] == words[-1] == ""
    assert words[1:-1] == [token.removeprefix("##") for token in told["tokens"][1:-1]]


def test_without_puzzles_there_are_passages(models, tokenizer):
    page = Highlighter(models["old"], tokenizer, TEXT)
    assert page.facts["passages"] == [] or {len(told) for told in page.facts["passages"]} == {3}
    with pytest.raises(InputError, match="neither text"):
        page.answer({"deal": True})


@pytest.mark.parametrize(("asked", "words"), [
    ({"guess": "", "positions": []}, "no word"), ({"guess": None}, "neither text nor a list of 1"),
    ({"guess": [5] * 33}, "list of 1 to 32 ids below"), ({"guess": [10**9]}, "ids below"),
    ({"guess": [True, 1]}, "ids below"), ({"guess": "the \ud800 sea"}, r"holds '\ud800', letter 5"),
    ({"guess": "sea " * 500_001}, "2,000,004 characters"),
    ({"guess": "x" * 1_000_000}, "have 1,000,000 characters"),
    ({"guess": TEXT, "positions": [0]}, "which are 1 to 7"),
    ({"guess": TEXT, "positions": [8]}, "which are 1 to 7"),
    ({"guess": TEXT, "positions": "12"}, "which are 1 to 7"), ({"guess": TEXT}, "1 to 7"),
    ({"guess": TEXT, "positions": [1], "truths": [-1]}, "A true word"),
    ({"guess": TEXT, "positions": [1], "truths": [5, 5]}, "A true word"),
    ({"guess": TEXT, "positions": [1], "top": 0}, "number of guesses"),
    ({"guess": TEXT, "positions": [1], "top": 10**9}, "number of guesses"),
    ({"guess": TEXT, "positions": [1], "top": True}, "number of guesses"),
    ({"guess": TEXT, "positions": [], "layer": 2, "row": 1}, "The layers are 0 to 1"),
    ({"guess": TEXT, "positions": [], "layer": 1}, "the rows 0 to 8"),
    ({"guess": TEXT, "positions": [], "model": "nobody"}, "there are: old, new."),
])
def test_what_cannot_be_answered_is_told_in_one_sentence(page, asked, words):
    told = page.reply(asked | {"number": 7})
    assert set(told) == {"number", "error"} and told["number"] == 7
    assert words in told["error"] and len(told["error"]) < 200 and told["error"].endswith(".")
    assert json.dumps(told, allow_nan=False, ensure_ascii=False).encode()


@pytest.mark.parametrize("field", FIELDS)
def test_a_question_may_hold_anything(page, field):
    good = {"guess": TEXT, "positions": [2], "truths": [5], "number": 1, "layer": 0, "row": 1}
    for odd in ODD:
        told = page.reply(good | {field: odd})
        assert json.dumps(told, allow_nan=False, ensure_ascii=False).encode()
        assert ("error" in told) != ("guesses" in told or "hidden" in told)
        assert page.reply(odd)["error"]


def test_what_is_left_out_and_what_is_unknown_is_told(page):
    told = page.answer({"guess": "king " * 60, "positions": []})
    assert told["message"].startswith("The text has 62 tokens, the model reads 32")
    assert len(told["ids"]) == 32 and told["text"] == "king " * 29 + "king"
    told = page.answer({"guess": "the " + "x" * 5_000 + " sea", "positions": []})
    assert "'xxx" in told["message"] and len(told["message"]) < 100
    assert told["tokens"] == ["[CLS]", "the", "[UNK]", "sea", "[SEP]"]


def test_the_page_opens_with_words_hidden_and_the_still_one_says_the_same(models, tokenizer):
    page = Highlighter(models, tokenizer, "the king went to [MASK] .", hide=[2])
    assert page.facts["opening"]["hidden"] == [2]
    html, text = page.still()
    assert html.count("<b style=") == 2 and "true word king" in text
    assert [hole.truth for hole in page.page("new").holes] == ["king", None]
    assert page._repr_mimebundle_() == {"text/html": html, "text/plain": text}
    json.dumps(page.facts, allow_nan=False)
    for wrong in ([0], [6], [1.0], "2"):
        with pytest.raises(InputError, match="which are 1 to 6|which are 1 to 5"):
            Highlighter(models, tokenizer, "the king went to .", hide=wrong)
    with pytest.raises(InputError, match="no word"):
        Highlighter(models, tokenizer, "")


def test_pasted_markup_stays_text(models, tokenizer):
    page = Highlighter(models, tokenizer, "<img src=x onerror=alert(1)> & [MASK]", title="<i>")
    bundle = page._repr_mimebundle_()["text/html"]
    assert "<img" not in bundle and "&lt;" in bundle and "<i>" not in bundle
