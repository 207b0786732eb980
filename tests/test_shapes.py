"""The ledger tells each step of a forward pass, with the right shape and letters."""

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.figures.shapes import ledger, letters, trace


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


def told(config: BertConfig, *inputs, **named) -> dict[str, str]:
    """Step -> letters, without the shape in figures."""
    lines = ledger(BertForMaskedLM(config).eval(), *inputs, **named).splitlines()
    return {line.split("(")[0].strip(): line.split(")")[1].strip() for line in lines}


NAMES = ("input", "encoder.embeddings.token", "encoder.blocks.0.attention_norm",
         "encoder.blocks.0.attention.scores", "encoder.blocks.0.attention",
         "encoder.blocks.0.feed_forward.up", "encoder.blocks.0.feed_forward.down",
         "encoder.blocks.0", "encoder", "head.decoder", "head", "BertForMaskedLM")


@pytest.mark.parametrize(("batch", "length", "changes"), [
    (2, 16, {}),  # D = T
    (4, 8, {}),  # B = H
    (8, 8, {}),  # B = T
    (2, 4, {}),  # H = T = D/H
    (2, 8, {"vocab_size": 64}),  # V = d_ff
    (2, 8, {"vocab_size": 16}),  # V = D
    (2, 16, {"vocab_size": 16}),  # V = D = T
    (2, 8, {"d_ff": 16}),  # d_ff = D
    (2, 8, {"d_ff": 8}),  # d_ff = T
    (2, 8, {"n_head": 1}), (1, 1, {"n_head": 1}),
])
def test_letters_of_one_size_are_told_apart(batch, length, changes):
    config = BertConfig.preset("tiny", **dict(
        vocab_size=50, seq_len=16, d_model=16, n_head=4, n_layer=2, d_ff=64) | changes)
    ids = torch.zeros(batch, length, dtype=torch.long)
    right = dict(zip(NAMES, ("B T", "B T D", "B T D", "B H T T", "B T D", "B T d_ff", "B T D",
                             "B T D", "B T D", "B T V", "B T V", "B T V"), strict=True))
    found = told(config, ids, attention_mask=torch.ones_like(ids, dtype=torch.bool))
    assert {name: found[name] for name in NAMES} == right
    assert found["attention_mask"] == "B T"
    found = told(config, ids, torch.arange(batch))  # as many positions as sequences
    assert found["encoder"] == "K D" and found["BertForMaskedLM"] == "K V"


def test_a_step_without_a_telling_name_gets_the_number():
    known = {"B": 2, "T": 8, "D": 16, "H": 4, "D/H": 4, "V": 16, "d_ff": 64}
    assert letters((2, 8, 16), known, "mixer") == "B T 16"
    assert letters((2, 8, 64), known, "mixer") == "B T d_ff"
    assert letters((2, 1, 1, 8), known | {"H": 1}, "input 1", given=True) == "B 1 1 T"


def test_explicit_softmax_is_noted_and_nothing_is_left_behind():
    class Toy(torch.nn.Module):
        def forward(self, x):
            return (x @ x.mT).softmax(dim=-1) @ x

    toy = Toy()
    assert ("weights", (1, 3, 3)) in trace(toy, torch.randn(1, 3, 4))
    assert not toy._forward_hooks and not toy._forward_pre_hooks
