"""Models that ask for far more memory than their files are worth are refused for little."""

import json
import os
import struct
import sys
from dataclasses import asdict

import pytest
import torch
from parity import REFERENCE
from test_memory import MOST, peak

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.huggingface import load, save_shipped
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runs import Identity
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")


def refusal(folder) -> str:
    """The sentence with which a process refuses a model without having taken much memory."""
    megabytes, sentence = peak(load, folder)
    assert megabytes < MOST and str(folder) in sentence and "\n" not in sentence, megabytes
    return sentence


@pytest.fixture
def folders(tmp_path):
    """A whole folder of each kind, to change."""
    words = Tokenizer.load(REFERENCE)
    config = BertConfig.preset("tiny", vocab_size=len(words))
    model = BertForMaskedLM(config)
    save_shipped(model, words, tmp_path / "shipped", {})
    run = tmp_path / "run"
    run.mkdir()
    words.save(run)
    write_json(run / "run.json", asdict(Identity(
        "toy", asdict(config), Settings.make("smoke").as_dict(), words.sha256,
        words.rules.as_dict(), [])))
    Checkpoints(run / "checkpoints").save({"model": model.state_dict(), "step": 1}, 1)
    published = tmp_path / "published"
    published.mkdir()
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (published / name).write_bytes((REFERENCE / name).read_bytes())
    return tmp_path


def say(path, part: str = "", **changes) -> None:
    """Change a JSON file, or a part of it, as somebody would who also renews the seal."""
    values = json.loads(path.read_text())
    (values[part] if part else values).update(changes)
    write_json(path, values)


LARGE = dict(d_model=40_000, n_head=4, d_ff=160_000)


@pytest.mark.parametrize(("changes", "words"), [
    (LARGE, "another shape"), (LARGE | {"n_layer": 900}, "another shape"),
    ({"n_layer": 10**9}, "n_layer is 1000000000"), ({"vocab_size": 10**9}, "vocab_size is"),
    ({"position": "distance", "distance_heads": [[1.0, 0]], "seq_len": 99_000}, "seq_len"),
])
def test_a_config_that_is_larger_than_its_weights_is_refused(folders, changes, words):
    for folder, file in (("shipped", "config.json"), ("run", "run.json")):
        say(folders / folder / file, "model", **changes)
        assert words in refusal(folders / folder)


def test_a_published_config_that_is_larger_than_its_weights_is_refused(folders):
    folder = folders / "published"
    say(folder / "config.json", hidden_size=40_000, intermediate_size=160_000)
    assert "another shape" in refusal(folder)
    say(folder / "config.json", num_hidden_layers=10**9)
    assert "n_layer" in peak(load, folder)[1]


def test_weights_of_nothing_but_holes_are_refused(folders):
    for kind in ("shipped", "published"):
        path = folders / kind / "model.safetensors"
        os.truncate(path, 4 << 30)
        refusal(path.parent)
        begin = {"x": {"dtype": "F32", "shape": [1 << 29], "data_offsets": [0, 1 << 31]}}
        content = json.dumps(begin).encode()
        path.write_bytes(struct.pack("<Q", len(content)) + content)
        os.truncate(path, path.stat().st_size + (1 << 31))  # as large as it says
        refusal(path.parent)
        path.write_bytes(struct.pack("<Q", 1 << 62) + content)
        refusal(path.parent)


def test_a_checkpoint_of_nothing_but_holes_is_refused(folders):
    path = folders / "run" / "checkpoints" / "step_00000001.pt"
    os.truncate(path, 3 << 30)
    assert "more than the" in refusal(folders / "run")
    (path.parent / "index.json").unlink()
    assert "no checkpoint yet" in refusal(folders / "run")


def test_a_checkpoint_that_says_more_than_it_holds_is_refused(folders):
    kept = Checkpoints(folders / "run" / "checkpoints")
    state = kept.newest()
    name = "encoder.embeddings.token.weight"
    state["model"][name] = torch.zeros(1).expand(40_000, 40_000)  # four bytes
    kept.save(state, 1)
    assert "another shape" in refusal(folders / "run")
