"""The benchmarks: equals are compared, operations counted right, bad input refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import document
from parity import their_name
from torch.utils.flop_counter import FlopCounterMode

from bertlib.bench.__main__ import ask_memory, main, table
from bertlib.bench.contest import (
    MASKED,
    OURS,
    THEIRS,
    Contest,
    Contestant,
    build_model,
    contestants,
    draw_puzzle,
    loss_of,
)
from bertlib.bench.data import random_dataset, time_prepare, time_tokenizer
from bertlib.bench.train import summarise
from bertlib.data import load_dataset

CPU = torch.device("cpu")
SMALL = Contest(layers=2, width=64, batch=2, vocab=97)
OPTIONS = ["--layers", "1", "--width", "64", "--batch", "1", "--vocab", "50"]


def contestant(library: str, variant: str = ", no dropout") -> Contestant:
    return Contestant(library, torch.float32, variant)


@pytest.fixture
def pair():
    """Hugging Face's model and ours as the benchmark builds them, with the same weights."""
    torch.manual_seed(0)
    theirs, ours = (build_model(contestant(library), SMALL) for library in (THEIRS, OURS))
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)  # gains and biases differ, too
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[their_name(name)] for name in ours.state_dict()})
    return theirs, ours


def test_equals_are_compared(pair):
    """In training mode, as in the benchmark: same size, same loss, same gradient."""
    theirs, ours = pair
    assert theirs.training and ours.training
    assert sum(p.numel() for p in theirs.parameters()) == ours.n_parameters()
    puzzle = draw_puzzle(SMALL, CPU)
    want = loss_of(contestant(THEIRS), theirs, puzzle)
    got = loss_of(contestant(OURS), ours, puzzle)
    assert got.item() == pytest.approx(want.item(), abs=1e-5)
    lean = loss_of(contestant(MASKED), theirs, puzzle)
    assert lean.item() == pytest.approx(want.item(), abs=1e-5)
    want.backward()
    got.backward()
    reference = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        assert torch.allclose(parameter.grad, reference[their_name(name)].grad, atol=1e-5), name
    other = puzzle._replace(labels=torch.full_like(puzzle.labels, 7))
    assert loss_of(contestant(OURS), ours, other).item() != pytest.approx(want.item(), abs=1e-2)


def test_dropout_is_on_in_both_where_the_name_does_not_deny_it():
    for library in (THEIRS, OURS):
        for variant, random in (("", True), (", no attention dropout", True),
                                (", no dropout", False)):
            one = contestant(library, variant)
            model, puzzle = build_model(one, SMALL), draw_puzzle(SMALL, CPU)
            losses = {loss_of(one, model, puzzle).item() for _ in range(2)}
            assert (len(losses) == 2) is random, one.name


def test_the_same_words_are_asked_of_both():
    puzzle = draw_puzzle(SMALL, CPU)
    asked = (puzzle.everywhere != -100).flatten().nonzero().flatten()
    assert torch.equal(asked, puzzle.positions)
    assert len(asked) == round(0.15 * 2 * 128)
    assert torch.equal(puzzle.everywhere.flatten()[asked], puzzle.labels)
    assert (puzzle.input_ids.flatten()[asked] == 4).all()
    assert (puzzle.input_ids == 4).sum() == len(asked)


@pytest.mark.parametrize("library", [THEIRS, OURS, MASKED])
@pytest.mark.parametrize("variant", ["", ", no dropout"])
def test_operations_are_those_that_pytorch_counts(library, variant):
    """With attention dropout PyTorch multiplies step by step, so that its counter sees all.

    Without it the fused attention of the CPU is invisible: 12 L D T a token are missing.
    """
    one = contestant(library, variant)
    model, puzzle = build_model(one, SMALL), draw_puzzle(SMALL, CPU)
    with FlopCounterMode(display=False) as counter:
        loss_of(one, model, puzzle).backward()
    hidden = 0 if variant == "" else 12 * SMALL.layers * SMALL.width * 128
    counted = counter.get_total_flops() / SMALL.tokens
    assert counted == pytest.approx(one.flops(SMALL) - hidden, rel=0.005)
    if library == THEIRS:  # what ours needs is clearly less
        assert contestant(OURS, variant).flops(SMALL) < 0.8 * one.flops(SMALL)


def test_medians_and_ratios_by_hand():
    timings = {contestant(THEIRS, ""): [2.0, 4.0, 6.0], contestant(THEIRS): [1.0, 2.0, 9.0],
               contestant(OURS, ""): [1.0, 1.0, 2.0], contestant(OURS): [0.5, 0.5, 0.5],
               contestant(MASKED): [0.25, 1.0, 1.0]}
    one = contestant(OURS, "")
    need = one.flops(SMALL) * SMALL.tokens
    lines = summarise(SMALL, timings, {torch.float32: [need, 2 * need, need]})
    line = lines["bertlib float32"]
    assert line["tokens_per_second"] == SMALL.tokens / 1.0
    assert line["to_best"] == 2.0  # of 1/1, 2/1, 9/2; the best is the one without dropout
    assert line["to_equal"] == 3.0  # of 2/1, 4/1, 6/2
    assert line["flops_per_second"] == pytest.approx(need)
    assert line["share_of_peak"] == pytest.approx(0.5)  # of 1, 1/2, 1/2
    assert lines["Hugging Face, masked head float32, no dropout"]["to_equal"] is None
    assert lines["Hugging Face float32, no dropout"]["to_best"] == 1.0
    unknown = summarise(SMALL, timings, {torch.float32: [0.0, 0.0, 0.0]})
    assert unknown["bertlib float32"]["share_of_peak"] is None
    shown = table({name: line | {"memory_bytes": None} for name, line in lines.items()}, CPU)
    assert "50%" in shown and "-" in shown.splitlines()[-1]


def test_the_command_prints_a_table_and_writes_all_figures(tmp_path, capsys):
    path = tmp_path / "speed.json"
    main([*OPTIONS, "--rounds", "2", "--no-memory", "--json", str(path)])
    printed = capsys.readouterr().out
    written = json.loads(path.read_text())
    for one in contestants(CPU):
        assert one.name in printed
        assert len(written["lines"][one.name]["seconds"]) == 2
    assert {"machine", "torch", "transformers", "threads", "peak_flops"} <= set(written)
    assert written["layers"] == 1 and written["rounds"] == 2


def test_memory_is_that_of_the_training_alone():
    small, large = (ask_memory("bertlib float32", ["--layers", "1", "--width", "64", "--batch",
                                                   batch]) for batch in ("1", "64"))
    logits = 63 * 128 * 0.15 * 24_992 * 4  # bytes of one tensor that grows with the batch
    assert 0 < small < large - logits


def test_a_word_is_as_frequent_as_its_rank_says(tmp_path, tokenizer):
    data = load_dataset(random_dataset(tmp_path, 100_000), tokenizer)
    assert data.chunks(slice(None)).shape == (100_000 // 128, 128)
    counts = np.bincount(data.ids.ravel(), minlength=len(tokenizer))[tokenizer.ordinary_ids]
    assert counts[0] / counts[1:3].sum() == pytest.approx(1.2, abs=0.3)  # ln 2 / ln(4/2)


def test_loading_and_preparing_are_timed(tmp_path, capsys):
    main(["load", "--tokens", "5000", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["first", "later", "later, from disk"]
    text = tmp_path / "text.txt"
    text.write_text("".join(document(number, 60) for number in range(60)))
    assert time_tokenizer(text) > 0 and time_prepare(text) > 0


def test_clicks_of_the_highlighter_are_timed(capsys):
    main(["guess", "--clicks", "2"])
    assert "128 tokens" in capsys.readouterr().out


def test_a_notebook_is_run_and_measured(tmp_path):
    path = tmp_path / "tiny.ipynb"
    cell = {"cell_type": "code", "id": "c", "metadata": {}, "execution_count": None,
            "outputs": [], "source": ["numbers = b'x' * 300_000_000"]}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "cells": [cell], "metadata": {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}}))
    command = [sys.executable, "-m", "bertlib.bench", "notebooks", "--one", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # apart: its memory
    seconds, memory = map(float, done.stdout.split()[-2:])
    assert seconds > 0 and 300 < memory < 600


@pytest.mark.parametrize(("arguments", "words"), [
    (["lode"], "Did you mean 'load'"), (["guess", "--clicks", "0"], "at least 1"),
    (["--width", "100"], "multiple of 64"),
    (["--rounds", "0"], "--rounds is 0"), (["--vocab", "5"], "at least 6"),
    (["--json", "none/x.json"], "does not exist"), (["load", "--tokens", "1"], "at least 128"),
    (["prepare", "--rounds", "0"], "--rounds is 0"),
])
def test_bad_input_is_refused(refused, arguments, words):
    assert words in refused(main, *arguments)


def test_missing_transformers_are_named_with_the_remedy(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert "pip install -e '.[bench]'" in refused(main, *OPTIONS)
