"""The written file as people use it: by touch, with a head's reading under it, and in a hurry."""

import pytest
import torch
from chromium import needs_chromium
from packed import unpacked
from playwright.sync_api import expect
from test_page_offline import TEXT, ask, opened, reference  # noqa: F401

from bertlib.page import pack
from bertlib.page.__main__ import main
from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.page import percent
from bertlib.predict import attention_maps

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "guess.html"
    main(["--model", str(PROJECT / "assets" / "reference"), str(path)])
    return path


@pytest.fixture
def page(browser, path):
    page = opened(browser, path)
    yield page
    assert page.errors == []
    page.close()


def test_a_head_is_drawn_under_the_guesses(page, reference):  # noqa: F811
    model, tokenizer = reference
    model = unpacked(pack(model, tokenizer, "bf16"), model.config)
    ask(page, TEXT)
    page.get_by_role("button", name="more").click()
    page.get_by_label("attention").select_option("1 3")
    page.locator(".hole").first.click()
    said = page.get_by_role("status")
    expect(said).to_contain_text("Layer 1, head 3 reads for “[MASK]”")
    shares = attention_maps(model, torch.tensor([tokenizer.encode(TEXT)]))[1, 0, 3, 2]  # [T]
    expect(said).to_contain_text(f"{percent(float(shares[0] + shares[-1]))} of it")
    read = [percent(float(share)) if share >= 0.05 else "" for share in shares[1:-1]
            if share >= 0.01]
    assert page.locator(".read span").all_inner_texts() == read and "" in read and len(read) > 3
    expect(page.locator(".hole .bar")).to_have_count(2)  # the guesses are still there
    page.keyboard.press("ArrowRight")
    expect(said).to_contain_text("reads for “word5”")
    page.get_by_label("attention").select_option("")
    expect(page.locator(".read")).to_have_count(0)


def test_attention_asked_in_the_middle_of_a_guess_takes_nothing_from_it(page):
    ask(page, TEXT)
    page.get_by_role("button", name="more").click()
    page.evaluate("""() => {
      const head = document.querySelector("#head");
      document.querySelector(".word").click();
      head.value = "0 0";
      head.dispatchEvent(new Event("change"));
    }""")
    expect(page.get_by_role("status")).to_contain_text("Layer 0, head 0")
    expect(page.locator(".hole .bar")).to_have_count(3)
    assert page.locator(".read").count() > 1


def test_a_round_can_be_given_up_and_a_second_press_deals_no_second_puzzle(page):
    ask(page, "word3 word5 word6 word7 word8 word9")
    page.evaluate("""() => {
      const button = document.querySelector("[data-do=next]");
      button.click();
      button.click();
    }""")
    expect(page.locator("[aria-busy]")).to_have_count(0)
    expect(page.get_by_label("Your word")).to_be_focused()
    page.get_by_role("button", name="give up").click()
    expect(page.locator(".hole.open")).to_have_count(0)
    expect(page.locator("#score")).to_have_text("you 0 : BERT 0")
    page.get_by_role("button", name="next puzzle").click()
    expect(page.get_by_label("Your word")).to_be_focused()


def test_a_finger_does_what_a_mouse_does(browser, path):
    """At 640 pixels, as a page of 1,280 at 200%, and on a phone."""
    for width in (640, 390):
        context = browser.new_context(has_touch=True, viewport={"width": width, "height": 700})
        page = context.new_page()
        page.goto(path.as_uri())
        expect(page.locator(".hole .bar").first).to_be_attached()
        page.locator(".word").first.tap()
        expect(page.locator(".hole")).to_have_count(2)
        page.locator(".hole").last.tap()
        expect(page.locator("#card h2")).to_have_text("Hole 2")
        page.locator("#card li button").nth(1).tap()
        expect(page.locator(".hole.placed")).to_have_count(1)
        page.get_by_role("button", name="close").tap()
        expect(page.locator("#card")).to_be_hidden()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        context.close()
