"""The files in which BERT travels today: each of them is read, or refused by name."""

import json

import pytest
import torch
from conftest import VOCAB
from parity import REFERENCE, their_model
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, BertModel

from bertlib.finetune import Tuning, build
from bertlib.huggingface import load_encoder
from bertlib.huggingface.published import load_published, load_published_encoder
from bertlib.plumbing.files import InputError
from bertlib.plumbing.vocab import load_vocab
from bertlib.tokens import Tokenizer

IDS = torch.tensor([[2, 7, 9, 4, 11, 3]])
TEXT = "The king said: caf\u00e9, \u6f22\u5b57 and Unaffable-ness [MASK] ."


def words(folder, **rules) -> AutoTokenizer:
    """Save a tokenizer as transformers does today: tokenizer.json, and no vocab.txt."""
    source = folder / "source"
    source.mkdir()
    (source / "vocab.txt").write_bytes(VOCAB.read_bytes())
    (source / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (source / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer"} | rules))
    theirs = AutoTokenizer.from_pretrained(source)
    theirs.save_pretrained(folder)
    assert (folder / "tokenizer.json").exists() and not (folder / "vocab.txt").exists()
    return theirs


def change(folder, name: str, *path, value) -> None:
    """Set one value inside a JSON file."""
    said = place = json.loads((folder / name).read_text())
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    (folder / name).write_text(json.dumps(said))


# -- words ------------------------------------------------------------------------------------

@pytest.mark.parametrize("rules", [
    {"do_lower_case": True}, {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True},
    {"do_lower_case": True, "strip_accents": False},
    {"do_lower_case": True, "tokenize_chinese_chars": False},
])
@pytest.mark.parametrize("is_told_twice", [True, False])
def test_a_tokenizer_json_alone_cuts_text_as_transformers_does(tmp_path, rules, is_told_twice):
    theirs = words(tmp_path, **rules)
    if not is_told_twice:
        (tmp_path / "tokenizer_config.json").unlink()
    ours = Tokenizer.load(tmp_path)
    assert ours.vocab == load_vocab(VOCAB)
    assert ours.encode(TEXT) == theirs(TEXT)["input_ids"]
    for other in ("vocab.txt", "nowhere"):  # who names a file or folder does not get another one
        with pytest.raises(InputError, match="no vocabulary"):
            Tokenizer.load(tmp_path / other)
    ours.save(tmp_path)  # as vocab.txt, which from now on counts
    assert Tokenizer.load(tmp_path).encode(TEXT) == ours.encode(TEXT)


@pytest.mark.parametrize(("path", "value", "told"), [
    (("model", "type"), "BPE", "type of its model is 'BPE'"),
    (("model", "continuing_subword_prefix"), "", "continuing_subword_prefix of its model is ''"),
    (("model", "max_input_chars_per_word"), 50, "is 50"),
    (("model", "vocab"), {"[PAD]": 0, "[UNK]": 2}, "does not number its tokens"),
    (("model", "vocab"), {"[PAD]": 0, "[UNK]": 1}, r"has no \[CLS\]"),
    (("model", "vocab"), ["[PAD]"], "does not number its tokens"),
    (("normalizer",), None, "type of its normalizer is None"),
    (("normalizer", "clean_text"), False, "clean_text of its normalizer is False"),
    (("pre_tokenizer", "type"), "Whitespace", "'Whitespace'"),
    (("normalizer", "lowercase"), False, "remove the one that is wrong"),
    (("added_tokens", 0, "content"), "<name>", "adds the token '<name>'"),
])
def test_a_tokenizer_json_that_is_not_bert_s_is_refused(tmp_path, path, value, told):
    words(tmp_path, do_lower_case=True)
    change(tmp_path, "tokenizer.json", *path, value=value)
    with pytest.raises(InputError, match=told) as error:
        Tokenizer.load(tmp_path)
    assert "\n" not in str(error.value) and "tokenizer.json" in str(error.value)


# -- weights ----------------------------------------------------------------------------------

def assert_is_the_reference(folder) -> None:
    wanted = load_published(REFERENCE)[0](IDS).logits
    assert torch.equal(load_published(folder)[0](IDS).logits, wanted)


def test_weights_in_several_files_are_put_together(published):
    theirs = their_model(vocab_size=97, seq_len=16, width=32, layers=2)
    (published / "model.safetensors").unlink()
    theirs.save_pretrained(published, max_shard_size="40KB")
    assert len(list(published.glob("model-*.safetensors"))) > 2
    assert_is_the_reference(published)


def test_a_pytorch_model_bin_is_read_without_running_it(published):
    weights = load_file(REFERENCE / "model.safetensors")
    (published / "model.safetensors").unlink()
    torch.save(weights, published / "pytorch_model.bin")
    assert_is_the_reference(published)
    torch.save(weights | {"code": print}, published / "pytorch_model.bin")
    with pytest.raises(InputError, match="pytorch_model.bin' holds no weights that can be read"):
        load_published(published)
    torch.save(weights, published / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="save the model anew with a recent transformers"):
        load_published(published)
    torch.save(weights | {"much": torch.ones(1 << 25)}, published / "pytorch_model.bin")
    with pytest.raises(InputError, match="more than the"):
        load_published(published)


@pytest.mark.parametrize(("places", "told"), [
    ({}, "no weight_map"), (None, "no weight_map"),
    ({"a": "../model.safetensors"}, "must be a safetensors file of the same folder"),
    ({"a": "model.bin"}, "names the file 'model.bin'"), ({"a": 3}, "names the file 3"),
    ({"a": "model-1.safetensors"}, "do not hold the same tensors"),
    ({"a": "model-9.safetensors"}, "Cannot read the weights"),
])
def test_an_index_that_does_not_fit_is_refused(published, places, told):
    (published / "model.safetensors").rename(published / "model-1.safetensors")
    (published / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InputError, match=told):
        load_published(published)


def test_a_tensor_that_stands_in_two_files_is_refused(published):
    weights = load_file(REFERENCE / "model.safetensors")
    (published / "model.safetensors").unlink()
    names = sorted(weights)
    save_file({name: weights[name] for name in names[:20]}, published / "model-1.safetensors")
    save_file({name: weights[name] for name in names[19:]}, published / "model-2.safetensors")
    places = {name: f"model-{1 + (n > 19)}.safetensors" for n, name in enumerate(names)}
    (published / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(InputError, match=f"both hold '{names[19]}'"):
        load_published(published)


def test_a_folder_without_weights_says_what_is_looked_for(published):
    (published / "model.safetensors").unlink()
    with pytest.raises(InputError, match="no weights .* or pytorch_model.bin"):
        load_published(published)


# -- the encoder alone --------------------------------------------------------------------------

@pytest.mark.parametrize("with_head", [True, False])
def test_an_encoder_is_read_with_and_without_a_head(published, with_head):
    theirs = their_model(vocab_size=97, seq_len=16, width=32, layers=2)
    if not with_head:
        BertModel(theirs.config).save_pretrained(published)  # its names begin otherwise
        theirs = BertModel.from_pretrained(published).eval()
        with pytest.raises(InputError, match="no 'bert.embeddings.*its masked-word head"):
            load_published(published)
    encoder, _ = load_encoder(published)
    assert torch.equal(encoder(IDS), load_published_encoder(published)[0](IDS))
    tuned, _ = build(published, ("one", "two"), Tuning())
    assert torch.equal(tuned.encoder.eval()(IDS), encoder(IDS))
    wanted = (theirs.bert if with_head else theirs)(IDS).last_hidden_state
    assert torch.allclose(encoder(IDS), wanted, atol=1e-4)


def test_an_encoder_with_a_layer_too_many_is_refused(published):
    change(published, "config.json", "num_hidden_layers", value=1)
    with pytest.raises(InputError, match="layer.1.*num_hidden_layers 1"):
        load_published_encoder(published)
