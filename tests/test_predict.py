"""Guesses and how they are shown."""

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.files import InputError
from bertlib.masking import Masked
from bertlib.predict import (
    Guess,
    Hole,
    Page,
    Sampler,
    fill,
    guess_chunk,
    guess_page,
    load_page,
    read_samples,
    save_page,
    word_shares,
)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer)))


def test_fill_gives_the_best_words_of_each_mask(model, tokenizer):
    model.train()
    text = "the [MASK] of [MASK] ."
    first, second = fill(model, tokenizer, text, top=4)
    assert model.training
    ids = torch.tensor([tokenizer.encode(text)])
    shares = model.eval()(ids).logits.softmax(-1)[0]
    for place, guesses in ((2, first), (4, second)):
        best = shares[place].topk(4)
        assert [g.token for g in guesses] == tokenizer.tokens(best.indices.tolist())
        got = torch.tensor([g.probability for g in guesses])
        assert torch.allclose(got, best.values, atol=1e-6)
    with pytest.raises(InputError, match="MASK"):
        fill(model, tokenizer, "nothing hidden")


def test_a_chunk_is_guessed_at_its_frozen_masks(model, dataset, masker, tokenizer):
    page = guess_chunk(model.eval(), dataset, 3, masker, tokenizer)
    puzzle = dataset.frozen(slice(3, 4), masker)
    assert [hole.position for hole in page.holes] == puzzle.positions.tolist()
    assert [hole.truth for hole in page.holes] == tokenizer.tokens(puzzle.labels.tolist())
    assert page.tokens == tuple(tokenizer.tokens(dataset.chunks(slice(3, 4))[0].tolist()))


def test_rank_and_share_of_the_truth_are_those_of_the_logits(model, tokenizer):
    ids = torch.tensor([tokenizer.encode("the king of the sea")])
    truth = ids[0, [2, 5]]
    hidden = ids.clone()
    hidden[0, [2, 5]] = tokenizer.special.mask
    page = guess_page(model, tokenizer, Masked(hidden, torch.tensor([2, 5]), truth))
    shares = model.eval()(hidden).logits[0, [2, 5]].softmax(-1).detach()
    for hole, share, label in zip(page.holes, shares, truth.tolist(), strict=True):
        order = share.argsort(descending=True).tolist()
        assert hole.rank == order.index(label) + 1
        assert hole.probability == pytest.approx(float(share[label]), rel=1e-4)
        assert hole.right == (hole.rank == 1)
    unknown = guess_page(model, tokenizer, Masked(hidden, torch.tensor([2]), torch.tensor([-1])))
    assert unknown.holes[0].truth is None and unknown.holes[0].right is None
    assert unknown.known() == 0


def test_each_word_is_scored_with_it_alone_hidden(model, tokenizer):
    ids = torch.tensor(tokenizer.encode("the king of the sea"))
    shares = word_shares(model, tokenizer, ids)
    assert shares[0] == shares[-1] == 1
    for place in (1, 3):
        alone = ids.clone()
        alone[place] = tokenizer.special.mask
        wanted = model.eval()(alone[None]).logits[0, place].softmax(-1)[ids[place]]
        assert torch.allclose(shares[place], wanted, rtol=1e-4)
    assert word_shares(model, tokenizer, torch.tensor(tokenizer.encode(""))).tolist() == [1, 1]


def test_samples_are_kept_by_step(model, tokenizer, tmp_path):
    (tmp_path / "logs").mkdir()
    sampler = Sampler(tokenizer, ["a [MASK] ."], top=2)
    for step in (0, 1, 1):
        sampler(step, model, tmp_path)
    records = read_samples(tmp_path / "logs" / "samples.jsonl")
    assert [record["step"] for record in records] == [0, 1]
    assert len(records[0]["guesses"][0]) == 2


def test_a_page_survives_a_file(tmp_path):
    hole = Hole(1, (Guess("king", 0.5), Guess("<b>", 0.25)), "king", 1, 0.5)
    page = Page(("[CLS]", "king", "[SEP]"), (hole, Hole(2, (Guess("sea", 0.125),))))
    save_page(page, tmp_path / "page.json")
    assert load_page(tmp_path / "page.json") == page
