"""A run of BERT as published becomes a folder that transformers loads as its own."""

import json
from dataclasses import asdict

import pytest
import torch
from transformers import AutoTokenizer, BertForMaskedLM, pipeline

import bertlib
from bertlib.bert import BertConfig
from bertlib.bert import BertForMaskedLM as OurModel
from bertlib.checkpoint import Checkpoints
from bertlib.huggingface.__main__ import main
from bertlib.huggingface.writing import KIND, is_published
from bertlib.plumbing.files import InputError
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runs import Identity
from bertlib.predict import fill
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer

REPORT = dict(steps=7, source="mine.txt", held_out="passages", val_loss=2.5, val_accuracy=0.461,
              masked_words=1_234, tokens=5_678_900, minutes=9.96, seed=3, machine="a laptop",
              precision="torch.bfloat16", train_tokens=4_000_000, unigram_loss=6.9)


@pytest.fixture(params=[dict(tied=True, norm_eps=1e-12), dict(tied=False, norm_eps=1e-6)],
                ids=["tied", "untied"])
def run(request, tmp_path, tokenizer):
    """A run's folder with a small model whose numbers are large enough to matter."""
    folder = tmp_path / "runs" / "run0"
    folder.mkdir(parents=True)
    words = Tokenizer(tokenizer.vocab[:700], lowercase=False, strip_accents=True)
    words.save(folder)
    config = BertConfig(vocab_size=700, seq_len=24, d_model=32, n_head=4, n_layer=2,
                        init_std=0.3, **request.param)
    torch.manual_seed(0)
    model = OurModel(config).bfloat16().float()
    torch.nn.init.normal_(model.head.decoder.bias)
    write_json(folder / "run.json", asdict(Identity(
        "mine", asdict(config), Settings.make("smoke").as_dict(), words.sha256,
        words.rules.as_dict(), [])))
    Checkpoints(folder / "checkpoints").save({"model": model.bfloat16().float().state_dict(),
                                              "step": 7}, 7)
    return folder


@pytest.fixture
def folder(run, tmp_path):
    main([str(run), str(tmp_path / "my-model")])
    return tmp_path / "my-model"


def test_transformers_loads_all_of_it_and_nothing_else(run, folder):
    theirs, told = BertForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(told.values()), told
    ours, words = bertlib.load(folder)
    ids = torch.tensor([words.encode("The K\u00e9nig of [MASK] went to the SEA .")])
    assert AutoTokenizer.from_pretrained(folder)(words.decode(ids[0, 1:-1].tolist()) or "x")
    with torch.no_grad():
        logits = theirs.eval()(ids).logits
    assert logits.dtype == torch.float32 and logits.std() > 0.5
    for model in (ours, bertlib.load(run)[0]):
        assert torch.allclose(model(ids).logits, logits, atol=1e-4)


def test_text_is_cut_alike_and_no_longer_than_the_model_reads(folder):
    ours, theirs = bertlib.load(folder)[1], AutoTokenizer.from_pretrained(folder)
    for text in ("The K\u00e9nig of [MASK] went to the SEA .", "\u6f22\u5b57 don't"):
        assert theirs(text)["input_ids"] == ours.encode(text)
    assert len(theirs("sea " * 99, truncation=True)["input_ids"]) == 24


def test_a_pipeline_guesses_what_we_guess(folder):
    text = "the king of the [MASK] ."
    guesses = pipeline("fill-mask", model=str(folder), top_k=3)(text)
    wanted = fill(*bertlib.load(folder), text, 3)[0]
    assert [guess["token_str"] for guess in guesses] == [guess.token for guess in wanted]
    assert [guess["score"] for guess in guesses] == pytest.approx(
        [guess.probability for guess in wanted], abs=1e-5)


def test_the_card_tells_the_run_s_own_report(run, folder, capsys):
    card = (folder / "README.md").read_text()
    assert "nobody has scored these weights" in card and 'model="my-model"' in card
    write_json(run / "report.json", REPORT)
    main([str(run), str(folder)])
    assert "with the facts of report.json; bertlib and transformers" in capsys.readouterr().out
    card = (folder / "README.md").read_text()
    for line in ("| text | mine.txt |", "| tokens seen | 5,678,900 |", "| steps | 7 |",
                 "| minutes of training | 10.0 |", "| seed | 3 |", "| machine | a laptop |",
                 "| precision | torch.bfloat16 |", "| right first guesses there | 46.1% |",
                 "| loss on hidden words of held-out passages (nats) | 2.500 |",
                 "| hidden words scored | 1,234 |",
                 "| for comparison: loss of word frequencies | 6.900 |"):
        assert f"\n{line}\n" in card, line
    assert "2 layers, width 32, 4 heads" in card and "nobody has scored" not in card
    assert json.loads((folder / "training.json").read_text())["run"] == REPORT


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt", "training.json",
                                  "tokenizer_config.json"])
def test_what_was_changed_in_it_is_refused(folder, name):
    content = (folder / name).read_bytes()
    changed = {"model.safetensors": content[:-1] + bytes([content[-1] ^ 1]),
               "vocab.txt": content.replace(b"\nthe\n", b"\nteh\n"),
               "training.json": content.replace(b'"toy"', b'"mine"').replace(b"7", b"8"),
               "tokenizer_config.json": content.replace(b"false", b"true")}[name]
    assert changed != content
    (folder / name).write_bytes(changed)
    with pytest.raises(InputError):
        bertlib.load(folder)


def test_a_folder_with_the_words_of_another_model_is_left_alone(run, folder, refused):
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)  # a tokenizer.json
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "holds the tokenizer.json of another model" in refused(main, run, folder)
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


def test_only_bert_as_published_is_written_so():
    base = BertConfig()
    assert is_published(base) and is_published(BertConfig.preset("tiny"))
    for name in ("wiki", "fast"):
        assert not is_published(BertConfig.preset(name))
    others = dict(norm="pre", position="sinusoidal", activation="relu2", head_transform=False,
                  bias=False, qk_norm=True, causal=True, embedding_norm=False)
    assert others.keys() == set(KIND)
    for name, value in others.items():
        assert not is_published(BertConfig(**{name: value}))
    assert not is_published(BertConfig(n_token_type=0))
