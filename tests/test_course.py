"""The course as a whole: links, glossary, map and model card say what is there."""

import json
import re

import pytest
import torch

from bertlib.data import ensure_datasets, in_order, load_dataset
from bertlib.huggingface import MODEL, load
from bertlib.masking import Masker
from bertlib.plumbing.files import PROJECT, sha256
from bertlib.predict import fill
from bertlib.scoring import evaluate

NOTEBOOKS = PROJECT / "notebooks"
START = NOTEBOOKS / "00_start_here.ipynb"
GLOSSARY, READING, CARD = NOTEBOOKS / "glossary.md", NOTEBOOKS / "reading.md", MODEL / "README.md"
WHY, CAPSTONE = NOTEBOOKS / "why.md", NOTEBOOKS / "capstone.md"
LINK = re.compile(r"\]\(([^)\s]+)\)")


def prose(path) -> str:
    """The text of a file, or of a notebook's markdown cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def table(text: str) -> list[list[str]]:
    """The rows of all tables in a text, as lists of cells; lines of dashes left out."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in text.splitlines() if line.startswith("|")]
    return [row for row in rows if set(row[0]) != {"-"}]


@pytest.mark.parametrize("path", [GLOSSARY, READING, CARD, START, WHY, CAPSTONE],
                         ids=lambda path: path.name)
def test_every_local_link_leads_to_a_file(path):
    links = [link for link in LINK.findall(prose(path)) if not link.startswith("http")]
    missing = [link for link in links if not (path.parent / link.split("#")[0]).exists()]
    assert not missing
    assert links or path == READING


def entries() -> dict[str, str]:
    """Term -> its line in the glossary; a term twice fails here."""
    found = re.findall(r"^- \*\*(.+?)\*\*: (.+)$", prose(GLOSSARY), re.MULTILINE)
    assert len(found) == len(dict(found))
    assert len(found) == len(re.findall(r"^- ", prose(GLOSSARY), re.MULTILINE))
    return dict(found)


def test_the_glossary_is_sorted_short_and_without_duplicates():
    terms = [term.casefold() for term in entries()]
    assert 50 <= len(terms) <= 90 and len(set(terms)) == len(terms)
    assert terms == sorted(terms)
    for term, line in entries().items():
        told = line[: line.rindex(" [")]
        assert told.endswith((".", ".)")) and 4 <= len(told.split()) <= 50, term


def plain(text: str) -> str:
    """Small letters, with spaces for hyphens and underscores."""
    return re.sub("[-_]", " ", text.casefold())


def test_the_notebook_of_a_term_says_the_term():
    for term, line in entries().items():
        number, name = re.search(r"\[(\d\d)\]\((\S+)\)$", line).groups()
        assert name.startswith(f"{number}_"), term
        assert plain(term) in plain((NOTEBOOKS / name).read_text(encoding="utf-8")), term


def test_each_text_to_read_has_a_year_a_title_a_link_and_a_reason():
    lines = [line for line in prose(READING).splitlines() if line.startswith("- ")]
    links = [LINK.search(line)[1] for line in lines]
    assert len(lines) >= 40 and len(set(links)) == len(links)
    for line in lines:
        assert re.match(r"- \D+ (19|20)\d\d, \[.{8,}\]\(https://\S+\)\. \S.{20,}[.?]$", line), line


def test_the_map_names_exactly_the_notebooks_that_exist():
    rows = [row for row in table(prose(START)) if re.match(r"\[?\d\d · ", row[0])]
    assert [row[0].lstrip("[")[:2] for row in rows] == [f"{n:02}" for n in range(13)]
    linked = {link for row in rows for link in LINK.findall(row[0])} | {START.name}
    assert linked == {path.name for path in NOTEBOOKS.glob("*.ipynb")}
    for row in rows:
        assert ("planned" in row) == ("](" not in row[0] and not row[0].startswith("00")), row[0]


def test_the_map_tells_title_and_minutes_as_each_notebook_does():
    for row in table(prose(START)):
        link = LINK.search(row[0])
        if link is None or not re.match(r"\[\d\d · ", row[0]):
            continue
        text = prose(NOTEBOOKS / link[1])
        assert text.startswith(f"# {row[0][1:].split(']')[0]}\n"), row[0]
        minutes = re.search(r"\*\*Time:\*\* (?:about )?(\d+) minutes to read", text)[1]
        assert row[2] == f"{minutes} min", row[0]


def test_the_card_tells_the_numbers_of_the_files_beside_it():
    shape = json.loads((MODEL / "config.json").read_text())
    training = json.loads((MODEL / "training.json").read_text())
    run, weights = training["run"], (MODEL / "model.safetensors").read_bytes()
    assert sha256(weights) == training["weights_sha256"]
    sizes = ("num_hidden_layers", "num_attention_heads", "hidden_size", "intermediate_size")
    wanted = {
        "layers, heads, width, feed-forward width": ", ".join(str(shape[name]) for name in sizes),
        "words in the vocabulary": f"{shape['vocab_size']:,}",
        "parameters": f"{run['parameters']:,}",
        "preset": run["preset"],
        "tokens seen": f"{run['tokens']:,}",
        "steps": f"{run['steps']:,}",
        "minutes of training": f"{run['minutes']:.1f}",
        "seed": str(run["seed"]),
        "precision": run["precision"].removeprefix("torch."),
        "machine": run["machine"],
        "validation loss (nats)": f"{run['val_loss']:.2f}",
        "validation accuracy": f"{run['val_accuracy']:.1%}",
        "hidden words scored": f"{run['masked_words']:,}",
        "bytes of model.safetensors": f"{len(weights):,}",
        "SHA-256 of model.safetensors": training["weights_sha256"],
    }
    told = {row[0]: row[1] for row in table(prose(CARD).split("## Uses")[0])[1:]}
    assert told == wanted


def test_transformers_fills_masks_with_the_model_as_the_course_does():
    """No key is missing or unexpected, and the pipeline's first guesses are ours."""
    transformers = pytest.importorskip("transformers")
    theirs, info = transformers.BertForMaskedLM.from_pretrained(MODEL, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    ask = transformers.pipeline(
        "fill-mask", model=theirs, tokenizer=transformers.AutoTokenizer.from_pretrained(MODEL))
    model, tokenizer = load()
    for text in ("she was very [MASK] to see him again .", "the capital of france is [MASK] .",
                 "the river flows into the black [MASK] .", "he was born in [MASK] 1920 .",
                 "we must protect the [MASK] of the united states ."):
        hole, = fill(model, tokenizer, text)
        told = ask(text)
        assert [guess["token_str"] for guess in told[:3]] == [word for word, _ in hole[:3]]
        assert [guess["score"] for guess in told[:3]] == pytest.approx(
            [share for _, share in hole[:3]], abs=1e-4)


def test_the_model_folder_is_small():
    assert sum(path.stat().st_size for path in MODEL.iterdir()) < 25e6


def test_the_model_is_as_good_as_its_card_says():
    model, tokenizer = load()
    val = load_dataset(ensure_datasets(PROJECT / "wiki", "english", 128).val, tokenizer)
    puzzles = in_order(val, Masker(tokenizer), 32, chunks=64)
    score = evaluate(model, puzzles, torch.device("cpu"), torch.float32)
    told = json.loads((MODEL / "training.json").read_text())["run"]["val_accuracy"]
    assert score.accuracy == pytest.approx(told, abs=0.03)
