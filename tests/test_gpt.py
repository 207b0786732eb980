"""GPT: it never looks ahead, learns as BERT does, and writes as its probabilities say."""

import json
import math
import os
import shutil
import signal
from collections import Counter

import pytest
import torch
import torch.nn.functional as F
from examples import ORDINARY, SMALL, SPECIAL
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

import bertlib
import bertlib.gpt as gpt_module
from bertlib.baselines import Neighbours
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.figures.plots import plot_run
from bertlib.gpt import TRAIN, main, next_logits, next_shares, sample, write
from bertlib.huggingface import export, load
from bertlib.masking import NextToken
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runlog import read_metrics
from bertlib.plumbing.runs import Identity
from bertlib.predict import fill
from bertlib.predict import main as predict
from bertlib.pretrain import build, pretrain
from bertlib.scoring import flops_per_token
from bertlib.settings import Settings

KINDS = [{}, dict(position="sinusoidal", norm="post", embedding_norm=True),
         dict(position="distance", distance_heads=((0.5, 0), (1.0, -1)), qk_norm=True)]


def gpt(std: float = 0.3, **changes) -> BertForMaskedLM:
    """A small GPT with weights so large that all it reads shows."""
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig.preset("gpt", **dict(
        vocab_size=len(SMALL), seq_len=16, d_model=32, n_head=2, n_layer=2) | changes)).eval()
    for parameter in model.parameters():
        parameter.data += std * torch.randn_like(parameter)
    return model


def words(*shape: int) -> torch.Tensor:
    """Ids that are no special tokens."""
    return torch.tensor(ORDINARY)[torch.randint(len(ORDINARY), shape)]


# -- the model and its loss --------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_no_token_sees_what_comes_after_it(changes):
    ids = words(1, 12)
    other = ids.clone()
    other[0, 7:] = words(5)
    model = gpt(**changes)
    before, after = (model(some).logits[0] for some in (ids, other))
    assert torch.allclose(before[:7], after[:7], atol=1e-5)
    assert not torch.allclose(before[7], after[7], atol=0.1)
    model.encoder.config = BertConfig.preset("tiny")  # the control: not causal
    assert not torch.allclose(model(ids).logits[0, :7], model(other).logits[0, :7], atol=0.1)


@torch.no_grad()
def test_the_loss_is_the_mean_over_the_words_that_come_next():
    model, ids = gpt(), words(3, 10)
    ids[:, 0], ids[:, -1], ids[1, 6], ids[2, 5:] = (SPECIAL.cls, SPECIAL.sep, SPECIAL.sep,
                                                    SPECIAL.pad)
    ids[2, 4], ids[0, 3] = SPECIAL.sep, SPECIAL.unk
    puzzle = NextToken(SMALL).ask(ids)
    found = model(puzzle.input_ids, puzzle.positions, puzzle.labels, puzzle.attention_mask).loss
    logits, losses = model(ids).logits.log_softmax(-1), []
    for row, line in enumerate(ids.tolist()):
        for place, word in list(enumerate(line))[1:-1]:
            if word not in (SPECIAL.pad, SPECIAL.unk):
                losses.append(-logits[row, place - 1, word].item())
    assert len(losses) == 8 - 1 + 8 + 4
    assert found.item() == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_what_was_learned_by_heart_is_written_down_again():
    ids = words(8, 14)
    ids[:, 0], ids[:, -2:] = SPECIAL.cls, SPECIAL.sep
    ids[:, 1] = torch.tensor(ORDINARY[:8])  # so that each line can be told by its first word
    model, puzzle = gpt(std=0.02), NextToken(SMALL).ask(ids)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(80):
        loss = model(puzzle.input_ids, puzzle.positions, puzzle.labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for line in ids:
        assert sample(model, line[:2], 99, 0.0, stop=SPECIAL.sep).tolist() == line[:-1].tolist()


# -- how it writes -----------------------------------------------------------------------------


@pytest.mark.parametrize("how", [
    {}, dict(temperature=0.7), dict(top_k=5), dict(top_k=1), dict(top_p=0.6), dict(top_p=1e-6),
    dict(temperature=1.6, top_k=20, top_p=0.8), dict(temperature=0.5, top_p=0.95),
    dict(top_k=500),
], ids=str)
def test_shares_are_those_of_transformers(how):
    logits = 3 * torch.randn(50, 60, generator=torch.Generator().manual_seed(1))
    logits[:, 7] = logits[:, 3]  # two are equally likely
    scores = TemperatureLogitsWarper(how.get("temperature", 1.0))(None, logits)
    if how.get("top_k"):
        scores = TopKLogitsWarper(how["top_k"])(None, scores)
    if how.get("top_p"):
        scores = TopPLogitsWarper(how["top_p"])(None, scores)
    found, wanted = next_shares(logits, **how), scores.softmax(-1)
    assert torch.equal(found > 0, wanted > 0)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_shares_by_hand():
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log()
    for how, wanted in (
            ({}, [0.5, 0.3, 0.15, 0.05]), (dict(temperature=0), [1, 0, 0, 0]),
            (dict(top_k=2), [0.625, 0.375, 0, 0]), (dict(top_p=0.5), [1, 0, 0, 0]),
            (dict(top_p=0.6), [0.625, 0.375, 0, 0]),
            (dict(top_k=3, top_p=0.84), [0.625, 0.375, 0, 0]),  # 0.8 of 0.95 is enough
            (dict(temperature=0.5), [0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365, 0.0025 / 0.365])):
        assert next_shares(logits, **how).tolist() == pytest.approx(wanted, abs=1e-6), how


@torch.no_grad()
def test_tokens_are_drawn_as_often_as_their_shares_say():
    model, ids, generator = gpt(std=0.1), words(3), torch.Generator().manual_seed(3)
    how = dict(temperature=0.9, top_k=12, top_p=0.9)
    shares = next_shares(model(ids[None]).logits[0, -1], **how)  # [V]
    n = 800
    drawn = torch.stack([sample(model, ids, 1, **how, generator=generator)[-1] for _ in range(n)])
    counts = torch.bincount(drawn, minlength=len(SMALL))
    possible = shares > 0
    assert 5 < possible.sum() < 12 and counts[~possible].sum() == 0
    errors = (counts - n * shares) / (n * shares * (1 - shares)).sqrt()
    assert errors[possible].abs().max() < 4  # standard deviations
    assert (counts / n - 1 / possible.sum()).abs().max() > 0.02  # the control: not all alike


@torch.no_grad()
@pytest.mark.parametrize("changes", KINDS, ids=str)
def test_kept_keys_and_values_change_no_logits_and_no_words(changes):
    model, ids = gpt(**changes), words(3)
    pasts, read = [[], []], []
    model.encoder.embeddings.register_forward_hook(lambda _, given, out: read.append(out.shape[1]))
    written = sample(model, ids, 10, generator=torch.Generator().manual_seed(1))
    assert read == [3] + [1] * 9 and len(written) == 13  # only what is new is computed
    again, generator = ids, torch.Generator().manual_seed(1)
    for _ in range(10):
        logits = model(again[None]).logits[:, -1]  # everything, from the start
        assert torch.allclose(next_logits(model, again[None], pasts), logits, atol=1e-5)
        drawn = torch.multinomial(next_shares(logits[0]), 1, generator=generator)
        again = torch.cat((again, drawn))
    assert written.tolist() == again.tolist()


def test_it_writes_until_the_end_of_a_document_or_of_its_context():
    model, ids = gpt(), words(4)
    bias = model.head.decoder.bias.data
    bias[SPECIAL.sep] = 1e4
    assert sample(model, ids, 50, stop=SPECIAL.sep).tolist() == [*ids.tolist(), SPECIAL.sep]
    assert len(sample(model, ids, 5)) == 9  # to go on is left to the one who asks
    bias[SPECIAL.sep] = -1e4
    full = sample(model, ids, 50, stop=SPECIAL.sep)
    assert len(full) == 15 and full[:4].tolist() == ids.tolist()  # the last place is a [SEP]'s
    with torch.no_grad():
        wanted = model(full[None, :-1]).logits[0, -1].argmax()
    assert sample(model, full[:-1], 50, 0.0)[-1] == wanted
    assert torch.equal(sample(model.train(), ids, 50, 0.0), sample(model.eval(), ids, 50, 0.0))


def test_a_text_is_gone_on_with_and_a_model_left_in_its_mode():
    model = gpt().train()
    ids = torch.tensor([SPECIAL.cls, 3, 4])  # no [SEP]: it would be over
    wanted = sample(model, ids, 9, 0.0, stop=SPECIAL.sep).tolist()
    assert write(model, SMALL, "w3 w4", 9, temperature=0.0) == SMALL.decode(wanted)
    assert len(wanted) > 5 and model.training
    assert write(model, SMALL, "w3", 9, temperature=0.0) != SMALL.decode(wanted)


@pytest.mark.parametrize(("how", "said"), [
    (dict(temperature=-1.0), "temperature is -1.0; it must be at least 0.01 .* or 0"),
    (dict(temperature=math.nan), "temperature is nan"), (dict(top_k=-1), "top_k is -1"),
    (dict(top_p=0.0), "top_p is 0.0; it must be above 0"), (dict(top_p=1.1), "top_p is 1.1"),
    (dict(temperature=0.0, top_k=-1), "top_k is -1"),
])
def test_ways_to_draw_that_are_none_are_refused(how, said):
    with pytest.raises(InputError, match=said):
        sample(gpt(), words(3), 1, **how)


def test_what_cannot_be_gone_on_with_is_refused():
    for length in (0, 15, 16, 40):
        with pytest.raises(InputError, match=f"has {length} tokens; .* it must have 1..14"):
            sample(gpt(), words(length), 1)
    with pytest.raises(InputError, match="predicts hidden words cannot write"):
        sample(gpt(causal=False), words(3), 1)


# -- how it learns -----------------------------------------------------------------------------


def settings(**changes) -> Settings:
    recipe = dict(architecture="gpt", start="frequencies", max_iters=6, val_interval=3,
                  batch_size=8, dropout=0.2)
    return Settings.make("smoke", **recipe | changes)


def interrupt(step, model, folder):
    """A watcher that presses Ctrl-C in step 4."""
    if step == 4:
        os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture(scope="module")
def run(base):
    """A finished run of a few steps."""
    return pretrain(settings(val_chunks=16), base, "toy", "never", preset="smoke")


def test_a_run_says_that_its_loss_is_that_of_the_next_token(run, tokenizer):
    report = json.loads((run / "report.json").read_text())
    card = Identity.read(run)
    assert report["objective"] == "next token" and "masked_words" not in report
    assert card.model["causal"] and card.settings["architecture"] == "gpt"
    assert report["val_loss"] < report["uniform_loss"] == math.log(len(tokenizer))
    assert {"unigram_loss", "left_loss"} <= report.keys() and "both_loss" not in report
    assert report["tokens"] == 6 * 8 * 32


@torch.no_grad()
def test_validation_is_the_mean_over_all_that_come_next(run, base, tokenizer):
    report = json.loads((run / "report.json").read_text())
    model = load(run, causal=True)[0]
    val = build(settings(), base, "toy", base).val
    ids = val.chunks(slice(None))
    logits = model(ids[:, :-2]).logits  # [N, T-2, V]; the last place is asked for nowhere
    following = ids[:, 1:-1].masked_fill(ids[:, 1:-1] == tokenizer.special.unk, -100)
    assert report["next_tokens"] == (following >= 0).sum() > 0.9 * following.numel()
    loss = F.cross_entropy(logits.flatten(0, 1), following.flatten())
    right = (logits.argmax(-1) == following).sum() / report["next_tokens"]
    assert report["val_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert report["val_accuracy"] == pytest.approx(right.item())
    assert report["on_the_way"]["next_tokens"] < report["next_tokens"]


def test_a_stopped_run_goes_on_bit_for_bit(run, own):
    again = settings(val_chunks=16)
    stopped = pretrain(again, own, "toy", watch=interrupt)
    assert not (stopped / "report.json").exists()
    assert pretrain(again, own, "toy") == stopped
    wanted, found = (load(folder, causal=True)[0].state_dict() for folder in (run, stopped))
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)
    losses = [[record["loss"] for record in read_metrics(folder, "val", "whole")
               if record["step"] != 4] for folder in (run, stopped)]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_each_token_costs_what_one_with_a_prediction_costs():
    config = BertConfig.preset("gpt", vocab_size=50)
    hidden = BertConfig.preset("gpt", vocab_size=50, causal=False)
    assert flops_per_token(config, 0.15) == flops_per_token(hidden, 1.0)
    assert flops_per_token(config, 0.15) > flops_per_token(hidden, 0.15)


def test_the_word_before_is_known_and_the_one_after_is_not(run, base, tokenizer):
    """The lines to beat, counted once more on the puzzles of training themselves."""
    report = json.loads((run / "report.json").read_text())
    trainer, pairs = build(settings(), base, "toy", base), []
    for data in (trainer.batches.data, trainer.val):
        puzzle = NextToken(tokenizer).ask(data.chunks(slice(None)))
        left = puzzle.input_ids.flatten()[puzzle.positions]
        pairs.append(list(zip(left.tolist(), puzzle.labels.tolist(), strict=True)))
    train, val = pairs
    assert any(word == tokenizer.special.sep for _, word in val)
    seen, words, lefts = Counter(train), Counter(w for _, w in train), Counter(a for a, _ in train)
    share = [(words[w] + 0.5) / (len(train) + len(tokenizer) / 2) for w in range(len(tokenizer))]
    text = trainer.batches.data.chunks(slice(None)).numpy()[:, :-1]
    others = [i for i in trainer.val.header.special if i != tokenizer.special.sep]
    k = Neighbours.fit(text, len(tokenizer), others).k_pair
    wanted = [-math.log((seen[pair] + k * share[pair[1]]) / (lefts[pair[0]] + k)) for pair in val]
    assert report["left_loss"] == pytest.approx(sum(wanted) / len(val), rel=1e-5)
    alone = [-math.log(share[w]) for _, w in val]
    assert report["unigram_loss"] == pytest.approx(sum(alone) / len(val), rel=1e-5)
    assert report["left_loss"] < report["unigram_loss"]


# -- from the command line ---------------------------------------------------------------------


def test_the_command_writes_alike_for_one_seed_and_otherwise_for_another(run, capsys, tokenizer):
    def said(*more) -> list[str]:
        main(["The king", "--model", str(run), "--tokens", "9", *more])
        return capsys.readouterr().out.splitlines()

    one, two = said("--samples", "2"), said("--samples", "2", "--seed", "2")
    assert len(one) == 2 and one[0] != one[1] and one == said("--samples", "2", "--seed", "1")
    assert one != two and all(line.startswith("the king") for line in one + two)
    greedy = said("--temperature", "0")
    assert greedy == said("--temperature", "0", "--seed", "7") == said("--top-k", "1")
    assert greedy == said("--top-p", "1e-6")
    model = load(run, causal=True)[0]
    ids = torch.tensor([tokenizer.special.cls, *tokenizer.encode("the king", False)])
    wanted = sample(model, ids, 9, 0.0, stop=tokenizer.special.sep)
    assert greedy == [tokenizer.decode(wanted.tolist())]
    main(["--model", str(run), "--tokens", "3"])  # from nothing but [CLS]
    assert capsys.readouterr().out.strip()


def test_a_model_of_the_other_kind_is_refused_by_name(run, refused, tokenizer):
    assert "predicts: hidden words; pass a run of pretrain-bert" in refused(
        main, "a", "--model", PROJECT / "assets" / "model")
    assert "predicts: next token; let it write" in refused(predict, "a [MASK]", "--model", run)
    with pytest.raises(InputError, match="next token"):
        bertlib.load(run)
    model = load(run, causal=True)[0]
    with pytest.raises(InputError, match="no hidden words; let it write"):
        fill(model, tokenizer, "the [MASK]")
    for option, value in (("--tokens", 0), ("--samples", 0), ("--seed", -1), ("--top-k", -1)):
        name = option.removeprefix("--").replace("-", "_")
        assert f"{name} is {value}; it must be" in refused(main, "a", "--model", run, option, value)
    assert "it must have 1..30" in refused(main, "king " * 40, "--model", run)


def test_without_a_model_the_newest_gpt_that_was_saved_writes(run, own, capsys, monkeypatch,
                                                              refused):
    monkeypatch.setattr(gpt_module, "base_folder", lambda: own)
    runs = own / "runs"
    assert f"no GPT in '{runs}' yet; train one with {TRAIN}" in refused(main, "the king")
    for name in ("run2", "run10", "run11"):
        shutil.copytree(run, runs / name)
    shutil.rmtree(runs / "run11" / "checkpoints")  # just begun
    bert = json.loads((run / "run.json").read_text())
    bert["model"]["causal"] = False
    (runs / "run12").mkdir()
    write_json(runs / "run12" / "run.json", bert)
    (runs / "run13").mkdir()
    (runs / "run13" / "run.json").write_text("{")
    main(["the king", "--tokens", "5"])
    said = capsys.readouterr()
    assert f"'{runs / 'run10'}' writes" in said.err and "run13' is left alone" in said.err
    main(["the king", "--tokens", "5", "--model", str(run)])
    assert capsys.readouterr().out == said.out != ""


def test_what_cannot_be_meant_is_refused_before_a_model_is_loaded(tmp_path, refused):
    for option, value in (("--top-p", 0), ("--temperature", -1), ("--top-k", -1), ("--tokens", 0)):
        name = option.removeprefix("--").replace("-", "_")
        assert f"{name} is {value}" in refused(main, "a", "--model", tmp_path, option, value)


def test_a_run_that_was_exported_writes_the_same(run, tmp_path):
    assert "bertlib alone reads it" in export(run, tmp_path / "out")
    (model, tokenizer), (shipped, words) = (load(folder, causal=True)
                                            for folder in (run, tmp_path / "out"))
    for parameter in model.parameters():
        parameter.data = parameter.bfloat16().float()  # as it ships
    assert write(shipped, words, "the king", 20, temperature=0.0) == write(
        model, tokenizer, "the king", 20, temperature=0.0)


def test_the_plot_does_not_compare_it_with_hidden_words(run):
    report = json.loads((run / "report.json").read_text())
    for objective, lines in (("next token", 1), ("hidden words", 2)):
        told = report | dict(objective=objective)
        loss, accuracy = plot_run(read_metrics(run, "val"), told).axes
        assert len(accuracy.get_legend().get_texts()) == lines
        assert ("next token" in loss.get_ylabel()) == (objective == "next token")
