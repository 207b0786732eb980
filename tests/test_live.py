"""What a cell with a live page hands to those who can click, and to those who cannot."""

import pytest
from jupyter_client.manager import start_new_kernel

from bertlib.plumbing.live import STILL

VIEW = "application/vnd.jupyter.widget-view+json"
CODE = """from bertlib.plumbing.live import LivePage
class Page(LivePage):
    def still(self):
        return "<p>sea</p>", "sea"
Page()"""


@pytest.fixture(scope="module")
def shown():
    """Run CODE in a kernel: what is displayed, and the widgets that the front end is told of."""
    manager, client = start_new_kernel(kernel_name="python3")

    def run(allow_stdin: bool) -> tuple[list[dict], int]:
        bundles, opened = [], []

        def note(message):
            if message["msg_type"] == "comm_open":
                opened.append(message)
            elif "data" in message["content"]:
                bundles.append(message["content"]["data"])
        reply = client.execute_interactive(CODE, allow_stdin=allow_stdin, output_hook=note)
        assert reply["content"]["status"] == "ok", reply["content"]
        return bundles, len(opened)
    yield run
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def test_where_nobody_can_click_there_is_the_still_page_and_no_widget(shown):
    """A widget would be stored as metadata, and pages made of it would ask for scripts."""
    assert shown(False) == ([{"text/html": "<p>sea</p>", "text/plain": "sea"}], 0)


def test_who_can_click_gets_the_still_page_and_then_the_live_one(shown):
    (still, live), opened = shown(True)
    assert "<p>sea</p>" in still["text/html"] and STILL in still["text/html"]
    assert still["text/plain"] == "sea" and VIEW not in still
    assert set(live) == {VIEW, "text/plain"} and live["text/plain"] == "" and opened
