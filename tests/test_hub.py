"""Models that travel: what is written is what is read, and what does not fit is refused."""

import json

import pytest
import torch
from parity import REFERENCE, parts, their_model
from safetensors.torch import load_file, save_file

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.files import InputError
from bertlib.hub import load_published, load_shipped, main, save_shipped

SHAPES = ("tiny", "fast")  # tied with position embeddings; tied with heads of distance


@pytest.mark.parametrize("preset", SHAPES)
def test_a_shipped_model_comes_back(preset, tokenizer, tmp_path):
    config = BertConfig.preset(preset, vocab_size=len(tokenizer), d_model=32, n_layer=2)
    model = BertForMaskedLM(config).bfloat16().float().eval()
    save_shipped(model, tokenizer, tmp_path / "model", {"seed": 1})
    back, vocabulary = load_shipped(tmp_path / "model")
    assert back.config == config and vocabulary.vocab == tokenizer.vocab and not back.training
    ids = torch.tensor([tokenizer.encode("the king of the sea")])
    assert torch.equal(back(ids).logits, model(ids).logits)
    if config.tied:
        assert back.head.decoder.weight is back.encoder.embeddings.token.weight


def test_a_damaged_or_foreign_shipped_model_is_refused(tokenizer, tmp_path):
    model = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer)))
    save_shipped(model, tokenizer, tmp_path, {})
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    whole, told = weights.read_bytes(), config.read_text()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="SHA-256"):
        load_shipped(tmp_path)
    weights.write_bytes(whole)
    for changed, words in ((told.replace('"n_layer": 2', '"n_layer": 3'), "only the model has"),
                           (told.replace('"n_layer"', '"layers"'), "describes no model"),
                           (told.replace('"vocab_sha256": "', '"vocab_sha256": "x'), "vocabulary"),
                           (told[:-9], "as JSON"), ("[]", "no JSON object")):
        config.write_text(changed)
        with pytest.raises(InputError, match=words):
            load_shipped(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        load_shipped(tmp_path / "nowhere")


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


def test_what_is_no_bert_is_refused(tmp_path):
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        (tmp_path / name).write_bytes((REFERENCE / name).read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}))
    with pytest.raises(InputError, match="gpt2"):
        load_published(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = load_file(tmp_path / "model.safetensors")
    del weights["cls.predictions.bias"]
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="cls.predictions.bias"):
        load_published(tmp_path)


def test_the_command_asks_for_a_finished_run(refused, own, tmp_path):
    assert "two folders" in refused(main)
    (own / "runs" / "run0").mkdir(parents=True, exist_ok=True)
    assert "report.json" in refused(main, own / "runs" / "run0", tmp_path / "out")
    assert not (tmp_path / "out").exists()
