"""Models that travel: any folder with a model loads by one name; a run becomes one that ships."""

import json
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch
from parity import REFERENCE

import bertlib
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.huggingface import MODEL, kind_of, load, load_shipped, save_shipped
from bertlib.huggingface.__main__ import main
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runs import Identity
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer

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
    with pytest.raises(InputError, match="SHA-256 differs from config.json"):
        load_shipped(tmp_path)
    weights.write_bytes(whole)
    for changed, words in ((told.replace('"n_layer": 2', '"n_layer": 3'), "only the model has"),
                           (told.replace('"n_layer"', '"layers"'), "describes no model"),
                           (told.replace('"vocab_sha256": "', '"vocab_sha256": "x'), "vocabulary"),
                           (told[:-9], "is damaged"), ("[]", "Expected `object`")):
        config.write_text(changed)
        if changed.endswith("}"):  # as somebody would who also renews the seal
            write_json(config, json.loads(changed))
        with pytest.raises(InputError, match=words):
            load_shipped(tmp_path)
    with pytest.raises(InputError, match="nowhere"):
        load_shipped(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def a_run(tmp_path_factory, tokenizer):
    """A run's folder: two checkpoints, the first one better, and words of its own."""
    folder = tmp_path_factory.mktemp("base") / "runs" / "run0"
    folder.mkdir(parents=True)
    own = Tokenizer([*tokenizer.vocab[:500], "café"], lowercase=True, strip_accents=False)
    config = BertConfig.preset("fast", vocab_size=len(own), d_model=32, n_layer=2, seq_len=32)
    own.save(folder)
    run = Identity("toy", asdict(config), Settings.make("smoke").as_dict(), own.sha256,
                   own.rules.as_dict(), [])
    write_json(folder / "run.json", asdict(run))
    (folder / "checkpoints").mkdir()
    kept = Checkpoints(folder / "checkpoints")
    for step, loss in ((3, 1.0), (7, 2.0)):
        torch.manual_seed(step)
        weights = BertForMaskedLM(config).bfloat16().float().state_dict()
        kept.save({"model": weights, "step": step}, step)
        kept.save_best(weights, step, loss, 0)
    return folder


@pytest.fixture
def run(a_run, tmp_path):
    """A copy of the run elsewhere: nothing lies around it."""
    return shutil.copytree(a_run, tmp_path / "moved")


def same(model, other) -> bool:
    states = model.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_a_run_is_loaded_with_its_own_words_wherever_it_lies(run):
    model, own = load(run)
    assert kind_of(run) == "run" and not model.training
    assert own.tokens(own.encode("Café", False)) == ["café"]  # its own rules, too
    best, _ = load(run, best=True)
    states = Checkpoints(run / "checkpoints")
    for found, state in ((model, states.newest()), (best, states.best_state())):
        assert torch.equal(found.encoder.embeddings.token.weight,
                           state["model"]["encoder.embeddings.token.weight"])
    assert not same(model, best)


def test_all_kinds_are_loaded_by_one_name(run, tmp_path):
    trained, words = bertlib.load(MODEL)
    assert same(trained, load()[0]) and words.lowercase
    assert bertlib.load(str(REFERENCE))[0].config.d_model != trained.config.d_model
    assert bertlib.load(run)[0].config.norm == "pre"
    save_shipped(trained, words, tmp_path / "shipped", {})
    assert [kind_of(folder) for folder in (MODEL, REFERENCE, tmp_path / "shipped", run)] == [
        "published", "published", "shipped", "run"]
    with pytest.raises(InputError, match="leave out best"):
        load(MODEL, best=True)
    with pytest.raises(InputError, match="no folder.*nowhere"):
        load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{}")
    for folder in (run.parent, run / "checkpoints"):
        with pytest.raises(InputError, match="run.json, .*'model'.*'model_type'"):
            load(folder)


def change(path, old: str, new: str) -> None:
    """As somebody would who also renews the seal."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    if '"seal"' in text and old != "{":
        write_json(path, json.loads(path.read_text()))


@pytest.mark.parametrize(("name", "old", "new", "words"), [
    ("run.json", "{", "", "is damaged"),
    ("run.json", '"version": 2', '"version": 3', "version 3"),
    ("run.json", '"datasets"', '"data"', "is damaged"),
    ("run.json", '"n_layer": 2', '"n_layer": 3', "only the model has"),
    ("run.json", '"n_layer": 2', '"n_layer": "2"', "describes no model"),
    ("run.json", '"n_head": 4', '"n_head": 5', "describes no model"),
    ("run.json", '"vocab_sha256": "', '"vocab_sha256": "x', "501 tokens"),
    ("vocab.txt", "\nz\n", "\nzzq\n", "is not the model's"),
    ("tokenizer_config.json", "false", "0", "strip_accents is 0"),
    ("tokenizer_config.json", "false", "true", 'washed by other rules.*"strip_accents": false'),
])
def test_a_damaged_run_is_refused(run, name, old, new, words):
    change(run / name, old, new)
    with pytest.raises(InputError, match=words):
        load(run)


def test_no_letter_of_a_sealed_file_changes_unseen(run):
    path, (wanted, _) = run / "run.json", load(run)
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        try:
            found, _ = load(run)
        except InputError as error:
            assert "run.json" in str(error)
        else:  # a space of another kind: it says the same
            assert json.loads(flipped) == json.loads(content) and same(found, wanted)


def test_a_run_without_its_index_is_found_and_said(run, capsys):
    index = run / "checkpoints" / "index.json"
    for word in ("missing", "damaged"):
        if word == "missing":
            index.unlink()
        else:
            index.write_text('{"best": null')
        wanted = torch.load(run / "checkpoints" / "step_00000007.pt")["model"]
        found = load(run)[0].state_dict()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)
        assert f"index.json' is {word}: 2 states" in capsys.readouterr().err
        best = torch.load(run / "checkpoints" / "best_00000003.pt")["model"]
        name = "encoder.embeddings.token.weight"
        assert torch.equal(load(run, best=True)[0].state_dict()[name], best[name])


def test_a_damaged_checkpoint_that_is_passed_over_is_said(run, capsys):
    path = run / "checkpoints" / "step_00000007.pt"
    path.write_bytes(path.read_bytes()[:-1])
    found = load(run)[0].state_dict()
    wanted = torch.load(run / "checkpoints" / "step_00000003.pt")["model"]
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert "step 7 is passed over" in capsys.readouterr().err


def test_a_run_without_a_whole_checkpoint_or_words_is_refused(run):
    for path in (run / "checkpoints").glob("*.pt"):
        path.write_bytes(b"x")
    with pytest.raises(InputError, match="whole"):
        load(run)
    shutil.rmtree(run / "checkpoints")
    with pytest.raises(InputError, match="no checkpoint yet"):
        load(run)
    (run / "vocab.txt").unlink()
    with pytest.raises(InputError, match="no vocabulary"):
        load(run)


def test_loading_a_model_loads_nothing_that_trains(run):
    code = ("import sys, bertlib\nassert 'torch' not in sys.modules\n"
            "model, tokenizer = bertlib.load(sys.argv[1])\nprint(*sys.modules)")
    done = subprocess.run([sys.executable, "-c", code, run], cwd=PROJECT, capture_output=True,
                          text=True, check=True)
    loaded = set(done.stdout.split())
    for name in ("tensorboard", "torch.utils.tensorboard", "torch.distributed.elastic",
                 "bertlib.pretrain", "bertlib.trainer", "matplotlib"):
        assert name not in loaded, name


def test_a_run_becomes_a_model_that_ships(run, tmp_path, capsys):
    wanted, out = load(run)[0], tmp_path / "deep" / "out"
    main([str(run), str(out)])
    assert "step 7, with the facts of run.json" in capsys.readouterr().out
    model, words = load(out)
    assert kind_of(out) == "shipped" and same(model, wanted)
    assert words.tokens(words.encode("Café", False)) == ["café"]
    facts = json.loads((out / "config.json").read_text())["run"]
    assert facts["steps"] == 7 and facts["label"] == "toy" and "model" not in facts
    write_json(run / "report.json", {"steps": 7, "val_loss": 2.5})
    main([str(run), str(out)])
    assert json.loads((out / "config.json").read_text())["run"]["val_loss"] == 2.5
    write_json(run / "report.json", {"steps": 3, "val_loss": 9.9})  # of another step
    main([str(run), str(out)])
    assert "run.json" in capsys.readouterr().out
    assert "val_loss" not in json.loads((out / "config.json").read_text())["run"]


def test_the_command_refuses_what_is_no_run(run, refused, tmp_path):
    assert "two folders" in refused(main)
    assert "no run's folder" in refused(main, MODEL, tmp_path / "out")
    assert "holds no model" in refused(main, run / "checkpoints", tmp_path / "out")
    assert "is a run's folder" in refused(main, run, run)
    (tmp_path / "file").write_text("")
    assert "Cannot make the folder" in refused(main, run, tmp_path / "file")
    assert not (tmp_path / "out").exists()
