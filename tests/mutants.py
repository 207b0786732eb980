"""Would the tests notice? Lines of the story are broken one at a time, and its tests are run.

    python tests/mutants.py                          some 120 mutants, about an hour on two cores
    python tests/mutants.py --only optim --number 20
    python tests/mutants.py --only optim --at 57     one mutant, with its diff

Each mutant changes one place of one module: a comparison, a sign, a number, a truth value, or a
statement that is left out. Words for people (docstrings, messages) and types are left alone, and
so are limits, presets and settings that somebody chose: a test could but repeat them. The
module's own tests run on a copy of the package; a mutant that they let pass survives.
"""

import argparse
import ast
import copy
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CHOSEN = ("LIMITS", "PRESETS", "FAST", "COUNTS", "PIECE", "MOST", "KEPT",
          "TOKENS_AT_ONCE")  # by somebody: numbers
PATIENCE = 900  # seconds for the tests of one module: one that takes longer hangs
TESTS = {  # a module of the story -> its own tests
    "attention": "attention bert", "blocks": "bert", "bert": "bert", "masking": "masking packing",
    "corpus": "corpus", "packing": "packing round_trips", "tokens": "tokens", "data": "data",
    "counts": "counts", "told": "told", "baselines": "baselines", "settings": "settings",
    "scoring": "trainer device", "optim": "optim trainer ranks", "checkpoint": "checkpoint",
    "trainer": "trainer runlog ranks",
    "predict": "predict", "highlight": "highlight widget", "analysis": "analysis",
    "gpt": "gpt",
}
SWAPS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr,
}


def places(tree: ast.AST) -> Iterator[tuple[ast.AST, str, int | None]]:
    """What can be changed: (a node, its field, the number in that field's list)."""
    for node in ast.walk(tree):
        for name, value in ast.iter_fields(node):
            for number, part in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if is_mutable(part):
                    yield node, name, number


def is_mutable(part: object) -> bool:
    """Whether a part can be changed so that it may matter; of -1 only the number, to -2."""
    if isinstance(part, ast.Constant):
        return isinstance(part.value, bool | int | float)
    if isinstance(part, ast.Expr):  # a call for what it does
        return isinstance(part.value, ast.Call)
    if isinstance(part, ast.UnaryOp):
        return isinstance(part.op, ast.Not) or (
            isinstance(part.op, ast.USub) and not isinstance(part.operand, ast.Constant))
    return isinstance(part, ast.AugAssign) or type(part) in SWAPS


def changed(part: ast.AST) -> ast.AST:
    """What stands there instead."""
    if isinstance(part, ast.Constant):
        value = part.value
        return ast.Constant(not value if isinstance(value, bool) else value + 1
                            if isinstance(value, int) else value * 1.5 or 1.0)
    if isinstance(part, ast.Expr | ast.AugAssign):
        return ast.Pass()
    if isinstance(part, ast.UnaryOp):
        return part.operand
    return SWAPS[type(part)]()


def silent(tree: ast.Module) -> set[int]:
    """The nodes that are left alone."""
    return {id(part) for node in ast.walk(tree) for root in _alone(node) for part in ast.walk(root)}


def _alone(node: ast.AST) -> Iterator[ast.AST]:
    """What of a node is for people, a type, or a number that somebody chose."""
    called = getattr(getattr(node, "func", None), "id", "")
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if any(getattr(target, "id", "") in CHOSEN for target in targets) or (
            isinstance(node, ast.Raise | ast.JoinedStr)
            or called in ("InputError", "note", "Limits")
            or getattr(node, "name", "") in ("main", "command", "parser")
            or isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__")):
        yield node
    if isinstance(node, ast.ClassDef) and node.name == "Settings":
        yield from (part for part in node.body if isinstance(part, ast.AnnAssign))
    if isinstance(node, ast.keyword) and node.arg == "strict":  # of zip: it only guards
        yield node.value
    for name in ("annotation", "returns"):
        if (type_ := getattr(node, name, None)) is not None:
            yield type_
    yield from getattr(node, "decorator_list", ())


def mutants(source: str) -> list[str]:
    """All mutants of a module, as text."""
    tree, found = ast.parse(source), []
    quiet = silent(tree)
    for node, name, number in places(tree):
        old = getattr(node, name) if number is None else getattr(node, name)[number]
        if id(node) in quiet or id(old) in quiet:
            continue
        new = ast.copy_location(changed(copy.deepcopy(old)), old) if hasattr(old, "lineno") \
            else changed(old)
        put(node, name, number, new)
        found.append(ast.unparse(ast.fix_missing_locations(tree)))
        put(node, name, number, old)
    return found


def put(node: ast.AST, name: str, number: int | None, part: ast.AST) -> None:
    """Set a field of a node, or one entry of it."""
    if number is None:
        setattr(node, name, part)
    else:
        getattr(node, name)[number] = part


def difference(source: str, mutant: str) -> str:
    """The lines that differ."""
    lines = difflib.unified_diff(ast.unparse(ast.parse(source)).splitlines(), mutant.splitlines(),
                                 lineterm="", n=0)
    return "\n".join(line for line in list(lines)[2:] if line[:2] != "@@")


def survives(copy_of_package: Path, module: str, mutant: str) -> bool:
    """Whether the module's own tests pass with a mutant in its place."""
    path = copy_of_package / "bertlib" / f"{module}.py"
    kept = path.read_text(encoding="utf-8")
    path.write_text(mutant, encoding="utf-8")
    tests = [f"tests/test_{name}.py" for name in TESTS[module].split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", *tests]
    try:
        done = subprocess.run(command, cwd=copy_of_package, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL, timeout=PATIENCE,
                              env=os.environ | {"PYTHONPATH": str(copy_of_package)})
        return done.returncode == 0
    except subprocess.TimeoutExpired:
        return False
    finally:
        path.write_text(kept, encoding="utf-8")


def options() -> argparse.Namespace:
    """The command line."""
    parse = argparse.ArgumentParser(description=__doc__,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parse.add_argument("--number", type=int, default=120, help="of mutants, over all modules")
    parse.add_argument("--seed", type=int, default=0, help="which ones")
    parse.add_argument("--only", nargs="+", choices=TESTS, default=list(TESTS), metavar="MODULE",
                       help=", ".join(TESTS))
    parse.add_argument("--at", type=int, help="this mutant of a module only")
    return parse.parse_args()


def main() -> None:
    """Break, test, print the survivors, then a row a module."""
    given, draw, rows = options(), random.Random(), []
    with tempfile.TemporaryDirectory(prefix="mutants") as folder:
        for name in ("bertlib", "tests", "wiki", "assets", "pyproject.toml"):
            part = PROJECT / name
            (shutil.copytree if part.is_dir() else shutil.copy)(part, Path(folder) / name)
        for module in given.only:
            source = (PROJECT / "bertlib" / f"{module}.py").read_text(encoding="utf-8")
            known = mutants(source)
            draw.seed(f"{given.seed} {module}")
            most = min(len(known), -(-given.number // len(given.only)))
            chosen = [given.at] if given.at is not None else draw.sample(range(len(known)), most)
            alive = [number for number in chosen if survives(Path(folder), module, known[number])]
            rows.append(f"| {module} | {len(chosen)} | {len(alive)} |")
            for number in chosen if given.at is not None else alive:
                word = "survived" if number in alive else "noticed"
                print(f"{word}: --only {module} --at {number}", difference(source, known[number]),
                      sep="\n", flush=True)
    print("| module | mutants | survived |", "|---|--:|--:|", *rows, sep="\n")


if __name__ == "__main__":
    main()
