"""Notebook 08 as a learner meets it: JupyterLab on this machine, driven in a real Chromium.

BERTLIB_SCREENSHOTS names a folder that gets pictures of the page.
"""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from chromium import SLOW, needs_chromium, new_page
from playwright.sync_api import expect

from bertlib.huggingface import load
from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.page import percent
from bertlib.predict import attention_maps, guess_hidden

TEXT = "the king went to the sea ."
FOLDERS = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR",
           "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
SMALL = """from bertlib.huggingface import load
from bertlib.widget import Highlighter
widget = Highlighter(*load(), "she was the daughter of a rich man .", hide=[5])
widget"""
MONEY = r"it cost $5 and then $6, \(x\), $$y$$, \begin{z}w\end{z}"
MONEY_LIVE = f"""from IPython.display import HTML
from bertlib.highlight import inline_html, page_html
from bertlib.huggingface import load
from bertlib.widget import Highlighter
money = {MONEY!r}
widget = Highlighter(*load(), money, hide=[1])
widget"""
MONEY_STILL = """page = widget.page()
HTML(page_html(page, money) + inline_html(page) + f"<p>{money}</p>")"""
ALL_RAN = """() => {
  const cells = [...window.jupyterapp.shell.currentWidget.content.model.cells];
  const code = cells.filter((cell) => cell.type === "code");
  return code.at(-1).executionCount === code.length;
}"""
pytestmark = needs_chromium


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=2).status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """JupyterLab on a free port with a home of its own: (folder, function name -> address)."""
    folder, home = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("home")
    notebook = json.loads((PROJECT / "notebooks" / "08_predictions.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["execution_count"] = None  # so that one tells that its cell has run here
    (folder / "08_predictions.ipynb").write_text(json.dumps(notebook), encoding="utf-8")
    environment = os.environ | {name: str(home / name) for name in FOLDERS} | {"HOME": str(home)}
    news = home / "JUPYTERLAB_SETTINGS_DIR" / "@jupyterlab" / "apputils-extension"
    news.mkdir(parents=True)
    (news / "notification.jupyterlab-settings").write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token, log = secrets.token_hex(16), (home / "lab.log").open("w")
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root",
         "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0",
         f"--IdentityProvider.token={token}", f"--ServerApp.root_dir={folder}",
         "--LabApp.expose_app_in_browser=True", "--LabApp.extension_manager=readonly"],
        env=environment, stdout=log, stderr=subprocess.STDOUT)
    status, end = f"http://127.0.0.1:{port}/api/status?token={token}", time.monotonic() + 120
    while not answers(status):
        assert server.poll() is None and time.monotonic() < end, (home / "lab.log").read_text()
    yield folder, lambda name: f"http://127.0.0.1:{port}/lab/tree/{name}?token={token}&reset"
    server.send_signal(signal.SIGTERM)
    try:
        server.wait(30)
    except subprocess.TimeoutExpired:
        server.kill()
    log.close()


@pytest.fixture(scope="module")
def page(lab, browser):
    """Notebook 08 opened and run to its end."""
    page = new_page(browser)
    page.goto(lab[1]("08_predictions.ipynb"))
    page.wait_for_selector(".jp-Notebook")
    page.get_by_text("| Idle").wait_for()  # before that, running is silently ignored
    command(page, "notebook:run-all-cells")
    page.wait_for_function(ALL_RAN, timeout=5 * SLOW)  # a minute, if nothing else runs
    page.locator(".bl-root").first.wait_for()
    yield page
    page.close()


def command(page, name: str, **options) -> None:
    """Do what a menu entry of JupyterLab does, and wait until it is done."""
    page.evaluate("([name, options]) => window.jupyterapp.commands.execute(name, options)",
                  [name, options])


@pytest.fixture
def widget(page):
    """The first highlighter of the notebook, reading a text that the test knows."""
    root = page.locator(".bl-root").first
    root.scroll_into_view_if_needed()
    for name in ("attention", "compare with"):
        more(root).get_by_label(name).select_option("")
    read(root, TEXT)
    # the answer, which waits in the kernel behind all cells that still run
    expect(root.locator(".word")).to_have_count(6, timeout=SLOW)
    expect(root.get_by_role("status")).to_contain_text("no hidden word", timeout=SLOW)
    return root


def read(root, text: str) -> None:
    if root.locator("#reader").is_hidden():
        root.get_by_role("button", name="text", exact=True).click()
    root.get_by_label("A text of yours").fill(text)
    root.get_by_role("button", name="guess", exact=True).click()


def more(root):
    """The controls behind "more"."""
    if root.locator("#more").is_hidden():
        root.get_by_role("button", name="more", exact=True).click()
    return root.locator("#more")


def word(root, index: int):
    return root.locator(f"[data-position='{index}']")


def shot(page, name: str) -> None:
    if folder := os.environ.get("BERTLIB_SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"))


def card(root) -> list[list[str]]:
    """The guesses and their shares, as the card shows them."""
    return [row.split("\n")[1:] for row in root.locator("#card li").all_inner_texts()]


def test_a_click_hides_a_word_and_the_model_guesses(page, widget):
    word(widget, 2).click()
    expect(word(widget, 2)).to_have_attribute("aria-pressed", "true")
    word(widget, 6).click()
    expect(widget.get_by_role("status")).to_contain_text(" of 2 right")
    model, tokenizer = load()
    for hole in guess_hidden(model, tokenizer, tokenizer.encode(TEXT), [2, 6]).holes:
        word(widget, hole.position).click()
        expect(widget.locator("#card h2")).to_have_text(f"Hole {1 + (hole.position == 6)}")
        assert card(widget) == [[guess.token, percent(guess.probability)] for guess in hole.guesses]
        expect(widget.locator(".pinned").first).to_contain_text(f"rank {hole.rank}")
        expect(word(widget, hole.position)).to_have_class(
            f"part hole {'right' if hole.right else 'wrong'} selected")
    shot(page, "click")


def test_the_keyboard_alone_does_everything(page, widget):
    widget.get_by_label("A text of yours").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("ArrowRight")
    expect(word(widget, 3)).to_be_focused()
    page.keyboard.press("Enter")
    expect(word(widget, 3)).to_have_attribute("aria-pressed", "true")
    expect(word(widget, 3)).to_be_focused()
    expect(widget.locator("#card")).to_be_visible()  # hidden, it keeps its last list
    page.keyboard.press("2")
    expect(word(widget, 3)).to_have_class("part hole placed selected")
    page.keyboard.press("Escape")
    expect(widget.locator("#card")).to_be_hidden()
    widget.get_by_role("button", name="score every word").focus()
    page.keyboard.press("Enter")
    expect(widget.locator(".legend")).to_be_visible()
    expect(widget.locator(".word .figure")).to_have_count(5)  # "went" is a hole
    expect(widget.get_by_role("button", name="score every word")).to_be_focused()


def test_pasted_markup_stays_text(page, widget):
    read(widget, "<img src=x onerror=\"window.hacked=1\"> the sea & <b>")
    expect(widget.locator(".passage").first).to_contain_text("onerror=")
    expect(widget.locator(".passage").first).to_contain_text("& <b>")
    assert widget.locator("img").count() == 0 and page.evaluate("window.hacked") is None
    read(widget, "")
    expect(widget.get_by_role("status")).to_contain_text("There is no word in the text")
    widget.get_by_label("A text of yours").evaluate(
        "(field) => { field.value = 'the \\ud800 sea'; }")
    widget.get_by_role("button", name="guess", exact=True).click()
    expect(widget.get_by_role("status")).to_contain_text("'\\ud800', letter 5, which is half")
    expect(widget.get_by_label("A text of yours")).to_have_value("the \ud800 sea")


def test_a_puzzle_is_given_up_and_two_models_answer_in_one_slot(page, widget):
    widget.get_by_role("button", name="next puzzle").click()
    expect(widget.locator(".source").first).to_contain_text("kept for testing")
    expect(widget.get_by_label("Your word")).to_be_focused()
    widget.get_by_role("button", name="give up").click()
    expect(widget.locator(".hole.open")).to_have_count(0)
    expect(widget.locator("#score")).to_have_text("you 0 : BERT 0")
    more(widget).get_by_label("compare with").select_option(index=1)
    holes = widget.locator(".hole").count()
    expect(widget.locator(".hole .other .guess")).to_have_count(holes)
    expect(widget.get_by_role("status")).to_contain_text(" right, first steps (below) ")
    widget.get_by_role("button", name="text", exact=True).click()
    shot(widget, "puzzle")  # README's picture


def test_attention_lies_under_the_guesses(page, widget):
    word(widget, 2).click()
    expect(widget.locator(".hole .guess")).to_have_count(1)
    more(widget).get_by_label("attention").select_option("1 2")
    said = widget.get_by_role("status")
    expect(said).to_contain_text("Layer 1, head 2 reads for “[MASK]”")
    model, tokenizer = load()
    ids = torch.tensor([tokenizer.encode(TEXT)])
    ids[0, 2] = tokenizer.special.mask
    shares = attention_maps(model, ids)[1, 0, 2]  # [T, T]
    ends = float(shares[2, 0] + shares[2, -1])
    expect(said).to_contain_text(f"{percent(ends)} of it is at the two ends")
    for place in range(1, 8):
        figure = widget.locator(f".part[data-key$=':{place}'] .read span")
        share = float(shares[2, place])
        expect(figure).to_have_count(int(share >= 0.01))
        assert share < 0.01 or figure.inner_text() == (percent(share) if share >= 0.05 else "")
    expect(widget.locator(".hole .bar")).to_have_count(1)
    page.keyboard.press("ArrowRight")
    expect(said).to_contain_text("for “went”")
    shot(page, "attention")
    more(widget).get_by_label("attention").select_option("")
    expect(widget.locator(".read")).to_have_count(0)


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_no_serious_fault_for_people_with_other_senses(page, widget, theme):
    command(page, "apputils:change-theme", theme=theme)
    more(widget).get_by_label("compare with").select_option(index=1)
    more(widget).get_by_label("attention").select_option("0 0")
    word(widget, 2).click()
    expect(widget.locator("#card")).to_be_visible()
    expect(widget.locator(".hole .other")).to_have_count(1)
    expect(widget.get_by_role("status")).to_contain_text("Layer 0, head 0")
    found = Axe().run(page, context=".bl-root").response["violations"]
    bad = [fault for fault in found if fault["impact"] in ("serious", "critical")]
    assert not bad, [(fault["id"], fault["nodes"][0]["html"]) for fault in bad]
    ground = widget.locator(".page").evaluate("(page) => getComputedStyle(page).backgroundColor")
    assert (ground == "rgb(22, 23, 26)") is (theme == "JupyterLab Dark")
    shot(page, theme.split()[1].lower())


def test_the_page_is_saved_as_files(page, widget, tmp_path):
    word(widget, 2).click()
    expect(widget.locator("#card")).to_be_visible()
    for label, start in (("as a page", b"<!doctype html>"), ("a picture", b"\x89PNG")):
        with page.expect_download() as download:
            more(widget).get_by_role("button", name=f"save {label}").click()
        download.value.save_as(tmp_path / label)
        assert (tmp_path / label).read_bytes().startswith(start)


def saved(lab, page, name: str = "08_predictions.ipynb") -> str:
    command(page, "docmanager:save")
    return (lab[0] / name).read_text(encoding="utf-8")


def elsewhere(content: str) -> str:
    """A saved notebook as one gets it from others: not trusted, and its kernel is not there."""
    notebook = json.loads(content)
    for cell in notebook["cells"]:
        cell["metadata"].pop("trusted", None)
    notebook["metadata"]["kernelspec"]["name"] = "none_such"
    return json.dumps(notebook)


def test_the_table_is_not_shown_twice(page, widget):
    expect(page.locator(".bl-still")).to_have_count(1)
    expect(page.locator(".bl-still")).to_be_hidden()


def test_the_saved_notebook_tells_all_without_a_kernel(lab, page, browser):
    content = saved(lab, page)
    assert "widgets" not in json.loads(content)["metadata"]
    (lab[0] / "still.ipynb").write_text(elsewhere(content), encoding="utf-8")
    reader = new_page(browser)
    reader.goto(lab[1]("still.ipynb"))
    reader.wait_for_selector(".jp-Notebook")
    table = reader.locator(".jp-OutputArea-output table", has_text="true word").first
    table.wait_for(state="attached")
    assert reader.locator(".bl-root").count() == 0 and not reader.outside
    reader.close()


def test_the_saved_notebook_tells_all_with_a_new_kernel(lab, page, browser):
    """It is trusted, so JupyterLab looks for the live page, which the new kernel does not know."""
    (lab[0] / "new.ipynb").write_text(saved(lab, page), encoding="utf-8")
    reader = new_page(browser)
    reader.goto(lab[1]("new.ipynb"))
    lost = reader.get_by_text("Error displaying widget: model not found")
    lost.wait_for(state="attached")
    expect(reader.locator(".bl-still table")).to_be_visible()
    expect(reader.locator(".bl-still")).to_contain_text("run the cell again")
    expect(lost).to_be_hidden()
    assert reader.locator(".bl-root").count() == 0 and not reader.outside
    shot(reader, "new-kernel")
    reader.close()


def check_money(page) -> None:
    """Of all that is shown, only the last paragraph, which is raw, has become formulas."""
    told = page.locator(".jp-OutputArea-output").last.locator("p")
    expect(told.last.locator("mjx-container")).to_have_count(4, timeout=SLOW)
    assert page.locator("mjx-container").count() == 4  # whatever stands before was looked at before
    texts = told.all_text_contents()
    assert texts.count(MONEY) == 1  # the title
    passage = r"cost $ 5 and then $ 6 , \ ( x \ ) , $ $ y $ $ , \ begin { z } w \ end { z }"
    pages = page.locator(".bl-still p").all_text_contents() + texts
    assert sum(passage in text for text in pages) == 3


def test_money_is_no_formula(lab, browser):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in (MONEY_LIVE, MONEY_STILL)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab[0] / "money.ipynb")
    page = new_page(browser)
    page.goto(lab[1]("money.ipynb"))
    page.get_by_text("| Idle").wait_for()
    command(page, "notebook:run-all-cells")
    page.wait_for_function(ALL_RAN, timeout=5 * SLOW)  # a minute, if nothing else runs
    root = page.locator(".bl-root")
    expect(root.locator(".hole .figure", has_text="%")).to_have_count(1)
    expect(root.locator(".passage").first).to_contain_text("$5 and then $6, \\(x\\), $$y$$")
    check_money(page)
    shot(page, "money")
    (lab[0] / "money_still.ipynb").write_text(elsewhere(saved(lab, page, "money.ipynb")))
    page.close()
    reader = new_page(browser)
    reader.goto(lab[1]("money_still.ipynb"))
    check_money(reader)
    assert reader.locator(".bl-root").count() == 0
    reader.close()


@pytest.fixture(scope="module")
def small(lab):
    """A notebook of two cells: the highlighter with the model of the course, and a crash."""
    notebook = nbformat.v4.new_notebook(cells=[
        nbformat.v4.new_code_cell(source) for source in (SMALL, "import os; os._exit(1)")])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab[0] / "small.ipynb")
    return lab[0] / "small.ipynb"


@pytest.fixture
def other(lab, small, browser):
    """The small notebook opened and its first cell run."""
    page = new_page(browser)
    page.goto(lab[1]("small.ipynb"))
    page.get_by_text("| Idle").wait_for()
    run_first(page)
    yield page
    page.close()


def run_first(page) -> None:
    command(page, "notebook:move-cursor-up")
    command(page, "notebook:run-cell")
    page.locator(".bl-root").wait_for()
    page.get_by_text("| Idle").wait_for()


def restart(page) -> None:
    """As the menu does, without its question."""
    page.evaluate("window.jupyterapp.shell.currentWidget.sessionContext.restartKernel()")


def crash(page) -> None:
    command(page, "notebook:move-cursor-down")
    command(page, "notebook:run-cell")
    page.get_by_role("button", name="Ok").click()


@pytest.mark.parametrize("end", [restart, crash])
def test_without_its_kernel_the_page_says_to_run_the_cell_again(other, end):
    word(other, 2).click()
    expect(word(other, 2)).to_have_attribute("aria-pressed", "true")
    end(other)
    other.get_by_text("| Idle").wait_for()
    if end is not restart:  # of a crash JupyterLab tells no page
        word(other, 3).click()
    said = other.locator(".bl-root").get_by_role("status")
    expect(said).to_contain_text("run the cell again")
    word(other, 4).click()
    expect(said).to_contain_text("run the cell again")
    shot(other, "no-kernel")
    run_first(other)
    word(other, 3).click()
    expect(word(other, 3)).to_have_attribute("aria-pressed", "true")
    assert other.errors == []


def test_a_page_made_of_an_executed_notebook_tells_all_offline(small, browser, tmp_path):
    """Without the scripts for formulas and the like that nbconvert asks for on every page."""
    notebook = nbformat.read(small, 4)
    notebook.cells[1].source = MONEY_LIVE
    nbformat.write(notebook, tmp_path / "small.ipynb")
    subprocess.run([sys.executable, "-m", "jupyter", "nbconvert", "--to", "html", "--execute",
                    "--HTMLExporter.require_js_url=", "--HTMLExporter.mathjax_url=",
                    "small.ipynb"], cwd=tmp_path, check=True)
    reader = new_page(browser)
    reader.context.set_offline(True)
    reader.goto((tmp_path / "small.html").as_uri())
    expect(reader.locator("table", has_text="true word").first).to_be_visible()
    expect(reader.get_by_text("cost $ 5 and then $ 6")).to_be_visible()
    assert reader.locator("p span", has_text=re.compile(r"^[$\\]$")).count() == 10
    assert [url for url in reader.outside if not url.startswith("file:")] == []
    shot(reader, "nbconvert")
    reader.close()


def test_nothing_went_wrong_and_nothing_left_the_machine(page):
    assert page.errors == [] and page.outside == []
