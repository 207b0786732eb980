"""What the machine offers, and what a token costs."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.plumbing.device import (
    gpu_peak,
    machine_name,
    measured_bandwidth,
    measured_peak,
    pick_device,
    pick_precision,
)
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.scoring import flops_per_token


@pytest.mark.parametrize(("preset", "is_fused"), [("fast", True), ("small", False)])
def test_flops_are_those_that_pytorch_counts(preset, is_fused):
    """Its counter does not see the fused attention of the CPU, which dropout switches off."""
    config = BertConfig.preset(preset, vocab_size=500, seq_len=64, d_model=128)
    model = BertForMaskedLM(config)
    ids = torch.randint(5, 500, (4, 64))
    positions = torch.arange(0, 256, 8)
    with FlopCounterMode(display=False) as counter:
        model(ids, positions, ids.flatten()[positions]).loss.backward()
    attention = 12 * config.n_layer * config.d_model * config.seq_len * ids.numel()
    expected = flops_per_token(config, 1 / 8) * ids.numel() - is_fused * attention
    assert counter.get_total_flops() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("name", "tera"), [
    ("NVIDIA H100 80GB HBM3", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA H100 NVL", 835),
    ("NVIDIA H200", 989), ("NVIDIA B200", 2250), ("NVIDIA A100-SXM4-80GB", 312),
    ("NVIDIA A100-PCIE-40GB", 312), ("NVIDIA A100 80GB PCIe", 312), ("A100-SXM4-40GB", 312),
    ("NVIDIA A30", 165), ("NVIDIA A40", 149.7), ("NVIDIA L40S", 362), ("NVIDIA L4", 121),
    ("NVIDIA GeForce RTX 5090", 209.5), ("NVIDIA GeForce RTX 4090", 165.2),
    ("GeForce RTX 3090", 71), ("Tesla V100-SXM2-16GB", 125), ("Tesla V100-PCIE-32GB", 112),
    ("Tesla T4", 65),
    *((name, 0) for name in (  # other chips, or a part of one
        "NVIDIA L40", "NVIDIA RTX A4000", "NVIDIA RTX 4000 Ada Generation", "NVIDIA A10",
        "NVIDIA A10G", "NVIDIA A100X", "NVIDIA A800-SXM4-80GB", "NVIDIA GH200 480GB",
        "NVIDIA A40-48Q", "NVIDIA A100-SXM4-80GB MIG 1g.10gb", "NVIDIA H200 NVL",
        "NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 3090 Ti", "NVIDIA T400 4GB", "Tesla V100S-PCIE-32GB", "Quadro T4",
        "AMD Instinct MI300X", "")),
])
def test_a_gpu_is_known_by_its_whole_name(name, tera):
    assert gpu_peak(name) == pytest.approx(tera * 1e12)


@pytest.mark.parametrize(("there", "chosen"), [
    ("cuda mps", "cuda"), ("mps", "mps"), ("", "cpu"),
])
def test_a_gpu_is_taken_where_there_is_one(there, chosen, monkeypatch):
    """Apple's can be told only: no machine that ran these tests had one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)
    assert pick_device("auto").type == chosen and pick_device("cpu").type == "cpu"
    for name, words in {"cuda": "no CUDA GPU", "mps": "no Apple GPU"}.items():
        if name in there:
            assert pick_device(name).type == name
        else:
            with pytest.raises(InputError, match=words):
                pick_device(name)
    assert pick_precision("auto", torch.device("mps")) is torch.float32
    assert "Apple" in machine_name(torch.device("mps"))


def test_precision_is_chosen_or_obeyed():
    cpu = torch.device("cpu")
    assert pick_precision("float32", cpu) is torch.float32
    assert pick_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert measured_peak(cpu, torch.float32, size=128) > 1e6
    assert measured_bandwidth(cpu, size=1024) > 1e6


GROW = """
from bertlib.plumbing.device import process_memory
before = process_memory("RssAnon")
held = b"x" * 100_000_000
print(process_memory("RssAnon") - before, process_memory() - process_memory("RssAnon"))
"""


@pytest.mark.programs
@pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")
def test_memory_grows_by_what_is_held():
    """In a process of its own: this one may keep memory that it freed (see below)."""
    done = subprocess.run([sys.executable, "-c", GROW], cwd=PROJECT, capture_output=True,
                          text=True, check=True)
    grown, beside = map(int, done.stdout.split())
    assert 90e6 < grown < 150e6 and beside > 0


HOLD = """
import sys, torch
from bertlib.plumbing.device import prepare_training, process_memory, return_freed_memory
if sys.argv[1] != "returned":
    prepare_training("cpu", "float32")
before = process_memory("RssAnon")
block = torch.ones(16 * 2**20)
del block
if sys.argv[1] == "trimmed":
    return_freed_memory()
print(process_memory("RssAnon") - before)
"""


@pytest.mark.programs
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's memory, Linux's counts")
@pytest.mark.parametrize("way", ["kept", "returned", "trimmed"])
def test_training_keeps_the_memory_that_it_frees(way):
    done = subprocess.run([sys.executable, "-c", HOLD, way], cwd=PROJECT, capture_output=True,
                          text=True, check=True)
    assert (int(done.stdout) > 60e6) == (way == "kept")
