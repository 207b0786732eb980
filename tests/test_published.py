"""BERT's published weights: they compute what is published, or are refused by name."""

import json

import pytest
import torch
from parity import REFERENCE, parts, their_model
from safetensors.torch import load_file, save_file
from transformers import BertConfig as TheirConfig
from transformers import BertForMaskedLM as TheirModel

from bertlib.huggingface.published import load_published
from bertlib.plumbing.files import InputError


def say(folder, **changes) -> None:
    """Change config.json; None removes a line."""
    config = json.loads((REFERENCE / "config.json").read_text()) | changes
    plain = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(plain))


def reweigh(folder, **changes) -> None:
    """Change the weights; None removes a tensor. Names are written with __ for a dot."""
    weights = load_file(REFERENCE / "model.safetensors")
    weights |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({name: t for name, t in weights.items() if t is not None},
              folder / "model.safetensors")


def test_published_weights_give_the_published_numbers():
    model, tokenizer = load_published(REFERENCE)
    wanted = load_file(REFERENCE / "expected.safetensors")
    labels = wanted["labels"]
    out = model(wanted["input_ids"], labels=labels, attention_mask=wanted["attention_mask"])
    real = wanted["attention_mask"]
    assert torch.allclose(out.logits[real], wanted["logits"][real], atol=1e-4)
    assert torch.allclose(out.loss, wanted["loss"], atol=1e-5)
    assert len(tokenizer) == model.config.vocab_size


def test_the_stored_reference_is_what_transformers_computes():
    theirs = their_model(vocab_size=97, seq_len=16, width=32, layers=2)
    wanted = load_file(REFERENCE / "expected.safetensors")
    for name, tensor in parts(theirs).items():
        assert torch.allclose(tensor.float(), wanted[name].float(), atol=1e-4), name


def test_weights_of_2018_with_gamma_and_beta_load_too(tmp_path):
    for name in ("config.json", "vocab.txt"):
        (tmp_path / name).write_bytes((REFERENCE / name).read_bytes())
    weights = load_file(REFERENCE / "model.safetensors")
    save_file({name.replace("LayerNorm.weight", "LayerNorm.gamma")
               .replace("LayerNorm.bias", "LayerNorm.beta"): tensor
               for name, tensor in weights.items()}, tmp_path / "model.safetensors")
    old, new = load_published(tmp_path)[0], load_published(REFERENCE)[0]
    for ours, theirs in zip(old.parameters(), new.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("both_biases", [True, False])
def test_an_untied_decoder_gives_the_numbers_of_transformers(published, both_biases):
    torch.manual_seed(1)
    theirs = TheirModel(TheirConfig(
        vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=16, pad_token_id=0, initializer_range=0.2,
        tie_word_embeddings=False,
    )).eval()
    torch.nn.init.normal_(theirs.cls.predictions.decoder.bias)
    theirs.save_pretrained(published)
    if not both_biases:  # files of older versions hold it once, by the other name
        weights = load_file(published / "model.safetensors")
        weights["cls.predictions.bias"] = weights.pop("cls.predictions.decoder.bias")
        save_file(weights, published / "model.safetensors")
    model, _ = load_published(published)
    ids = torch.randint(5, 97, (2, 12))
    assert not model.config.tied
    assert torch.allclose(model(ids).logits, theirs(ids).logits, atol=1e-4)
    weights = load_file(published / "model.safetensors")
    del weights["cls.predictions.decoder.weight"]
    save_file(weights, published / "model.safetensors")
    with pytest.raises(InputError, match="no 'cls.predictions.decoder.weight'"):
        load_published(published)


def test_what_no_guess_uses_may_be_there_and_copies_must_be_equal(published):
    wanted, _ = load_published(REFERENCE)
    table = load_file(REFERENCE / "model.safetensors")
    bias, table = table["cls.predictions.bias"], table["bert.embeddings.word_embeddings.weight"]
    spare = {"bert__embeddings__position_ids": torch.arange(16)[None],
             "bert__pooler__dense__bias": torch.ones(32),
             "cls__seq_relationship__bias": torch.ones(2),
             "cls__predictions__decoder__weight": table.clone(),
             "cls__predictions__decoder__bias": bias.clone()}
    reweigh(published, **spare)
    for ours, theirs in zip(load_published(published)[0].parameters(), wanted.parameters(),
                            strict=True):
        assert torch.equal(ours, theirs)
    reweigh(published, cls__predictions__bias=None, cls__predictions__decoder__bias=bias)
    assert torch.equal(load_published(published)[0].head.decoder.bias, bias)
    for name in ("cls__predictions__decoder__weight", "cls__predictions__decoder__bias"):
        reweigh(published, **{name: spare[name] + 1})
        with pytest.raises(InputError, match="differs from.*tie_word_embeddings to false"):
            load_published(published)


def test_a_config_without_eps_means_the_published_one(published):
    say(published, layer_norm_eps=None)
    assert load_published(published)[0].config.norm_eps == 1e-12


@pytest.mark.parametrize(("hidden", "attention"), [(0.25, 0.0), (None, 0), (0, None)])
def test_dropout_is_what_the_config_says(published, hidden, attention):
    say(published, hidden_dropout_prob=hidden, attention_probs_dropout_prob=attention)
    config = load_published(published)[0].config
    assert config.dropout == (0.1 if hidden is None else hidden)
    assert config.attention_dropout == (0.1 if attention is None else attention)


@pytest.mark.parametrize(("changes", "words"), [
    ({"model_type": "gpt2", "is_decoder": True}, "model_type is 'gpt2'"),
    ({"model_type": None}, "model_type is None"),
    ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new'"),
    ({"is_decoder": True}, "is_decoder is True"),
    ({"position_embedding_type": "relative_key"}, "relative_key"),
    ({"hidden_size": None}, "no hidden_size"), ({"hidden_size": "32"}, "hidden_size is '32'"),
    ({"hidden_dropout_prob": "much"}, "hidden_dropout_prob is 'much'"),
    ({"attention_probs_dropout_prob": 1.0}, "it must be from 0 to below 1"),
    ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'"),
    ({"num_hidden_layers": 1}, r"'bert.encoder.layer.1.*num_hidden_layers 1"),
    ({"num_hidden_layers": 3}, r"no 'bert.encoder.layer.2"),
    ({"vocab_size": 98}, "has 97 tokens, but the embeddings have 98"),
    ({"intermediate_size": 64}, "another shape"),
])
def test_what_does_not_fit_is_refused(published, changes, words):
    say(published, **changes)
    with pytest.raises(InputError, match=words):
        load_published(published)


@pytest.mark.parametrize("change", [lambda text: text + "more\n",
                                    lambda text: text.replace("word91\n", "")])
def test_a_vocabulary_of_another_length_is_refused(published, change):
    path = published / "vocab.txt"
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=r"has 9[68] tokens, but the embeddings have 97"):
        load_published(published)


@pytest.mark.parametrize(("changes", "words"), [
    ({"cls__predictions__bias": None}, "no 'cls.predictions.bias'"),
    ({"bert__encoder__layer__0__adapter__weight": torch.ones(3)}, "layer.0.adapter.weight"),
    ({"classifier__weight": torch.ones(3)}, "classifier.weight"),
])
def test_weights_without_a_head_or_a_place_are_refused(published, changes, words):
    reweigh(published, **changes)
    with pytest.raises(InputError, match=words):
        load_published(published)
