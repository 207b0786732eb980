"""A classifier's folder: transformers reads it, and says the same; so do we of theirs."""

import json
import random

import pytest
import torch
from transformers import AutoTokenizer, BertForSequenceClassification, pipeline
from transformers import BertConfig as TheirConfig

from bertlib.bert import BertConfig, Encoder
from bertlib.finetune import Classifier, load, predict, save
from bertlib.finetune.classifier import judge
from bertlib.finetune.examples import Examples
from bertlib.huggingface import MODEL
from bertlib.huggingface import load as load_pretrained
from bertlib.plumbing.files import InputError

LABELS = ("bad", "so so", "good")


def texts(count: int, pairs: bool) -> list[tuple[str, ...]]:
    draw = random.Random(1)
    words = ["the", "king", "went", "to", "unforgettable", "cities", ".", "café"]
    return [tuple(" ".join(draw.choices(words, k=draw.randint(1, 15))) for _ in range(1 + pairs))
            for _ in range(count)]


def classifier(tokenizer, preset="bert_base", labels=LABELS, **changes) -> Classifier:
    """A small one with random weights that are large enough to matter."""
    torch.manual_seed(0)
    shape = dict(vocab_size=len(tokenizer), seq_len=24, d_model=32, n_head=4, n_layer=2)
    encoder = Encoder(BertConfig.preset(preset, **shape))
    model = Classifier(encoder, labels, tokenizer.special.sep, **changes).eval()
    for parameter in model.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=0.4)
    return model


@pytest.mark.parametrize("pairs", [False, True])
def test_transformers_reads_texts_and_weights_alike(tokenizer, tmp_path, pairs):
    model = classifier(tokenizer)
    save(model, tokenizer, tmp_path / "out", {})
    theirs = BertForSequenceClassification.from_pretrained(tmp_path / "out").eval()
    reader = AutoTokenizer.from_pretrained(tmp_path / "out")
    asked = texts(40, pairs)
    batch = reader(*zip(*asked, strict=True), truncation=True, padding=True, return_tensors="pt")
    examples = Examples(tokenizer, asked, 24)
    mine = examples.frozen(slice(None))
    assert torch.equal(mine.input_ids, batch["input_ids"])
    assert 0 < examples.cut < 40
    kinds = model.token_types(mine.input_ids, mine.attention_mask)
    assert torch.equal(kinds, batch["token_type_ids"]) and bool(kinds.any()) is pairs
    with torch.no_grad():
        wanted = theirs(**batch).logits
    assert (judge(model, examples) - wanted).abs().max() < 1e-4
    assert wanted.std(0).min() > 0.1  # they do depend on the text


def test_the_pipeline_predicts_the_same(tokenizer, tmp_path):
    model = classifier(tokenizer)
    save(model, tokenizer, tmp_path / "out", {})
    asked = [text for text, in texts(20, False)]
    theirs = pipeline("text-classification", str(tmp_path / "out"), device="cpu")
    ours = predict(model, tokenizer, asked)
    for answer, said in zip(ours, theirs(asked, truncation=True), strict=True):
        assert answer.label == said["label"] in LABELS
        assert answer.score == pytest.approx(said["score"], abs=1e-4)
    assert len({answer.label for answer in ours}) > 1


def test_the_pipeline_predicts_the_same_numbers(tokenizer, tmp_path):
    model = classifier(tokenizer, labels=("score",), regression=True)
    model.rescale(50.0, 10.0)
    save(model, tokenizer, tmp_path / "out", {})
    asked = [text for text, in texts(20, False)]
    theirs = pipeline("text-classification", str(tmp_path / "out"), device="cpu")
    for answer, said in zip(predict(model, tokenizer, asked), theirs(asked, truncation=True),
                            strict=True):
        assert answer.score == pytest.approx(said["score"], abs=1e-3)
        assert answer.label == said["label"] == "score"


def test_the_loss_is_theirs(tokenizer, tmp_path):
    for labels, regression in ((LABELS, False), (("score",), True)):
        model = classifier(tokenizer, labels=labels, regression=regression)
        save(model, tokenizer, tmp_path / labels[0], {})
        theirs = BertForSequenceClassification.from_pretrained(tmp_path / labels[0]).eval()
        told = torch.randn(40) if regression else torch.randint(3, (40,))
        batch = Examples(tokenizer, texts(40, True), 24, told).frozen(slice(None))
        kinds = model.token_types(batch.input_ids, batch.attention_mask)
        wanted = theirs(batch.input_ids, batch.attention_mask, kinds, labels=told).loss
        found = model(batch.input_ids, batch.positions, told, batch.attention_mask).loss
        assert torch.allclose(found, wanted, atol=1e-5)


def test_a_classifier_of_theirs_is_read(tokenizer, tmp_path):
    torch.manual_seed(0)
    theirs = BertForSequenceClassification(TheirConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=24, initializer_range=0.2, num_labels=2,
    )).eval()
    theirs.save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    model, words = load(tmp_path)
    assert model.labels == ("LABEL_0", "LABEL_1") and not model.training
    batch = Examples(words, texts(20, False), 24).frozen(slice(None))
    with torch.no_grad():
        wanted = theirs(batch.input_ids, batch.attention_mask).logits
        found = model(batch.input_ids, None, None, batch.attention_mask).logits
    assert (found - wanted).abs().max() < 1e-4


@pytest.mark.parametrize(("preset", "changes"), [
    ("bert_base", {}), ("fast", {}), ("wiki", {}), ("fast", dict(regression=True))])
def test_a_saved_classifier_comes_back(tokenizer, tmp_path, preset, changes):
    model = classifier(tokenizer, preset, LABELS[:1] if changes else LABELS, **changes)
    save(model, tokenizer, tmp_path / "out", {"seed": 1})
    back, words = load(tmp_path / "out")
    assert back.labels == model.labels and back.regression == model.regression
    assert words.vocab == tokenizer.vocab and not back.training
    examples = Examples(tokenizer, texts(20, False), 24)
    assert torch.equal(judge(back, examples), judge(model, examples))
    told = json.loads((tmp_path / "out" / "config.json").read_text())
    assert ("model_type" in told) is (preset == "bert_base")


def test_a_damaged_or_foreign_folder_is_refused(tokenizer, tmp_path):
    folder = tmp_path / "out"
    save(classifier(tokenizer), tokenizer, folder, {})
    config, weights = folder / "config.json", folder / "model.safetensors"
    said, whole = config.read_text(), weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match="SHA-256 differs from training.json"):
        load(folder)
    weights.write_bytes(whole)
    for old, new, words in (('"num_hidden_layers": 2', '"num_hidden_layers": 3', "only the model"),
                            ('"1": "so so"', '"7": "so so"', "no id2label"),
                            ('"id2label"', '"id"', "another shape"),  # theirs has two by default
                            ('"model_type"', '"kind"', "describes no model"),
                            ('"2": "good"', '"2": "good", "3": "more"', "another shape")):
        assert old in said
        config.write_text(said.replace(old, new))
        with pytest.raises(InputError, match=words):
            load(folder)
    with pytest.raises(InputError, match="no id2label"):
        load(MODEL)
    with pytest.raises(InputError):
        load(tmp_path / "none")
    config.write_text(said)
    with pytest.raises(InputError, match="masked-word head"):
        load_pretrained(folder)
