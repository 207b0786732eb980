"""Guesses and how they are shown."""

import pytest
import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.files import InputError
from bertlib.predict import (
    Example,
    Sampler,
    fill,
    guess_chunk,
    highlight_html,
    highlight_text,
    read_samples,
)

EXAMPLE = Example(["[CLS]", "the", "king", "spoke", "##n", "<b>", "&", "[SEP]", "[PAD]"],
                  [2, 5, 6], ["king", "<script>", "and"])


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer)))


def test_text_marks_right_and_wrong():
    assert highlight_text(EXAMPLE) == "the /king/✓ spoken /<script>/✗(<b>) /and/✗(&)"
    assert EXAMPLE.right() == [True, False, False]
    assert EXAMPLE.accuracy() == pytest.approx(1 / 3)


def test_html_escapes_tokens_and_marks_without_colour():
    page = highlight_html(EXAMPLE)
    assert "<script>" not in page and "<b>&" not in page
    assert "/&lt;script&gt;/✗" in page and "/king/✓" in page
    assert "solid" in page and "dashed" in page
    assert "1 of 3 right" in page


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
    example = guess_chunk(model.eval(), dataset, 3, masker, tokenizer)
    puzzle = dataset.frozen(slice(3, 4), masker)
    assert example.positions == puzzle.positions.tolist()
    assert [example.tokens[p] for p in example.positions] == tokenizer.tokens(
        puzzle.labels.tolist())


def test_samples_are_kept_by_step(model, tokenizer, tmp_path):
    (tmp_path / "logs").mkdir()
    sampler = Sampler(tokenizer, ["a [MASK] ."], top=2)
    for step in (0, 1, 1):
        sampler(step, model, tmp_path)
    records = read_samples(tmp_path / "logs" / "samples.jsonl")
    assert [record["step"] for record in records] == [0, 1]
    assert len(records[0]["guesses"][0]) == 2


def test_an_example_survives_a_file(tmp_path):
    EXAMPLE.save(tmp_path / "example.json")
    assert Example.load(tmp_path / "example.json") == EXAMPLE
