"""The written file in a real browser: opened from a disk, without a network."""

import base64
import copy
import math

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from chromium import needs_chromium, new_page
from packed import unpacked
from playwright.sync_api import expect

from bertlib.huggingface import load
from bertlib.page import document, pack
from bertlib.page.__main__ import main
from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.page import percent
from bertlib.predict import answers, attention_maps
from bertlib.tokens import Tokenizer

pytestmark = needs_chromium
TEXT = "word3 [MASK] word5 word6 [MASK] <b>"
TALK = """(messages) => new Promise((resolve) => {
  const source = new Blob([document.querySelector("#worker").textContent]);
  const worker = new Worker(URL.createObjectURL(source)), answers = [];
  worker.onmessage = ({ data }) => {
    const weights = data.attention;
    answers.push({ ...data, ...(weights && { attention: Array.from(weights) }) });
    if (answers.length === messages.length) resolve(answers);
  };
  messages.forEach((message) => worker.postMessage(message));
})"""


@pytest.fixture(scope="module")
def reference():
    return load(PROJECT / "assets" / "reference")


def opened(browser, path):
    """The page of a file, offline; whatever else it asks for is refused and listed."""
    page = new_page(browser)
    page.context.set_offline(True)
    page.route(lambda url: url != path.as_uri(), lambda route: route.abort())
    page.goto(path.as_uri())
    expect(page.locator(".hole .bar").first).to_be_attached()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    return page


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "guess.html"
    main(["--model", str(PROJECT / "assets" / "reference"), str(path)])
    page = opened(browser, path)
    yield page
    assert page.errors == [] and page.outside == [path.as_uri()]
    page.close()


def ask(page, text: str) -> None:
    if page.locator("#reader").is_hidden():
        page.get_by_role("button", name="text", exact=True).click()
    page.get_by_label("A text of yours").fill(text)
    page.get_by_role("button", name="guess", exact=True).click()
    expect(page.locator("[aria-busy]")).to_have_count(0)


def talk(page, *messages: dict) -> list[dict]:
    """What a fresh worker answers to numbered messages."""
    found = page.evaluate(TALK, [{"number": n, **message} for n, message in enumerate(messages)])
    assert [answer.pop("number") for answer in found] == list(range(len(messages)))
    return found


def test_the_page_shows_the_guesses_of_python(page, reference):
    model, tokenizer = reference
    model = unpacked(pack(model, tokenizer, "bf16"), model.config)
    ask(page, TEXT)
    expect(page.locator(".hole")).to_have_count(2)
    for number, guesses in enumerate(answers(model, tokenizer, [tokenizer.encode(TEXT)])[0]):
        page.locator(".hole").nth(number).click()
        shown = [page.locator("#card li").nth(n).inner_text().split("\n")[1:]
                 for n in range(len(guesses))]
        assert shown == [[token.removeprefix("##"), percent(share)] for token, share in guesses]
        assert page.locator(".pinned").count() == 0  # nobody knows what a typed [MASK] hides
    assert page.locator(".hole.right, .hole.wrong").count() == 0


def test_what_is_wrong_is_told_in_one_sentence_and_the_text_stays(page):
    said = page.get_by_role("status")
    wrong = {"word1": "has no [MASK]", "word1 " * 20: "has 22 tokens", "": "has no [MASK]"}
    for text, words in wrong.items():
        ask(page, text)
        expect(said).to_contain_text(words)
    ask(page, TEXT)
    expect(said).to_have_text("")
    expect(page.locator(".hole")).to_have_count(2)


def test_a_guess_is_put_into_the_text_and_the_other_holes_guess_again(page):
    ask(page, TEXT)
    other = page.locator(".hole").nth(1)
    before = other.text_content()
    page.locator(".hole").first.click()
    page.keyboard.press("3")
    expect(page.locator(".hole").first).to_have_class("part hole placed selected")
    expect(other).not_to_have_text(before)
    page.get_by_role("button", name="take back").click()
    expect(other).to_have_text(before)


def test_a_whole_round_is_played_with_the_keyboard(page):
    ask(page, "word3 word5 word6 word7 word8 word9")
    page.get_by_role("button", name="next puzzle").focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("Your word")
    expect(field).to_be_focused()
    expect(page.locator("[aria-busy]")).to_have_count(0)
    page.keyboard.type("word")
    page.keyboard.press("Enter")
    expect(page.locator("#score")).to_contain_text("you 0 : BERT")
    expect(page.get_by_role("status")).to_contain_text("Next puzzle?")
    expect(page.locator(".hole .truth")).to_contain_text("you: word ✗")
    expect(page.get_by_role("button", name="next puzzle")).to_be_focused()


def test_enter_that_confirms_a_candidate_does_not_send(page):
    ask(page, TEXT)
    box = page.get_by_label("A text of yours")
    box.fill("word1 [MASK]")
    for composing in (True, False):
        box.evaluate("""(box, isComposing) => box.dispatchEvent(new KeyboardEvent("keydown",
          { key: "Enter", bubbles: true, cancelable: true, isComposing }))""", composing)
        expect(page.locator(".hole")).to_have_count(2 if composing else 1)


@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_is_wider_than_the_page(page, width):
    size = page.viewport_size
    page.set_viewport_size({"width": width, "height": 800})
    for text in ("x" * 3_000 + " [MASK]", "\u05e9\u05dc\u05d5\u05dd [MASK] \u05e2\u05d5\u05dc"):
        ask(page, text)
        page.locator(".hole").first.click()
        expect(page.locator("#card")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.set_viewport_size(size)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_fault_for_people_with_other_senses(page, scheme):
    page.emulate_media(color_scheme=scheme)
    ask(page, TEXT)
    page.locator(".hole").first.click()
    assert Axe().run(page).response["violations"] == []


def test_a_guessed_token_is_text_and_never_markup(browser, reference, tmp_path):
    model, bad = copy.deepcopy(reference[0]), '<img src=x onerror="window.hacked=1">'
    model.head.decoder.bias.data[-1] += 100
    words, path = Tokenizer([*reference[1].vocab[:-1], bad]), tmp_path / "guess.html"
    path.write_text(document(pack(model, words), f"a {bad} title"), encoding="utf-8")
    page = opened(browser, path)
    expect(page.locator(".hole .guess").first).to_have_text(bad)
    page.locator(".hole").first.click()
    expect(page.locator("#card .token").first).to_have_text(bad)
    expect(page.locator("h1")).to_have_text(f"a {bad} title")
    page.get_by_role("button", name="more").click()
    with page.expect_download() as got:
        page.get_by_role("button", name="save as a page").click()
    kept = new_page(browser)
    kept.set_content(got.value.path().read_text(encoding="utf-8"))
    expect(kept.locator(".hole .guess").first).to_have_text(bad)
    for tab in (page, kept):
        assert tab.locator("img").count() == 0 and tab.evaluate("window.hacked") is None
        assert tab.errors == []
        tab.close()


def test_the_picture_to_share_is_1200_by_630(page):
    ask(page, TEXT)
    if page.locator("#more").is_hidden():
        page.get_by_role("button", name="more").click()
    with page.expect_download() as got:
        page.get_by_role("button", name="save a picture").click()
    content = got.value.path().read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert [int.from_bytes(content[at : at + 4]) for at in (16, 20)] == [1200, 630]


def test_nothing_can_be_fetched_even_if_a_script_tries(browser, tmp_path):
    path = tmp_path / "guess.html"
    main(["--model", str(PROJECT / "assets" / "reference"), str(path)])
    page = opened(browser, path)
    assert page.evaluate("fetch('http://127.0.0.1:9/').catch((error) => 'refused')") == "refused"
    assert page.errors and all("Content Security Policy" in error for error in page.errors)
    assert page.outside == [path.as_uri()]
    page.close()


# -- the worker -------------------------------------------------------------------------------


def test_the_worker_tells_what_the_model_is_and_answers(page, reference):
    model, tokenizer = reference
    content = pack(model, tokenizer)
    same, ids = unpacked(content, model.config), tokenizer.encode(TEXT)
    loaded, typed, listed, read = talk(
        page, {"load": base64.b64encode(content).decode()}, {"guess": TEXT, "top": 97, "layer": 1},
        {"guess": ids, "positions": [3, 1], "top": 2}, {"guess": ids, "layer": 1, "row": 4})
    assert loaded["loaded"] == {"words": 97, "longest": 16, "mask": 4, "layers": 2, "heads": 4}
    assert typed["ids"] == listed["ids"] == ids and typed["tokens"] == tokenizer.tokens(ids)
    assert typed["positions"] == [2, 5] and listed["positions"] == [3, 1]
    assert [TEXT[a:b] for a, b in typed["offsets"]] == [
        "", "word3", "[MASK]", "word5", "word6", "[MASK]", "<", "b", ">", ""]
    with torch.no_grad():
        shares = same(torch.tensor([ids]), torch.tensor([2, 5, 3, 1])).logits.softmax(1)
    for wanted, guesses in zip(shares, typed["guesses"] + listed["guesses"], strict=True):
        best = wanted.topk(len(guesses))
        assert [token for token, _ in guesses] == tokenizer.tokens(best.indices.tolist())
        for (_, share), true in zip(guesses, best.values.tolist(), strict=True):
            assert math.isclose(share, true, abs_tol=1e-5)
    maps = attention_maps(same, torch.tensor([ids]))[1, 0]  # [H, T, T]
    assert torch.allclose(torch.tensor(typed["attention"]).view_as(maps), maps, atol=1e-5)
    assert torch.allclose(torch.tensor(read["attention"]).view(4, -1), maps[:, 4], atol=1e-5)
    assert listed["attention"] is None


def test_the_worker_refuses_in_one_sentence_and_goes_on(page, reference):
    content = pack(*reference)
    good, cut = (base64.b64encode(part).decode() for part in (content, content[:-99]))
    wrong = [
        ({"guess": [1, 97]}, "neither text nor a list of ids below 97"),
        ({"guess": [1, -1]}, "ids below 97"), ({"guess": [1.5]}, "ids below 97"),
        ({"guess": None}, "neither text"), ({"guess": []}, "0 tokens"),
        ({"guess": [5] * 17}, "has 17 tokens, the model reads 1 to 16"),
        ({"guess": "a", "positions": [3]}, "which are 0 to 2"),
        ({"guess": "a", "positions": "1"}, "which are 0 to 2"),
        ({"guess": "a", "top": 0}, "between 1 and 97"), ({"guess": "a", "top": 98}, "1 and 97"),
        ({"guess": "a", "layer": 2}, "layers are 0 to 1"), ({}, "neither text"),
        ({"guess": "a", "layer": 1, "row": 3}, "which are 0 to 2"),
    ]
    early, *damaged, loaded, last, found = talk(
        page, {"guess": "a"}, {"load": "AAAA"}, {"load": "%"}, {"load": cut}, {"load": good},
        wrong[0][0], {"guess": "[MASK]"})
    assert "no model yet" in early["error"] and "loaded" in loaded and len(found["guesses"]) == 1
    for answer in damaged:
        assert answer["error"].startswith("The model cannot be read (")
        assert answer["error"].endswith("); make the page again.")
    refused = talk(page, {"load": good}, *(message for message, _ in wrong))[1:]
    for answer, (_, words) in zip([last, *refused], [wrong[0], *wrong], strict=True):
        assert list(answer) == ["error"] and words in answer["error"]
        assert answer["error"].endswith(".") and answer["error"].count(".") == 1
