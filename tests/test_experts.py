"""A network times counts: what votes, who fits the weights, and who is scored."""

import numpy as np
import pytest
import torch

from bertlib.baselines import DOUBT, Surroundings
from bertlib.bench.experts import bench_experts, multiply, read_experts, votes
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.data import ensure_datasets, in_order, load_dataset
from bertlib.masking import Masker
from bertlib.plumbing.contexts import PLACES, around
from bertlib.pretrain import pretrain
from bertlib.settings import Settings


@pytest.fixture(scope="module")
def world(base, tokenizer):
    """A network that knows nothing, the counts of the toy text, its validation split."""
    files = ensure_datasets(base, "toy", 32)
    train, val = (load_dataset(path, tokenizer) for path in (files.train[0], files.val))
    text = np.concatenate([ids.numpy() for ids in train.slices()])
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer), seq_len=32)).eval()
    return model, Surroundings(text, len(tokenizer), val.header.special), val, text


def test_the_network_the_frequencies_and_six_places_vote(world, tokenizer):
    model, counted, val, text = world
    puzzle = val.frozen(slice(4), Masker(tokenizer))
    stacked = votes(model, counted, puzzle)  # [8, K, V]
    assert stacked.shape == (8, len(puzzle.labels), len(tokenizer))
    torch.testing.assert_close(stacked[0].exp().sum(-1), torch.ones(len(puzzle.labels)))
    torch.testing.assert_close(stacked[1][0], counted.p.log())
    hole, near = int(puzzle.positions[2]), around(text, len(tokenizer))
    seen = around(puzzle.input_ids.numpy(), len(tokenizer))[hole]
    for number in range(len(PLACES)):
        words = torch.from_numpy(text.ravel()[near[:, number] == seen[number]]).long()
        words = words[~torch.isin(words, torch.tensor(val.header.special))]
        count = torch.bincount(words, minlength=len(tokenizer))
        torch.testing.assert_close(stacked[2 + number][2],
                                   (count / (DOUBT * counted.p)).log1p())


def test_counts_carry_a_network_that_knows_nothing(world, tokenizer):
    model, counted, val, text = world
    found = multiply(model, counted, val, Masker(tokenizer), fit=48, exam=12)
    exam = list(in_order(val, Masker(tokenizer), 32, 12))
    known = Surroundings.fit(text, len(tokenizer), val.header.special)
    near = np.concatenate([around(p.input_ids.numpy(), len(tokenizer))[p.positions.numpy()]
                           for p in exam])
    alone = known.score(near, torch.cat([p.labels for p in exam]).numpy())
    assert found.masked_words == len(near)
    assert found.product_loss < found.network_loss - 1
    assert found.product_loss == pytest.approx(alone["six_loss"], abs=0.3)
    assert 0 < found.error < 0.2


def test_weights_are_fitted_on_other_chunks_than_those_that_are_scored(world, tokenizer):
    model, counted, val, _ = world
    short, long = (multiply(model, counted, val, Masker(tokenizer), 8, exam) for exam in (4, 12))
    assert short.network_weight == long.network_weight and short.masked_words < long.masked_words
    other = multiply(model, counted, val, Masker(tokenizer), 4, 4)
    assert other.network_weight != short.network_weight
    assert other.network_loss == short.network_loss


def test_the_command_tells_the_run_and_refuses_what_is_too_short(base, tmp_path, refused):
    settings = Settings.make("smoke", max_iters=2, device="cpu")
    run = pretrain(settings, base, "toy", "never", preset="smoke")
    out = tmp_path / "experts.jsonl"
    asked = ["--model", str(run), "--base", str(base), "--out", str(out)]
    bench_experts([*asked, "--fit", "4", "--exam", "6"])
    (row,) = read_experts(out)
    assert row["steps"] == 2 and row["seed"] == settings.seed and row["masked_words"] > 6
    assert {"machine", "precision", "tokens", "product_loss"} <= set(row)
    assert "change --fit or --exam" in refused(bench_experts, *asked, "--fit", "100000")
    assert len(read_experts(out)) == 1
