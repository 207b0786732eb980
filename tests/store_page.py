"""Make README's moving picture of the page: python tests/store_page.py assets/page/bert.png

Drives the real page in Chromium; Pillow, which comes with matplotlib, joins the pictures.
"""

import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from chromium import launched, new_page
from PIL import Image
from playwright.sync_api import Page, expect

from bertlib.page.__main__ import main

WORDS = ("the", "of", "hope", "began", "an", "by")  # what a person might say to the second puzzle


def frames(page: Page):
    """(picture, milliseconds) of a look at the first passage and a round of the second."""
    def look(milliseconds: int) -> tuple[bytes, int]:
        expect(page.locator("[aria-busy]")).to_have_count(0)
        return page.screenshot(), milliseconds

    expect(page.locator(".hole .bar").first).to_be_attached()
    yield look(2500)
    page.locator(".hole").last.click()
    yield look(2000)
    page.keyboard.press("2")
    yield look(2000)
    page.get_by_role("button", name="next puzzle").click()
    yield look(1500)
    for word in WORDS[: page.locator(".hole").count()]:
        page.keyboard.type(word)
        yield look(500)
        page.keyboard.press("Enter")
        yield look(700)
    yield look(3000)


def store(output: Path) -> None:
    """Write the moving picture."""
    with TemporaryDirectory() as folder, launched() as browser:
        path = Path(folder) / "bert.html"
        main([str(path), "--title", "What BERT guesses"])
        page = new_page(browser)
        page.set_viewport_size({"width": 1100, "height": 560})
        page.goto(path.as_uri())
        shots, times = zip(*frames(page), strict=True)
    pictures = [Image.open(io.BytesIO(shot)).convert("RGB").quantize(128) for shot in shots]
    pictures[0].save(output, format="PNG", save_all=True, append_images=pictures[1:],
                     duration=list(times), loop=0, optimize=True)
    print(f"{output}: {output.stat().st_size:,} bytes, {len(pictures)} pictures")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("Pass one file to write, such as assets/page/bert.png.")
    store(Path(sys.argv[1]))
