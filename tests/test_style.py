"""The house rules that a machine can hold."""

import ast
import tomllib

import pytest

from bertlib.plumbing.files import PROJECT

STORY = ["corpus", "tokens", "masking", "packing", "prepare_mlm_dataset", "data", "attention",
         "blocks", "bert", "counts", "told", "baselines", "settings", "optim", "checkpoint",
         "scoring", "trainer", "parameters", "pretrain", "huggingface", "predict", "samples",
         "highlight", "widget", "analysis", "gpt", "finetune",
         "distill"]  # what lessons read, in their order
PLUMBING = ["files", "limits", "commands", "records", "lines", "texts", "tables", "metrics",
            "vocab", "words", "dataset_header", "dataset_file", "dataset_folder", "device", "ranks",
            "interrupts", "states", "runlog", "runs", "page", "live", "contexts"]
PICTURES = ["maps", "zoom_puzzle", "zoom_attention", "zoom_row", "zoom_model"]  # of the story
LAST = ["checks", "bench"]  # nobody imports them
ORDER = [*(f"plumbing.{name}" for name in PLUMBING), "figures", *STORY,
         *(f"figures.{name}" for name in PICTURES), *LAST]
ORDER.insert(ORDER.index("widget"), "page")  # which the widget shows
PACKAGE = PROJECT / "bertlib"
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")
DOORS = ("bertlib.plumbing",)  # no modules of their own


def room(module: str) -> str:
    """Where a module such as bertlib.checks.tokens stands in ORDER."""
    parts = module.split(".")[1:]
    two = ".".join(parts[:2])
    return two if parts[0] == "plumbing" or two in ORDER else parts[0]


def module(path) -> str:
    """The dotted name of a file."""
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")


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
            here, imported = room(module(path)), room(node.module)
            same = here == imported in ("page", "checks", "bench", "huggingface", "figures",
                                        "finetune", "distill")
            assert same or ORDER.index(imported) < ORDER.index(here), node.module
            assert same or imported not in LAST, node.module
    for node in tree.body:
        named = isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_"
        assert not named or ast.get_docstring(node), node.name


def test_the_map_tells_each_module_of_the_story_in_order():
    import bertlib
    lines = bertlib.__doc__.split("\n\n")[2].splitlines()
    assert [name for line in lines for name in line.strip().split("  ")[0].split(", ")] == STORY
    assert len(STORY) <= 28
    rooms = {room(module(path)) for path in MODULES if module(path) not in DOORS}
    assert rooms == set(ORDER)


def test_every_door_says_what_is_behind_it():
    import bertlib
    doors = {path.parent.name for path in PACKAGE.glob("*/*.py")} - set(STORY)
    assert {name for name in doors if f"`{name}`" in bertlib.__doc__} == doors


def test_environment_and_project_are_in_step():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    lines = (PROJECT / "environment.yml").read_text().splitlines()
    pins = [line.split("- ")[1] for line in lines if "==" in line]
    wanted = project["dependencies"] + project["optional-dependencies"]["test"]
    assert sorted(pins) == sorted(wanted)
    assert lines[-1].strip() == "- -e ."  # Binder looks for this spelling, and copies the package
    assert all("==" in requirement for requirement in wanted)


def test_nothing_but_the_given_layout():
    import subprocess
    done = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True)
    top = {line.split("/")[0] for line in done.stdout.splitlines()}
    given = {"notebooks", "bertlib", "tests", "assets", "wiki", "README.md", "environment.yml",
             "pyproject.toml", "LICENSE", "CITATION.cff"}
    assert {name for name in top if name[0] != "."} <= given
