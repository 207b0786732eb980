"""Fine-tuning: it learns, by the steps that were meant, and a stopped run loses nothing."""

import json
import os
import random
import signal
from dataclasses import asdict

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.finetune import Tuner, Tuning, build, layer_groups, load, predict, read, score, tune
from bertlib.finetune.__main__ import main
from bertlib.finetune.examples import Examples, LengthBatches
from bertlib.huggingface import save_shipped
from bertlib.plumbing.commands import run_command
from bertlib.plumbing.files import InputError
from bertlib.plumbing.runlog import read_metrics
from bertlib.plumbing.tables import Row

QUICK = Tuning(epochs=4, batch_size=8, learning_rate=3e-3, device="cpu", precision="float32")
WORDS = ["the", "king", "went", "to", "city", "and", "saw", "river", "house", "of", "people"]


def sentence(draw: random.Random, word: str) -> str:
    words = draw.choices(WORDS, k=draw.randint(2, 12))
    words.insert(draw.randrange(len(words)), word)
    return " ".join(words)


def some_rows(count: int, seed: int) -> list[Row]:
    """Sentences that are good or bad, by one word each."""
    draw = random.Random(seed)
    labels = draw.choices(["bad", "good"], k=count)
    return [Row(f"row {number}", (sentence(draw, label),), label)
            for number, label in enumerate(labels)]


@pytest.fixture(scope="module")
def start(tokenizer, tmp_path_factory):
    """The folder of a small model with random weights."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("start")
    config = BertConfig(len(tokenizer), seq_len=32, d_model=32, n_head=2, n_layer=2, init_std=0.1)
    save_shipped(BertForMaskedLM(config), tokenizer, folder, {})
    return folder


@pytest.fixture(scope="module")
def rows():
    return some_rows(96, 1), some_rows(32, 2)


def make_tuner(start, rows, folder, tuning) -> Tuner:
    model, tokenizer = build(start, ("bad", "good"), tuning)
    return Tuner(tuning, model, *(read(model, tokenizer, part) for part in rows), folder)


def test_it_learns_what_a_word_tells_and_reports_it(start, rows, tmp_path):
    report = tune(start, *rows, tmp_path / "out", QUICK, test=some_rows(40, 3))
    assert report["val"]["accuracy"] > 0.9 and report["test"]["accuracy"] > 0.9
    assert np.sum(report["test"]["confusion"]) == report["test"]["examples"] == 40
    assert report["steps"] == 4 * 12 and report["settings"]["learning_rate"] == 3e-3
    model, tokenizer = load(tmp_path / "out")
    assert score(model, tokenizer, rows[1]) == report["val"]
    said = predict(model, tokenizer, ["the king saw good people", "the bad river"])
    assert [answer.label for answer in said] == ["good", "bad"]
    assert all(answer.score > 0.5 for answer in said)
    stored = json.loads((tmp_path / "out" / "report.json").read_text())
    assert stored["val"] == report["val"] and stored["machine"] and stored["minutes"] > 0
    assert stored["start"] == start.name  # what is shared tells no path


def test_numbers_are_learned_in_their_own_unit(start, tmp_path):
    draw = random.Random(5)
    price = {"good": 9_000.0, "bad": 5_000.0}
    train, val = ([row._replace(label=str(price[row.label] + draw.gauss(0, 100)))
                   for row in some_rows(96, seed)] for seed in (1, 2))
    tuning = Tuning(**asdict(QUICK) | dict(regression=True, epochs=8))
    report = tune(start, train, val, tmp_path / "out", tuning)
    assert report["val"]["pearson"] > 0.9 and report["val"]["rmse"] < 1_000
    (name, number), = predict(*load(tmp_path / "out"), [train[0].texts])
    assert name == "score" and number == pytest.approx(float(train[0].label), abs=1_500)


def test_the_steps_are_those_of_a_plain_loop(start, rows, tmp_path):
    """Rates by layer, warm-up, decay, clipping, frozen layers: each in the fewest words."""
    tuning = Tuning(epochs=1, batch_size=8, learning_rate=1e-2, layer_decay=0.5, warmup=0.25,
                    weight_decay=0.3, dropout=0.0, freeze=1, device="cpu", precision="float32")
    tuner, (model, tokenizer) = make_tuner(start, rows, tmp_path, tuning), build(
        start, ("bad", "good"), tuning)
    block, batches = model.encoder.blocks[1], LengthBatches(read(model, tokenizer, rows[0]), 8, 1)
    parts = {0.005: list(block.parameters()),
             0.01: [*model.pooler.parameters(), *model.classifier.parameters()]}
    learned = [p for group in parts.values() for p in group]
    optimizer = torch.optim.AdamW([
        {"params": [p for p in group if (p.ndim == 2) is decays], "peak": peak,
         "weight_decay": 0.3 * decays} for peak, group in parts.items() for decays in (True, False)
    ])
    for step in range(12):
        batch = batches.next(8, 0)
        loss = F.cross_entropy(model(batch.input_ids, None, None, batch.attention_mask).logits,
                               batch.labels)
        for parameter, gradient in zip(learned, torch.autograd.grad(loss, learned), strict=True):
            parameter.grad = gradient
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * ((step + 1) / 3 if step < 3 else 1 - step / 12)
        optimizer.step()
    tuner.run()
    for name, weight in tuner.model.named_parameters():
        assert torch.allclose(weight, model.get_parameter(name), atol=1e-5), name


def test_frozen_layers_stay_and_all_others_move(start, rows, tmp_path):
    for freeze, still in ((0, ()), (1, ("encoder.embeddings.", "encoder.blocks.0."))):
        tuning = Tuning(**asdict(QUICK) | dict(freeze=freeze, epochs=1))
        tuner = make_tuner(start, rows, tmp_path / str(freeze), tuning)
        before = {name: p.clone() for name, p in tuner.model.named_parameters()}
        tuner.run()
        for name, parameter in tuner.model.named_parameters():
            assert torch.equal(parameter, before[name]) == name.startswith(still or "-"), name


def test_rates_fall_layer_by_layer(start):
    tuning = Tuning(learning_rate=0.1, layer_decay=0.5)
    model, _ = build(start, ("a", "b"), tuning)
    rates = {id(p): group["peak_lr"] for group in layer_groups(model, tuning)
             for p in group["params"]}
    wanted = {"embeddings": 0.0125, "blocks.0": 0.025, "blocks.1": 0.05}
    assert len(rates) == len(list(model.parameters()))
    for name, parameter in model.named_parameters():
        rate = next((rate for part, rate in wanted.items() if part in name), 0.1)
        assert rates[id(parameter)] == pytest.approx(rate), name


def test_a_run_ends_when_validation_gets_no_better_and_keeps_the_best(start, rows, tmp_path):
    """Half of the labels to validate on are turned round, so that being sure costs."""
    val = [row._replace(label=random.Random(n).choice(["bad", "good"]))
           for n, row in enumerate(rows[1])]
    tuning = Tuning(**asdict(QUICK) | dict(epochs=30, patience=3))
    report = tune(start, rows[0], val, tmp_path / "out", tuning)
    looks = read_metrics(tmp_path / "out.training" / "runs" / "run0", "val")
    best = min(looks[1:], key=lambda look: look["loss"])
    assert report["best_step"] == best["step"]
    assert report["steps"] == best["step"] + 3 * 6 == looks[-1]["step"] < 30 * 12
    assert report["val"]["accuracy"] == pytest.approx(best["accuracy"])


class Stop:
    """Watches a run, and at a step presses Ctrl-C or dies."""

    def __init__(self, step, dies):
        self.step, self.dies = step, dies

    def __call__(self, step, model, folder):
        if step == self.step and self.dies:
            raise SystemExit
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def stop_and_go_on(start, rows, out, tuning, step=8, dies=True) -> bytes:
    """The weights of a run that stopped at a step, and was called again."""
    try:
        assert tune(start, *rows, out, tuning, watch=Stop(step, dies)) is None
    except SystemExit:
        assert dies
    kept = Checkpoints(out.with_name(f"{out.name}.training") / "runs" / "run0" / "checkpoints")
    assert (kept.best and kept.best["step"]) == (6 if step > 6 else None) and not out.exists()
    assert tune(start, *rows, out, tuning)["best_step"] > 8
    assert not (kept.folder.parents[1] / "run1").exists()
    return (out / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def straight(start, rows, tmp_path_factory) -> bytes:
    """The weights of a run that nobody stopped."""
    out = tmp_path_factory.mktemp("straight") / "out"
    tune(start, *rows, out, QUICK)
    return (out / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("step", "dies", "minutes"), [
    (8, True, 0.0), (8, True, 5.0), (8, False, 5.0), (4, False, 5.0)])
def test_a_stopped_run_ends_with_the_same_weights_bit_for_bit(start, rows, straight, tmp_path,
                                                              step, dies, minutes):
    """It stops between looks at validation: what is seen there must not become the best."""
    tuning = Tuning(**asdict(QUICK) | dict(checkpoint_minutes=minutes))
    assert stop_and_go_on(start, rows, tmp_path / "out", tuning, step, dies) == straight


def test_a_run_that_forgot_its_random_state_ends_elsewhere(
        start, rows, straight, tmp_path, monkeypatch):
    monkeypatch.setattr("bertlib.trainer.set_random_state", lambda *state: None)
    tuning = Tuning(**asdict(QUICK) | dict(checkpoint_minutes=0.0))
    assert stop_and_go_on(start, rows, tmp_path / "out", tuning) != straight


def test_other_rows_settings_or_weights_begin_another_run(start, rows, tmp_path):
    out, other = tmp_path / "out", Tuning(**asdict(QUICK) | dict(seed=2))
    turned = [rows[0][0]._replace(label="good"), *rows[0][1:]]
    assert turned != rows[0]
    for train, tuning, step in ((rows[0], QUICK, 2), (turned, QUICK, 2), (rows[0], other, 2),
                                (rows[0], QUICK, 4)):  # the first one goes on
        assert tune(start, train, rows[1], out, tuning, watch=Stop(step, False)) is None
    runs = tmp_path / "out.training" / "runs"
    steps = {path.name: Checkpoints(path / "checkpoints").newest()["step"]
             for path in runs.iterdir()}
    assert steps == {"run0": 4, "run1": 2, "run2": 2}


def test_from_scratch_is_another_model_of_the_same_shape(start):
    tuned, fresh = (build(start, ("a", "b"), Tuning(from_scratch=scratch))[0].encoder
                    for scratch in (False, True))
    old, new = tuned.blocks[0].feed_forward.up.weight, fresh.blocks[0].feed_forward.up.weight
    assert old.shape == new.shape and not torch.equal(old, new)
    again = build(start, ("a", "b"), Tuning(from_scratch=True))[0].encoder
    assert torch.equal(new, again.blocks[0].feed_forward.up.weight)


def test_each_epoch_has_every_example_once_in_batches_of_about_one_length(tokenizer):
    draw = random.Random(0)
    texts = [("the " * draw.randint(1, 28),) for _ in range(333)]
    examples = Examples(tokenizer, texts, 32, torch.arange(333))
    batches, seen, wasted = LengthBatches(examples, 16, 7), [], 0
    states = []
    for _ in range(2 * len(batches)):
        states.append(batches.state())
        batch = batches.next(16, 0)
        seen.append(batch.labels.tolist())
        wasted += 0 if batch.attention_mask is None else int((~batch.attention_mask).sum())
    first, second = sum(seen[:21], []), sum(seen[21:], [])
    assert sorted(first) == sorted(second) == list(range(333)) and first != second
    assert wasted < 0.1 * 2 * examples.lengths.sum()
    longest = [max(examples.lengths[labels]) for labels in seen[:21]]
    assert longest != sorted(longest)  # shuffled again
    again = LengthBatches(examples, 16, 7)
    again.restore(states[30])
    assert [again.next(16, 0).labels.tolist() for _ in range(12)] == seen[30:]


def test_predictions_are_in_the_order_of_the_texts_whatever_their_length(start, tokenizer):
    model, _ = build(start, ("a", "b"), Tuning())
    torch.nn.init.normal_(model.classifier.weight)
    texts = ["the " * n + "king" for n in (9, 1, 30, 4) * 20]
    assert model.training
    together, alone = predict(model, tokenizer, texts), [
        predict(model, tokenizer, [text])[0] for text in texts[:4]]
    assert model.training  # and dropout was off, else they would differ
    for number, answer in enumerate(together):
        assert answer.label == alone[number % 4].label
        assert answer.score == pytest.approx(alone[number % 4].score, abs=1e-6)


def csv(path, *lines: str):
    path.write_text("\n".join(lines) + "\n")
    return path


def test_two_texts_a_row_are_told_apart(start, tmp_path, capsys):
    """The label says which of both is good: as one bag of words the rows are all alike."""
    draw, lines = random.Random(1), []
    for number in range(160):
        both = [sentence(draw, "good"), sentence(draw, "bad")]
        lines.append(",".join([*both[:: 1 if number % 2 else -1], str(number % 2)]))
    table = csv(tmp_path / "t.csv", "a,b,label", *lines)
    options = ["--epochs", "16", "--batch-size", "8", "--learning-rate", "3e-3", "--dropout", "0",
               "--device", "cpu", "--patience", "0"]
    for name, columns in {"one": ["a", "--pair", "b"], "two": ["a", "--text", "b"]}.items():
        main(["--model", str(start), "--train", str(table), "--out", str(tmp_path / name),
              "--text", *columns, *(options if name == "one" else [*options, "--epochs", "1"])])
    one, two = (json.loads((tmp_path / name / "report.json").read_text())
                for name in ("one", "two"))
    assert one["val"]["accuracy"] > 0.9 and two["steps"] == one["steps"] / 16


def test_the_command_trains_on_a_table_and_answers_another(start, tmp_path, capsys):
    table = csv(tmp_path / "t.csv", "text,label,id", *(
        f"{row.texts[0]},{row.label},1" for row in some_rows(60, 1)))
    tuned = ["--model", start, "--train", table, "--out", tmp_path / "out", "--epochs", 1,
             "--batch-size", 8, "--learning-rate", 3e-3, "--device", "cpu"]
    main([str(word) for word in tuned])
    said = "".join(capsys.readouterr())
    assert "step 1, loss" in said
    assert "54 rows to train on, 6 to validate on, held out of them by a draw with seed 1" in said
    assert "val: examples 6, accuracy" in said
    main(["--model", str(tmp_path / "out"), "--predict", str(table)])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(lines) == 60 and lines[0].keys() == {"text", "label", "score"}
    assert run_command(lambda: main([str(word) for word in tuned])) == 2
    assert "is there already" in capsys.readouterr().err


GOOD = ["good film,1", "bad film,0", "good king,1"]


@pytest.mark.parametrize(("lines", "more", "words"), [
    (["text,label", *GOOD, "ok,2"], ["--val", "v.csv"], "label '3', which no row to train on has"),
    (["text,label", "good film,1", "good king,1"], ["--val", "v.csv"], "All rows have the label"),
    (["text,label", "good film,1"], ["--val", "v.csv"], "Pass two rows or more"),
    (["text,label", "good film,1"], [], "none can be held out"),
    (["text,label", *GOOD, ",1"], [], "line 5 has no text"),
    (["text,label", *GOOD, "nan,nan"], ["--regression"], "label 'nan', which is no finite number"),
    (["text,label", "a,2.5", "b,2.5", "c,2.5"], ["--regression"], "All rows have the label 2.5"),
    (["text,label", *GOOD], ["--text", "texts"], "Did you mean 'text'?"),
    (["text,label", *GOOD], ["--freeze", "3"], "freeze is 3; it must be at most 2"),
    (["text,label", *GOOD], ["--max-len", "64"], "max_len is 64; it must lie in 8..32"),
    (["text,label", *GOOD], ["--epochs", "0"], "epochs is 0; it must be at least 1"),
    (["text,label", *GOOD], ["--epochs", "1.5"], "invalid int value"),
    (["text,label", *GOOD], ["--layer-decay", "0"], "must be above 0"),
    (["text,label", *GOOD], ["--learning-rate", "nan"], "learning_rate is nan"),
    (["text,label", *GOOD], ["--out", "none/out"], "does not exist"),
    (["text,label", *GOOD], ["--model", "none"], "There is no folder 'none'"),
    (["text,label", *GOOD], ["--text", "text", "--text", "a", "--pair", "b"], "one or two columns"),
    (["text,label", *GOOD], ["--predict", "t.csv"], "Pass either --train"),
])
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_written(start, tmp_path, monkeypatch,
                                                                   refused, lines, more, words):
    monkeypatch.chdir(tmp_path)
    csv(tmp_path / "t.csv", *lines)
    csv(tmp_path / "v.csv", "text,label", "good,1", "bad,3")
    message = refused(main, "--model", start, "--train", "t.csv", "--out", "out", *more)
    assert words in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.csv", "v.csv"]


def test_settings_of_another_type_are_refused():
    for changes in (dict(epochs=1.0), dict(regression=1), dict(layer_decay="1"), dict(seed=True)):
        with pytest.raises(InputError, match=f"The setting {next(iter(changes))} is"):
            Tuning(**changes)
