"""The house rules that a machine can hold."""

import ast
import tomllib

import pytest

from bertlib.files import PROJECT

ORDER = ["files", "commands", "records", "lines", "texts", "corpus", "vocab", "tokens", "masking",
         "dataset_header",
         "dataset_file", "data", "packing", "prepare_mlm_dataset", "attention", "blocks", "bert",
         "counts", "baselines", "settings", "device", "optim", "states", "checkpoint", "runlog",
         "runs", "interrupts", "ranks", "published", "hub", "learner", "scoring", "trainer",
         "plots", "workspace", "parameters", "pretrain", "page", "predict", "samples", "highlight",
         "live", "widget", "analysis", "shapes", "checks", "ablate", "bench_data", "bench_overlap",
         "bench_train", "bench"]
PACKAGE = PROJECT / "bertlib"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room(path) -> str:
    """The module that a file is, or the package of modules that it belongs to."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_ordered_and_explained(path):
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= 250
    assert ast.get_docstring(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 40, node.name
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("bertlib."):
            imported = node.module.split(".")[1]
            apart = room(path) == "checks" == imported  # its modules import its __init__
            assert apart or ORDER.index(imported) < ORDER.index(room(path)), node.module
    for node in tree.body:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        assert not named or ast.get_docstring(node), node.name


def test_the_order_is_the_one_the_package_tells():
    import bertlib
    lines = [line for line in bertlib.__doc__.split("\n\n")[2].splitlines() if line.strip()]
    told = [name for line in lines for name in line.strip().split("  ")[0].split(", ")]
    assert told == ORDER
    assert set(ORDER) == {room(p) for p in MODULES}


def test_environment_and_project_are_in_step():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (PROJECT / "environment.yml").read_text().splitlines()
    pins = [line.split("- ")[1] for line in lines if "==" in line]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    assert sorted(pins) == sorted(wanted)
    assert all("==" in requirement for requirement in wanted)


def test_nothing_but_the_given_layout():
    import subprocess
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    top = {line.split("/")[0] for line in done.stdout.splitlines()}
    given = {"notebooks", "bertlib", "tests", "assets", "wiki", "README.md", "environment.yml",
             "pyproject.toml", "LICENSE"}
    assert {name for name in top if name[0] != "."} <= given
