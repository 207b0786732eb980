"""What the machine offers, and what a token costs."""

import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.device import (
    flops_per_token,
    measured_bandwidth,
    measured_peak,
    pick_precision,
    process_memory,
)


def test_flops_are_those_that_pytorch_counts():
    """Weights only: PyTorch's counter does not see the fused attention of the CPU."""
    config = BertConfig.preset("fast", vocab_size=500, seq_len=64, d_model=128)
    model = BertForMaskedLM(config)
    ids = torch.randint(5, 500, (4, 64))
    positions = torch.arange(0, 256, 8)
    with FlopCounterMode(display=False) as counter:
        model(ids, positions, ids.flatten()[positions]).loss.backward()
    attention = 12 * config.n_layer * config.d_model * config.seq_len * ids.numel()
    expected = flops_per_token(config, 1 / 8) * ids.numel() - attention
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_precision_is_chosen_or_obeyed():
    cpu = torch.device("cpu")
    assert pick_precision("float32", cpu) is torch.float32
    assert pick_precision("auto", cpu) in (torch.float32, torch.bfloat16)
    assert measured_peak(cpu, torch.float32, size=128) > 1e6
    assert measured_bandwidth(cpu, size=1024) > 1e6


@pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")
def test_memory_grows_by_what_is_held():
    before = process_memory("RssAnon")
    held = b"x" * 100_000_000
    assert 0.9 * len(held) < process_memory("RssAnon") - before < 1.5 * len(held)
    assert process_memory() > process_memory("RssAnon")
