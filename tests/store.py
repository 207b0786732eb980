"""Run notebooks and store their outputs as the tests want them: python tests/store.py 07

Numbers name notebooks; without any, all are run. They train for seconds (BERTLIB_PRESET=smoke), as
they do when they are tested. Left out are the metadata that the tests refuse: times, widgets,
versions. Lines that a cell prints in several goes become one output.
"""

import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from bertlib.plumbing.files import PROJECT


def run(path: Path) -> nbformat.NotebookNode:
    """A notebook with its new outputs; raises what a cell of it raises."""
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=None, kernel_name="python3", record_timing=False,
                   store_widget_state=False,
                   resources={"metadata": {"path": str(path.parent)}}).execute()
    return notebook


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same as the tests want it."""
    notebook.metadata = {"kernelspec": notebook.metadata.kernelspec,
                         "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {name: value for name, value in cell.metadata.items()
                         if name in ("tags", "jupyter")}
        outputs: list[nbformat.NotebookNode] = []
        for output in cell.get("outputs", []):
            last = outputs[-1] if outputs else {}
            if output.output_type == "stream" and last.get("name") == output.name:
                last["text"] += output.text
            else:
                outputs.append(output)
        if cell.cell_type == "code":
            cell.outputs = outputs
    return notebook


def main(names: list[str]) -> None:
    """Run and store the notebooks whose names begin so."""
    os.environ |= {"BERTLIB_PRESET": "smoke", "OMP_NUM_THREADS": "2"}
    paths = sorted((PROJECT / "notebooks").glob("*.ipynb"))
    chosen = [path for path in paths if not names or path.name.startswith(tuple(names))]
    if not chosen:
        sys.exit(f"No notebook is called {' or '.join(names)}; say a number, such as 07.")
    for path in chosen:
        nbformat.write(clean(run(path)), path)
        print(path.name, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
