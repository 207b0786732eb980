"""The ledger tells each step of a forward pass, with the right shape and letters."""

import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.shapes import ledger, letters, trace


def model(**changes):
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=50, n_layer=3, **changes)).eval()


IDS = torch.randint(50, (2, 7))


def test_shapes_are_those_of_the_pass_itself():
    steps = dict(trace(model(), IDS))
    assert steps["encoder.embeddings"] == (2, 7, 64)
    assert steps["encoder.blocks.1.attention.scores"] == (2, 4, 7, 7)
    assert steps["encoder.blocks.2.feed_forward.up"] == (2, 7, 256)
    assert steps["head.decoder"] == (2, 7, 50)


def test_the_last_block_keeps_the_masked_positions_only():
    steps = dict(trace(model(), IDS, positions=torch.tensor([1, 9, 12])))
    assert steps["encoder.blocks.1"] == (2, 7, 64) and steps["encoder.blocks.2"] == (3, 64)
    assert steps["head.decoder"] == (3, 50)


def test_letters_and_repeated_blocks():
    lines = [line.split() for line in ledger(model(), IDS).splitlines()]
    told = {line[0]: " ".join(line[1:]) for line in lines}
    assert told["encoder.blocks.0.attention.scores"] == "(2, 4, 7, 7) B H T T"
    assert told["encoder.blocks.0.feed_forward.up"] == "(2, 7, 256) B T d_ff"
    assert told["head.decoder"] == "(2, 7, 50) B T V"
    assert told["encoder.blocks.1"] == "(2, 7, 64) as block 0"
    assert "encoder.blocks.1.attention" not in told
    assert letters((9, 64), {"B": 2, "T": 7, "D": 64}) == "K D"


def test_explicit_softmax_is_noted_and_nothing_is_left_behind():
    class Toy(torch.nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(dim=-1) @ x

    toy = Toy()
    assert ("weights", (1, 3, 3)) in trace(toy, torch.randn(1, 3, 4))
    assert not toy._forward_hooks and not toy._forward_pre_hooks
