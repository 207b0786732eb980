"""Gradient times input is the slope along a word's own vector, and the most wrong are wrong."""

import pytest
import torch

from bertlib.bert import BertConfig, Encoder
from bertlib.finetune.attribution import gradient_times_input, most_wrong
from bertlib.finetune.classifier import Classifier, predict
from bertlib.plumbing.tables import Row


@pytest.fixture
def model(tokenizer):
    torch.manual_seed(0)
    config = BertConfig(len(tokenizer), seq_len=24, d_model=32, n_head=2, n_layer=2)
    made = Classifier(Encoder(config), ("a", "b", "c"), tokenizer.special.sep)
    for parameter in made.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return made


@pytest.mark.parametrize("frozen", [False, True])
def test_a_weight_is_the_slope_when_a_word_grows(model, tokenizer, frozen):
    ids = torch.tensor(tokenizer.encode("the king went to a city"))  # each token once
    assert len(set(ids.tolist())) == len(ids)
    model.encoder.requires_grad_(not frozen)
    weights = gradient_times_input(model, ids, 1)
    table, small, slopes = model.encoder.embeddings.token.weight, 1e-2, []
    model.eval()
    for number in ids.tolist():
        logits = []
        for factor in (1 + small, 1 - small):
            kept = table[number].clone()
            with torch.no_grad():
                table[number] *= factor
                logits.append(float(model(ids[None]).logits[0, 1]))
                table[number] = kept
        slopes.append((logits[0] - logits[1]) / (2 * small))
    assert torch.allclose(weights, torch.tensor(slopes), atol=5e-3)
    assert weights.abs().max() > 0.05


def test_nothing_is_left_behind(model, tokenizer):
    """Neither a hook, nor a gradient, nor another mode."""
    ids, embeddings = torch.tensor(tokenizer.encode("the king")), model.encoder.embeddings
    model.train()
    first, again = (gradient_times_input(model, ids, 0) for _ in range(2))
    assert model.training and torch.equal(first, again) and not first.requires_grad
    assert not embeddings.token._forward_hooks
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_most_wrong_are_wrong_and_the_surest_come_first(model, tokenizer):
    texts = ["the king", "a city and a river", "people", "went to the house", "saw it"]
    said = predict(model, tokenizer, texts)
    rows = [Row(str(n), (text,), said[n].label if n == 2 else "abc"["bca".index(said[n].label)])
            for n, text in enumerate(texts)]
    found = most_wrong(model, tokenizer, rows, 9)
    assert {one.text for one in found} == {*texts} - {"people"}
    assert [one.probability for one in found] == sorted(one.probability for one in found)[::-1]
    for one in found:
        assert one.guess == said[int(one.place)].label != one.label
        assert len(one.tokens) == len(one.weights) and one.tokens[0] == "[CLS]"
    assert most_wrong(model, tokenizer, rows, 2) == found[:2]
