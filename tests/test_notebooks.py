"""Rules for stored notebooks: whole, clean, readable, and true to the result files."""

import json
import os
import re
import shutil
import statistics
import subprocess
import sys

import nbformat
import pytest

from bertlib.bench.ablate import GROUPS, read_rows
from bertlib.bench.experts import read_experts
from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.records import sealed

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))
REAL = PROJECT / "assets" / "07_pretrain"
LEVERS = PROJECT / "assets" / "12_efficiency"
EARLIER = LEVERS / "earlier"  # of an architecture and a split that the course has left
EXPERTS = LEVERS / "experts.jsonl"
RUNS = (REAL, *(LEVERS / name for name in (
    "fast_10", "bert_10_double_rates", "bert_long", "bert_hour", "fast_hour")))


def load(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def source(cell) -> str:
    return "".join(cell["source"])


def cells(path, kind: str) -> list[dict]:
    return [cell for cell in load(path)["cells"] if cell["cell_type"] == kind]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stored_in_order_and_clean(path):
    notebook, text = load(path), path.read_text(encoding="utf-8")
    code = cells(path, "code")
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert not re.search(r"(?<![\w.])/(home|root|tmp|work|Users|usr)/|[A-Z]:\\\\Users", text)
    assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert path.stat().st_size <= 400_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_pace_is_kept(path):
    code = [source(cell) for cell in cells(path, "code")]
    lengths = [sum(map(bool, map(str.strip, text.splitlines()))) for text in code]
    assert 45 <= len(load(path)["cells"]) <= 95
    assert max(lengths) <= 40 and 3 <= statistics.median(lengths) <= 6
    # code, hints, formulas and what a figure shows in words are no prose
    folded = r"```.*?```|<details>.*?</details>|\$.*?\$|^\*In one line: .*?\*$"
    prose = [re.sub(folded, "", source(cell), flags=re.S | re.M)
             for cell in cells(path, "markdown")]
    words = sum(len(re.findall(r"\w+", text)) for text in prose)
    assert 1_200 <= words <= 2_500


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_each_figure_has_alt_text_and_a_line_in_words(path):
    notebook = load(path)["cells"]
    for number, cell in enumerate(notebook):
        for output in cell.get("outputs", []):
            page = "".join(output.get("data", {}).get("text/html", ""))
            if "image/png" in output.get("data", {}):
                assert output["metadata"]["image/png"]["alt"]
            if "image/png" in output.get("data", {}) or "<img" in page:
                assert page.count("<img") == len(re.findall(r'<img [^>]*alt="[^"]{20}', page))
                assert source(notebook[number + 1]).startswith("*In one line: ")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_checkers_reject_the_stub_and_accept_the_solution(path):
    said = []
    for cell in cells(path, "code"):
        if re.search(r"^check_\w+\(\w+\)\s*\Z", source(cell), re.MULTILINE):
            said.append("".join(cell["outputs"][0]["data"]["text/plain"]))
    least = 3 if path.stem == "07_pretrain" else 4
    assert len(said) >= 2 * least and len(said) % 2 == 0
    for stub, solution in zip(said[::2], said[1::2], strict=True):
        assert stub.startswith("'not yet: ") and solution == "'right'"


def expected_numbers() -> list[str]:
    report = json.loads((REAL / "report.json").read_text())
    return [
        f"{report['val_loss']:.2f}", f"{report['val_accuracy']:.1%}",
        f"{report['unigram_loss']:.2f}", f"{report['most_frequent_accuracy']:.1%}",
        f"{report['left_loss']:.2f}", f"{report['left_accuracy']:.1%}",
        f"{report['both_loss']:.2f}", f"{report['both_accuracy']:.1%}",
        f"{report['tokens'] / 1e6:.1f}", f"{report['minutes']:.1f}", report["machine"],
        f"seed {report['seed']}", f"{report['parameters'] / 1e6:.1f} million parameters",
    ]


@pytest.mark.parametrize("name", ["README.md", "notebooks/07_pretrain.ipynb"])
def test_prose_tells_the_numbers_of_the_result_files(name):
    path = PROJECT / name
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    for number in expected_numbers():
        assert number in text, number


def test_the_real_run_beats_its_baselines_and_the_goal():
    report = json.loads((REAL / "report.json").read_text())
    assert report["val_accuracy"] >= 0.32
    assert report["val_loss"] < report["unigram_loss"] - 1
    assert report["preset"] == "cpu" and report["minutes"] < 10.2
    records = (REAL / "logs" / "metrics.jsonl").read_text().splitlines()
    last = [json.loads(line) for line in records][-1]
    assert last["accuracy"] == report["val_accuracy"] and last["tokens"] == report["tokens"]


def test_the_efficiency_lesson_tells_the_numbers_of_its_files():
    text = "\n".join(source(cell) for cell in
                     cells(PROJECT / "notebooks" / "12_efficiency.ipynb", "markdown"))
    for folder in RUNS:
        report = load(folder / "report.json")
        assert f"{report['val_accuracy']:.1%}" in text and f"{report['val_loss']:.2f}" in text
        assert f"{report['minutes']:.1f} min" in text and report["machine"] in text
    for name in ("fast_60_first", "fast_60"):
        assert f"{load(EARLIER / name / 'report.json')['val_loss']:.2f}" in text
    for row in read_rows(EARLIER / "levers.jsonl"):
        assert row["name"] == "fast" or f"{row['name']}: " in text
    none, little, *_, whole = [row["val_accuracy"] for row in read_rows(EARLIER / "text.jsonl")]
    assert f"buys {100 * (little - none):.1f} of the {100 * (whole - none):.1f} points" in text
    random, counts, _ = [row["val_accuracy"] for row in read_rows(EARLIER / "wide.jsonl")]
    assert f"At 6 x 768 counting is worth {100 * (counts - random):.1f} points" in text
    small, large = (load(EARLIER / f"fast_10_batch{size}" / "report.json") for size in (16, 32))
    assert f"16 has {small['val_accuracy']:.1%}, 32 has {large['val_accuracy']:.1%}" in text
    experts = read_experts(EXPERTS)
    assert f"{experts[0]['steps']} steps counts carry the answer" in text
    assert len({(row["masked_words"], row["on_the_way"]["six_loss"]) for row in experts}) == 1
    assert f"({experts[0]['on_the_way']['six_accuracy']:.1%} on these" in text
    last = experts[-1]
    gain = last["product_accuracy"] - last["network_accuracy"]
    assert f"{last['tokens'] / 1e6:.0f} million tokens the gain is {100 * gain:.1f} points" in text
    assert 2.5 < gain / last["error"] < 3.5
    lines = load(LEVERS / "throughput.json")["lines"]
    for kind in ("float32", "bfloat16"):
        assert f"{lines[f'bertlib {kind}, no dropout']['to_equal']:.1f} times" in text


@pytest.mark.parametrize("path", sorted(set(LEVERS.glob("*.jsonl")) - {EXPERTS}),
                         ids=lambda path: path.stem)
def test_stored_rows_are_those_that_the_command_would_run(path):
    for row in read_rows(path):
        known = {known.name: known for known in GROUPS[row["group"]]}[row["name"]]
        assert (row["changes"], row["preset"]) == (known.changes, known.preset), row["name"]
        if row["budget_minutes"]:
            assert row["minutes"] == pytest.approx(row["budget_minutes"], rel=0.03)
        else:
            assert row["steps"] == known.changes["max_iters"]
        assert {"tokens", "seed", "machine", "precision", "threads", "val_loss"} <= set(row)


@pytest.mark.parametrize("folder", [LEVERS, EARLIER], ids=lambda folder: folder.name)
def test_all_runs_of_the_efficiency_lesson_solved_the_same_puzzle(folder):
    rows = [row for path in {*folder.glob("*.jsonl")} - {EXPERTS} for row in read_rows(path)]
    assert len({row["masked_words"] for row in rows}) == bool(rows)
    assert len({row["unigram_loss"] for row in rows}) == bool(rows)
    reports = [load(path) for path in folder.glob("*/report.json")]
    reports += [load(REAL / "report.json")] if folder == LEVERS else []
    for name in ("masked_words", "unigram_loss", "both_loss", "both_accuracy"):
        assert len({round(report[name], 5) for report in reports}) == 1  # threads add in orders


def test_the_readme_of_the_efficiency_results_tells_each_run():
    text = (LEVERS / "README.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if " M | " in line}
    assert set(rows) == {"../07_pretrain", *(path.parent.name for path in
                                             LEVERS.glob("*/report.json"))}
    for name, row in rows.items():
        report = load(LEVERS / name / "report.json")
        for told in (f"| {report['seed']} | {report['minutes']:.1f} min | {report['steps']:,} |",
                     f"| {report['tokens'] / 1e6:.1f} M | {report['val_loss']:.2f} |",
                     f"| {report['val_accuracy']:.1%} |"):
            assert told in row, (name, told)


def test_the_readme_tells_the_numbers_of_the_course_s_model():
    report = load(LEVERS / "bert_long" / "report.json")
    training = load(PROJECT / "assets" / "model" / "training.json")
    assert sealed(training["run"]) == report and report["preset"] == "hour"
    text = (PROJECT / "README.md").read_text(encoding="utf-8")
    for number in (f"{report['val_loss']:.2f}", f"{report['val_accuracy']:.1%}",
                   f"{report['minutes']:.1f} min", f"{report['tokens'] / 1e6:.1f} M"):
        assert number in text, number


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_readme_lists_every_notebook_with_its_minutes(path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    read = re.search(r"\*\*Time:\*\* (?:about )?(\d+) minutes to read", text)[1]
    tasks = sum(int(minutes) for minutes in re.findall(r"★[^)\n]*?(\d+) minutes", text))
    lines = (PROJECT / "README.md").read_text(encoding="utf-8").splitlines()
    row, = [line for line in lines if f"(notebooks/{path.name}) |" in line]
    assert row.endswith(f"| {read} min | {tasks} min |")


@pytest.mark.parametrize("found", ["smoke 2", "cpu 2"])
def test_a_notebook_tested_alone_is_told_to_train_for_seconds(found, tmp_path):
    """In a copy of the clone that has one notebook: it passes if its stored output is right."""
    cell = nbformat.v4.new_code_cell(
        "import os\nprint(os.environ['BERTLIB_PRESET'], os.environ['OMP_NUM_THREADS'])",
        outputs=[nbformat.v4.new_output("stream", text=f"{found}\n")], execution_count=1)
    for name in ("pyproject.toml", "tests/conftest.py", "tests/smoke.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(PROJECT / name, tmp_path / name)
    (tmp_path / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "notebooks" / "tiny.ipynb")
    env = {name: value for name, value in os.environ.items()
           if name not in ("BERTLIB_PRESET", "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-m", "pytest", "notebooks/tiny.ipynb"], cwd=tmp_path,
                          env=env, capture_output=True, text=True)
    assert ("1 passed" in done.stdout) == (done.returncode == 0) == (found == "smoke 2"), done
    assert found == "smoke 2" or "1 failed" in done.stdout
