"""The start from counts, by hand on tiny texts."""

import math
import subprocess
import sys

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.counts import (
    CountStart,
    company,
    entropy,
    factorise,
    positive_pmi,
    sparse_company,
    start_from_counts,
    unigram_bias,
    word_counts,
)
from bertlib.plumbing.files import PROJECT, InputError

IDS = torch.tensor([[5, 6, 5, 7], [6, 5, 7, 7]])


def test_counts_bias_and_entropy():
    counts = word_counts([IDS], 8)
    assert counts.tolist() == [0, 0, 0, 0, 0, 3, 2, 3]
    assert unigram_bias(counts)[5].item() == pytest.approx(math.log(3.5 / 8))
    assert entropy(torch.tensor([1.0, 1, 1, 1])) == pytest.approx(math.log(4))


def test_company_weighs_pairs_by_distance():
    counts = word_counts([IDS], 8)
    pairs = company([IDS], counts, window=2)
    order = counts.topk(8).indices.tolist()
    cell = pairs[5, order.index(6)].item()  # 5-6 next to each other three times
    assert cell == pytest.approx(3.0)
    assert pairs[5, order.index(5)].item() == pytest.approx(2 * 0.5)  # both directions, far 2
    assert pairs[6, order.index(7)].item() == pytest.approx(2 * 0.5)


def test_pmi_is_zero_for_independent_words():
    assert positive_pmi(torch.ones(4, 4)).abs().max() < 1e-6
    assert positive_pmi(torch.eye(4))[0, 0].item() == pytest.approx(math.log(4))


def test_pmi_by_hand_with_contexts_to_the_power_of_three_quarters():
    pairs = torch.tensor([[16.0, 0.0], [240.0, 16.0]])  # contexts 256 and 16: powers 64 and 8
    joint = (pairs / 272).clamp(min=1e-9)
    expected = [max(0.0, math.log(float(joint[word, context]) / one / other))
                for word, one in enumerate((16 / 272, 256 / 272))
                for context, other in enumerate((64 / 72, 8 / 72))]
    assert expected[0] > 0.1 and expected[1] == 0 and expected[3] < 0.7
    assert positive_pmi(pairs).flatten().tolist() == pytest.approx(expected)
    less = [max(0.0, value - math.log(1.1)) for value in expected]
    assert positive_pmi(pairs, shift=1.1).flatten().tolist() == pytest.approx(less, abs=1e-6)


def zipf(rows: int, vocab_size: int) -> torch.Tensor:
    """Words drawn with the frequencies 1, 1/2, 1/3, ...: ids [rows, 128]."""
    share = 1 / torch.arange(1, vocab_size + 1)
    generator = torch.Generator().manual_seed(0)
    return torch.multinomial(share, rows * 128, True, generator=generator).view(rows, 128)


def test_sparse_and_dense_ways_make_the_same_embeddings(monkeypatch):
    """The dense way is counted here word by word; some words are left out, some no contexts."""
    monkeypatch.setattr("bertlib.counts.MOST_CONTEXTS", 40)
    parts = zipf(30, 60).split(7)
    counts = word_counts(parts, 60)
    counts[:3] = 0
    pairs = sparse_company(parts, counts, window=3)
    column = {int(word): n for n, word in enumerate(counts.topk(40).indices)}
    table = torch.zeros(60, 40, dtype=torch.float64)
    for row in torch.cat(parts).tolist():
        for here, word in enumerate(row):
            for there in range(max(0, here - 3), min(len(row), here + 4)):
                if there != here and counts[word] and counts[row[there]] and row[there] in column:
                    table[word, column[row[there]]] += 1 / abs(here - there)
    assert pairs.is_sparse and torch.allclose(pairs.to_dense(), table.float(), atol=1e-3)
    dense = positive_pmi(pairs.to_dense(), shift=1.5)
    assert torch.allclose(positive_pmi(pairs, shift=1.5).to_dense(), dense, atol=1e-5)
    vectors = factorise(positive_pmi(pairs, shift=1.5), 8)
    assert torch.allclose(vectors, factorise(dense, 8), atol=1e-4)
    torch.manual_seed(0)
    left, values, _ = torch.svd_lowrank(dense, q=40, niter=2)
    other = left[:, :8] * values[:8].sqrt()
    assert torch.allclose(vectors, other * (0.07 / other.std()), atol=1e-4)


MEASURE = """
import torch
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.counts import CountStart, start_from_counts
from bertlib.plumbing.device import process_memory
from tests.test_counts import zipf
model = BertForMaskedLM(BertConfig.preset("fast", vocab_size=119_547, n_layer=1))
parts = zipf(3_000, 119_547).split(512)
fresh = model.encoder.embeddings.token.weight.clone()
before = process_memory("RssAnon")
start_from_counts(model, lambda: parts, [0, 1, 2, 3, 4], CountStart())
changed = (fresh != model.encoder.embeddings.token.weight).any(1).sum().item()
print(changed, process_memory() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts of Linux")
def test_a_large_vocabulary_takes_little_memory():
    """Dense tables of 119,547 words times 8,192 contexts would take 4 GB each."""
    done = subprocess.run([sys.executable, "-c", MEASURE], cwd=PROJECT, check=True,
                          capture_output=True, text=True)
    changed, grown = map(int, done.stdout.split())
    assert changed > 10_000 and grown < 1.5e9


def test_factors_rebuild_a_low_rank_matrix_in_direction_and_scale():
    torch.manual_seed(0)
    half = torch.randn(60, 3)
    vectors = factorise(half @ half.T, 3, std=0.07)
    assert vectors.std().item() == pytest.approx(0.07)
    product = vectors @ vectors.T
    want = half @ half.T
    ratio = (product * want).sum() / want.square().sum()
    assert torch.allclose(product, ratio * want, atol=1e-4)


def test_a_fresh_model_started_from_counts_predicts_frequencies():
    """Zero-initialised blocks and untrained context: the bias alone beats ln V at once."""
    torch.manual_seed(0)
    ids = torch.multinomial(torch.tensor([0.0] * 5 + [8.0, 4, 2, 1]), 4000, True).view(40, 100)
    model = BertForMaskedLM(BertConfig.preset("fast", vocab_size=9, seq_len=100, d_model=16))
    before = model(torch.full_like(ids, 4), None, ids).loss
    start_from_counts(model, lambda: [ids], [0, 1, 2, 3, 4], CountStart(width=9))
    after = model(torch.full_like(ids, 4), None, ids).loss
    bound = entropy(word_counts([ids], 9))
    never = torch.tensor(0.5 / ids.numel()).log()
    assert torch.allclose(model.head.decoder.bias[:5], never)  # special tokens count as unseen
    assert before > 2.0
    assert after.item() == pytest.approx(bound, abs=0.05)


def test_a_share_of_the_text_gives_the_words_in_it_their_embeddings():
    """The last quarter of each part is not read: its words stay as they were drawn."""
    def embeddings(part: torch.Tensor, share: float) -> torch.Tensor:
        torch.manual_seed(0)
        model = BertForMaskedLM(BertConfig.preset("fast", vocab_size=11, seq_len=4, d_model=4))
        fresh.append(model.encoder.embeddings.token.weight.detach().clone())
        how = CountStart(window=2, share=share)
        start_from_counts(model, lambda: [part, part], [0, 1, 2, 3, 4], how)
        return model.encoder.embeddings.token.weight.detach()

    fresh: list[torch.Tensor] = []
    read = torch.tensor([[5, 6, 7, 8], [8, 7, 5, 6], [6, 8, 8, 5]])
    unread = torch.tensor([[9, 10, 9, 10]])
    some, whole = (embeddings(torch.cat((read, unread)), share) for share in (0.75, 1.0))
    changed = (some != fresh[0]).any(1)
    assert changed.tolist() == [False] * 5 + [True] * 4 + [False] * 2
    assert (whole != fresh[0]).any(1)[9:].all()


def test_a_word_that_was_seen_once_at_a_distance_has_company_too():
    """[MASK] between them counts for nothing, so that 5 and 6 have half a pair each."""
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig.preset("fast", vocab_size=9, seq_len=3, d_model=4))
    table = model.encoder.embeddings.token.weight
    fresh = table.detach().clone()
    start_from_counts(model, lambda: [torch.tensor([[5, 4, 6]])], [0, 1, 2, 3, 4], CountStart())
    assert (table != fresh).any(1).tolist() == [False] * 5 + [True] * 2 + [False] * 2


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_beyond_the_text_is_refused(share):
    with pytest.raises(InputError, match="count_share"):
        CountStart(share=share)
