"""GPT-2's weights: they compute what transformers computes, or are refused by name."""

import json

import pytest
import torch
from parity_gpt2 import REFERENCE, T, V, computed, their_model
from safetensors.torch import load_file, save_file
from transformers import GPT2LMHeadModel

from bertlib.gpt import next_logits, sample
from bertlib.huggingface.gpt2 import load_gpt2
from bertlib.plumbing.files import InputError


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    their_model(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy, to change."""
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((saved / name).read_bytes())
    return tmp_path


def say(folder, **changes) -> None:
    """Change config.json; None removes a line."""
    config = json.loads((folder / "config.json").read_text()) | changes
    plain = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(plain))


def reweigh(folder, rename=lambda name: name, **changes) -> None:
    """Change the weights; None removes a tensor. Names are written with __ for a dot."""
    weights = load_file(folder / "model.safetensors")
    weights |= {name.replace("__", "."): tensor for name, tensor in changes.items()}
    save_file({rename(name): t for name, t in weights.items() if t is not None},
              folder / "model.safetensors")


@torch.no_grad()
@pytest.mark.parametrize("changes", [
    {}, dict(tie_word_embeddings=False), dict(activation_function="gelu", n_inner=80),
    dict(activation_function="gelu_pytorch_tanh", layer_norm_epsilon=1e-2),
], ids=str)
def test_logits_and_loss_are_those_of_transformers(tmp_path, changes):
    theirs = their_model(tmp_path, **changes)
    ours = load_gpt2(tmp_path)
    ids = torch.randint(V, (3, T))
    wanted = theirs(ids, labels=ids)
    following = torch.nn.functional.pad(ids[:, 1:], (0, 1), value=-100)  # [B, T]
    out = ours(ids, labels=following)
    assert wanted.logits.std() > 0.5 and not ours.training  # else all would be close
    assert torch.allclose(out.logits, wanted.logits, atol=1e-5, rtol=1e-5)
    assert torch.allclose(out.loss, wanted.loss, atol=1e-5, rtol=0)


@torch.no_grad()
def test_keys_and_values_that_are_kept_are_those_of_transformers(saved):
    theirs, ours = GPT2LMHeadModel.from_pretrained(saved).eval(), load_gpt2(saved)
    ids, pasts = torch.randint(V, (2, 9)), [[], []]
    for end in (4, 5, 9):
        found = next_logits(ours, ids[:, :end], pasts)
    wanted = theirs(ids, use_cache=True)
    assert torch.allclose(found, wanted.logits[:, -1], atol=1e-5, rtol=1e-5)
    for past, layer in zip(pasts, wanted.past_key_values.layers, strict=True):
        keys, values = torch.cat(past, dim=-2)
        assert torch.allclose(keys, layer.keys, atol=1e-5)
        assert torch.allclose(values, layer.values, atol=1e-5)


@torch.no_grad()
def test_the_likeliest_text_is_that_of_transformers(saved):
    theirs, ours = GPT2LMHeadModel.from_pretrained(saved).eval(), load_gpt2(saved)
    ids = torch.tensor([5, 6, 7])
    wanted = theirs.generate(ids[None], attention_mask=torch.ones_like(ids[None]),
                             do_sample=False, max_new_tokens=12)[0]
    assert sample(ours, ids, 12, temperature=0, stop=0).tolist() == wanted.tolist()


def test_old_files_with_masks_and_without_a_prefix_load_too(saved, folder):
    masks = {f"h__{number}__attn__bias": torch.ones(1, 1, T, T) for number in range(2)}
    reweigh(folder, lambda name: name.removeprefix("transformer."), **masks)
    old, new = load_gpt2(folder), load_gpt2(saved)
    assert all(map(torch.equal, old.parameters(), new.parameters()))
    reweigh(folder, lm_head__weight=new.head.decoder.weight.detach().clone())
    assert all(map(torch.equal, load_gpt2(folder).parameters(), new.parameters()))


@pytest.mark.parametrize(("changes", "words"), [
    (dict(model_type="bert"), "model_type is 'bert'; only 'gpt2' is read here"),
    (dict(model_type=None), "model_type is None"),
    (dict(scale_attn_by_inverse_layer_idx=True), "scale_attn_by_inverse_layer_idx is True"),
    (dict(scale_attn_weights=False), "scale_attn_weights is False"),
    (dict(reorder_and_upcast_attn=True), "reorder_and_upcast_attn is True"),
    (dict(add_cross_attention=True), "add_cross_attention is True"),
    (dict(activation_function="relu"), "activation_function is 'relu'; only gelu_new, gelu_py"),
    (dict(activation_function=["gelu"]), r"activation_function is \['gelu'\]"),
    (dict(n_inner="large"), "n_inner is 'large'; it must be a number or null"),
    (dict(n_embd=None), "has no n_embd"), (dict(n_head=5), "no multiple of n_head"),
    (dict(layer_norm_epsilon="small"), "layer_norm_epsilon is 'small'"),
    (dict(n_inner=7), r"'h.0.mlp.c_fc.bias' is \(128,\), the model's is \(7,\)"),
    (dict(n_layer=3), "only config.json has a place for 'h.2.attn.c_attn.bias'"),
    (dict(n_layer=1), "only the weights have 'h.1.attn.c_attn.bias'"),
    (dict(tie_word_embeddings=False), "only config.json has a place for 'lm_head.weight'"),
    (dict(n_embd=40_000), "another shape"),  # before a byte of it is asked for
], ids=lambda value: value if isinstance(value, str) else "")
def test_another_model_is_refused_in_a_sentence(folder, changes, words):
    say(folder, **changes)
    with pytest.raises(InputError, match=words):
        load_gpt2(folder)


@pytest.mark.parametrize(("changes", "words"), [
    (dict(score__weight=torch.zeros(2, 32)), "only the weights have 'score.weight'"),
    (dict(transformer__ln_f__bias=None), "only config.json has a place for 'ln_f.bias'"),
    (dict(transformer__wpe__weight=torch.zeros(9, 32)), r"'wpe.weight' is \(9, 32\)"),
    (dict(transformer__h__0__attn__c_attn__weight=torch.zeros(96, 32)),
     r"is \(96, 32\), the model's is \(32, 96\)"),  # not transposed
    (dict(lm_head__weight=torch.zeros(V, 32)), "'lm_head.weight' of its own"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_weights_that_do_not_fit_are_refused_in_a_sentence(folder, changes, words):
    reweigh(folder, **changes)
    with pytest.raises(InputError, match=words):
        load_gpt2(folder)


def test_what_the_notebook_compares_with_is_what_transformers_computes_today():
    stored = load_file(REFERENCE / "expected.safetensors")
    for name, tensor in computed(GPT2LMHeadModel.from_pretrained(REFERENCE).eval()).items():
        assert torch.allclose(stored[name], tensor, atol=1e-5), name
