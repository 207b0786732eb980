"""A live page in a notebook that leaves a readable one behind.

A cell shows two outputs: the still page, plain HTML, and the live one. `STYLE` hides the still page
while the live one is drawn below it. So the still page is what remains in a saved notebook with a
new kernel or none, on code hosts, and in documents made of notebooks. Where nobody can click, as in
papermill, `nbconvert --execute` and nbval, there is the still page only.
"""

from typing import Any

import anywidget
from IPython import get_ipython
from IPython.display import display

# First the still page above a live one; then JupyterLab's bare line "model not found" below it.
STYLE = """<style>
.jp-OutputArea-child:has(.bl-still):has(+ .jp-OutputArea-child .bl-root) { display: none }
.jp-OutputArea-child:has(.bl-still) + .jp-OutputArea-child > .jupyter-widgets:not(:has(*))
{ display: none }
</style>"""
STILL = "This page stands still, as it was when the cell ran. To play with it, run the cell again."


def can_click() -> bool:
    """Whether a person may be at the page: programs that run notebooks say that nobody can type.

    In Jupyter's protocol each cell comes with `allow_stdin`; nbclient, papermill and nbval send
    False. True outside of a kernel and of a cell.
    """
    kernel = getattr(get_ipython(), "kernel", None)
    request = kernel.get_parent() if kernel else {}
    return request.get("content", {}).get("allow_stdin", True)


class LivePage(anywidget.AnyWidget):
    """A widget that says in `still()` what stands in its place: its page must be a `.bl-root`."""

    def open(self) -> None:
        """Connect to the page; not if nobody can click, else all of it is stored as metadata."""
        if can_click():
            super().open()

    def still(self) -> tuple[str, str]:
        """The page as HTML, and as plain text."""
        raise NotImplementedError

    def _repr_mimebundle_(self, **options: Any) -> dict[str, str]:  # type: ignore[override]
        html, text = self.still()
        return {"text/html": html, "text/plain": text}

    def _ipython_display_(self, **options: Any) -> None:
        """Show both pages; without a connection, what `_repr_mimebundle_` returns."""
        if self.comm is None:
            raise NotImplementedError  # this is how IPython is told
        html, text = self.still()
        html = f"{STYLE}<div class='bl-still'>{html}<p>{STILL}</p></div>"
        display({"text/html": html, "text/plain": text}, raw=True)
        view, _metadata = super()._repr_mimebundle_() or ({}, {})
        display(view | {"text/plain": ""}, raw=True)
