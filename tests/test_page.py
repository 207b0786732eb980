"""A model as one HTML file: what is packed, what is refused, what is written."""

import fnmatch
import re
import tomllib

import pytest
import torch
from safetensors.torch import load as load_tensors

from bertlib import page
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.huggingface import load, save_shipped
from bertlib.page import document, pack
from bertlib.page.__main__ import main
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.vocab import SPECIAL_TOKENS, save_vocab
from bertlib.tokens import Tokenizer

REFERENCE = PROJECT / "assets" / "reference"
TABLE = "encoder.embeddings.token.weight"


@pytest.fixture(scope="module")
def reference():
    return load(REFERENCE)


def test_int8_is_off_by_half_a_step_of_each_row_at_most(reference):
    model, _ = reference
    packed, weights = load_tensors(pack(*reference)), model.state_dict()
    del weights["head.decoder.weight"]  # tied: it is stored once
    coarse = {name for name in weights if weights[name].ndim == 2
              and ("embeddings.token." in name or "feed_forward" in name)}
    assert len(coarse) == 5  # the table, and two matrices in each of two blocks
    assert packed.keys() == weights.keys() | {f"{name}.scale" for name in coarse}
    for name, wanted in weights.items():
        if wanted.ndim == 1:
            assert torch.equal(packed[name], wanted)
            continue
        if name not in coarse:
            assert torch.equal(packed[name], wanted.bfloat16())
            continue
        scale = packed[f"{name}.scale"][:, None]
        assert packed[name].dtype == torch.int8 and packed[name].abs().max() == 127
        assert ((packed[name] * scale - wanted).abs() <= scale * 0.5001).all()
        assert torch.allclose(scale[:, 0] * 127, wanted.abs().amax(1))


def test_bf16_is_pytorchs_bfloat16_and_a_decoder_of_its_own_is_kept(reference):
    model, tokenizer = reference
    torch.manual_seed(0)
    own = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer), tied=False))
    for packed_model in (model, own):
        packed, weights = load_tensors(pack(packed_model, tokenizer, "bf16")), {
            name: tensor.bfloat16() if tensor.ndim == 2 else tensor
            for name, tensor in packed_model.state_dict().items()}
        if packed_model is model:
            del weights["head.decoder.weight"]
        assert packed.keys() == weights.keys()
        assert all(torch.equal(packed[name], wanted) for name, wanted in weights.items())


def test_a_row_of_zeros_stays_one(tokenizer):
    model = BertForMaskedLM(BertConfig.preset("bert", vocab_size=len(tokenizer), n_layer=1))
    packed = load_tensors(pack(model, tokenizer))
    assert not packed["encoder.blocks.0.feed_forward.down.weight"].any()
    assert not packed["encoder.blocks.0.feed_forward.down.weight.scale"].any()


def test_a_model_takes_little_more_than_a_byte_a_weight_and_always_the_same_bytes(tokenizer):
    model = BertForMaskedLM(BertConfig.preset("bert", vocab_size=len(tokenizer)))
    content = pack(model, tokenizer)
    assert model.n_parameters() < len(content) < 1.3 * model.n_parameters()
    assert content == pack(model, tokenizer)


@pytest.mark.parametrize(("preset", "changes", "words"), [
    ("fast", {}, "norm='pre', position='distance', activation='relu2'"),
    ("tiny", {"n_token_type": 0}, "n_token_type=0"), ("tiny", {"bias": False}, "bias=False"),
])
def test_what_is_no_bert_as_published_is_refused(
        preset, changes, words, tokenizer, tmp_path, refused):
    model = BertForMaskedLM(BertConfig.preset(
        preset, vocab_size=len(tokenizer), d_model=32, n_layer=1, **changes))
    save_shipped(model, tokenizer, tmp_path / "model", {})
    said = refused(main, "--model", tmp_path / "model", tmp_path / "out.html")
    assert f"The model in '{tmp_path / 'model'}' has {words}" in said
    assert "a page computes BERT as published" in said
    with pytest.raises(InputError, match="The model has"):
        pack(model, tokenizer)
    with pytest.raises(InputError, match="weights is 'int4'; it must be one of int8, bf16"):
        pack(BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer))), tokenizer,
             "int4")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_command_writes_one_file_that_names_no_other(published, tmp_path, capsys):
    folder = published.rename(published.with_name("<i>&"))
    out = folder / "out.html"
    main(["--model", str(folder), str(out)])
    text = out.read_text(encoding="utf-8")
    assert f"{out.stat().st_size:,} bytes" in capsys.readouterr().out
    assert "What &lt;i&gt;&amp; guesses" in text and "<i>" not in text
    assert not re.search(r"https?:|\bsrc=|\bhref=|@import|\bimport\b *\(|url\(", text)
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_what_cannot_be_written_is_refused_and_leaves_all_as_it_was(published, refused):
    old = published / "out.html"
    old.write_text("old")
    assert "does not exist" in refused(main, "--model", published, published / "no" / "out.html")
    assert "cannot be read or written" in refused(main, "--model", published, published)
    assert "invalid choice: 'int4'" in refused(
        main, "--model", published, "--weights", "int4", old)
    (published / "config.json").write_text("{")
    assert "damaged" in refused(main, "--model", published, old)
    assert old.read_text() == "old"


def test_a_model_that_no_browser_could_hold_as_text_is_refused(reference, monkeypatch):
    content = pack(*reference)
    monkeypatch.setattr(page, "LONGEST_TEXT", 1_000)
    with pytest.raises(InputError, match="characters, a browser holds at most 1,000"):
        document(content, "large")


def test_no_word_of_the_vocabulary_ends_the_script_that_holds_it(tmp_path):
    save_vocab([*SPECIAL_TOKENS, "</script><b>", "<!--"], tmp_path / "vocab.txt")
    tokenizer = Tokenizer.load(tmp_path)
    text = document(pack(BertForMaskedLM(BertConfig.preset("tiny", vocab_size=7)), tokenizer), "")
    assert "<b>" not in text and len(re.findall("</script", text)) == 4
    scripts = [path.read_text() for path in page.HERE.glob("*.js")]
    assert len(scripts) == 10 and not re.search(r"<(/?script|!--)", "".join(scripts), re.I)


def test_what_the_page_is_made_of_is_installed_with_it():
    told = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "bertlib.page" in told["packages"]
    for path in page.HERE.iterdir():
        patterns = told["package-data"]["bertlib.page"]
        assert path.suffix in (".py", "") or any(
            fnmatch.fnmatch(path.name, pattern) for pattern in patterns), path.name
