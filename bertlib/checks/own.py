"""What a learner built in an earlier notebook, taken from its file, for a later one to go on with.

    parts, whose = built("05_mlm_head")
    model = parts["BertForMaskedLM"](config)

Of each exercise it is the learner's answer if the checker says "right", else the solution.
"""

import ast
import json
from pathlib import Path
from typing import Any

from bertlib.plumbing.files import PROJECT, InputError

IMPORTS = (ast.Import, ast.ImportFrom)
KEPT = (*IMPORTS, ast.FunctionDef, ast.ClassDef)


def built(notebook: str,
          folder: Path = PROJECT / "notebooks") -> tuple[dict[str, Any], dict[str, str]]:
    """Name -> what the exercises of a notebook define; name -> "yours" or "the solution".

    Of other cells only the imports are run. `InputError` if there is no such notebook.
    """
    path = folder / f"{notebook}.ipynb"
    if not path.is_file():
        raise InputError(f"There is no notebook '{path.name}' in the folder '{path.parent.name}'.")
    names: dict[str, Any] = {"__name__": notebook}
    whose: dict[str, str] = {}
    right = False  # the answer before this cell
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        tags, place = cell["metadata"].get("tags", ()), f"<{notebook}, cell {number}>"
        tree = _parsed("".join(cell["source"]))
        if "exercise" in tags:
            right = _is_right(tree, place, names)
        if "exercise" in tags and right or "solution" in tags and not right:
            _run(tree, KEPT, place, names)
            whose |= dict.fromkeys(_defined(tree), "yours" if right else "the solution")
        elif "solution" not in tags:
            _run(tree, IMPORTS, place, names)
    return names, whose


def _parsed(source: str) -> ast.Module:
    """The code of a cell; nothing if it is no Python."""
    try:
        return ast.parse(source)
    except SyntaxError:
        return ast.Module([], [])


def _defined(tree: ast.Module) -> list[str]:
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def _run(tree: ast.Module, kinds: tuple[type[ast.stmt], ...], place: str,
         names: dict[str, Any]) -> None:
    """Run the statements of these kinds, in `names`."""
    some = ast.Module([node for node in tree.body if isinstance(node, kinds)], [])
    exec(compile(some, place, "exec"), names)


def _is_right(tree: ast.Module, place: str, names: dict[str, Any]) -> bool:
    """Whether the checker that a cell ends with says "right"."""
    if not tree.body or not isinstance(last := tree.body[-1], ast.Expr):
        return False
    trial = dict(names)
    try:
        _run(tree, KEPT, place, trial)
        return eval(compile(ast.Expression(last.value), place, "eval"), trial) == "right"
    except Exception:  # whatever an unfinished answer does
        return False
