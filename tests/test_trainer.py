"""The loop: it learns, adds up gradients rightly, and a stopped run loses nothing."""

import math
import os
import signal

import pytest
import torch
import torch.nn.functional as F

from bertlib.bert import BertForMaskedLM
from bertlib.data import Batches, load_dataset
from bertlib.masking import Masker
from bertlib.plumbing.files import InputError
from bertlib.plumbing.runlog import read_metrics
from bertlib.scoring import evaluate
from bertlib.settings import Settings
from bertlib.told import tell
from bertlib.trainer import Trainer


def make_trainer(base, folder, tokenizer, watch=None, **changes) -> Trainer:
    recipe = dict(start="random", max_iters=12, val_interval=5) | changes
    settings = Settings.make("smoke", **recipe)
    masker = Masker(tokenizer)
    data = base / "datasets"
    batches = Batches([data / "train_toy_32_123.msgpack.gz"], masker, tokenizer, settings.seed)
    val = load_dataset(data / "val_toy_32_123.msgpack.gz", tokenizer)
    torch.manual_seed(settings.seed)
    model = BertForMaskedLM(settings.model_config(len(tokenizer)))
    if told := settings.told():
        tell(model, told)
    return Trainer(settings, model, batches, val, masker, folder, watch)


def test_32_sequences_are_learned_by_heart(base, tmp_path, tokenizer):
    trainer = make_trainer(base, tmp_path, tokenizer, d_model=64, max_iters=120,
                           mask_rate=0.15, learning_rate=1e-2)
    batch = trainer.batches.next(32, 0.15)
    for _ in range(120):
        trainer.train_step([batch], len(batch.labels))
        trainer.step += 1
    score = evaluate(trainer.model, iter([batch]), trainer.device, trainer.dtype)
    assert score.accuracy > 0.95


def test_five_steps_are_those_of_a_plain_loop(base, tmp_path, tokenizer):
    """Clipping, decay, micro batches and a schedule, each once more in the fewest words."""
    recipe = dict(optimizer="adamw", schedule="cosine", warmup_iters=2, lr_decay_iters=5,
                  max_iters=5, learning_rate=1e-2, min_learning_rate=1e-3, weight_decay=0.3,
                  beta1=0.8, beta2=0.95, grad_clip=0.1, micro_steps=2, batch_size=8,
                  architecture="fast", d_model=32, heads=4)  # no bias of keys: its gradient is
    # rounding alone, which AdamW would blow up
    trainer = make_trainer(base, tmp_path, tokenizer, **recipe)
    model, batches = make_trainer(base, tmp_path, tokenizer, **recipe).model, trainer.batches
    batches = Batches(batches.paths, trainer.masker, tokenizer, batches.seed)
    optimizer = torch.optim.AdamW(
        [{"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.3},
         {"params": [p for p in model.parameters() if p.ndim != 2], "weight_decay": 0.0}],
        betas=(0.8, 0.95))
    cosine = [(1 + math.cos(math.pi * done / 3)) / 2 for done in range(3)]
    for step, rate in enumerate((0.005, 0.01, *(0.001 + 0.009 * share for share in cosine))):
        micro = [batches.next(8, 0.3 - 0.15 * step / 5) for _ in range(2)]
        losses = [F.cross_entropy(model(b.input_ids, b.positions).logits, b.labels,
                                  reduction="sum") for b in micro]
        (sum(losses) / sum(len(b.labels) for b in micro)).backward()
        norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
        assert norm > 0.1  # else clipping would not be seen
        for parameter in model.parameters():
            parameter.grad.mul_(0.1 / norm)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
    trainer.run()
    assert trainer.step == 5
    for name, weight in trainer.model.named_parameters():
        assert torch.allclose(weight, model.get_parameter(name), atol=2e-6), name


def test_accumulated_gradients_equal_those_of_the_large_batch(base, tmp_path, tokenizer):
    trainer = make_trainer(base, tmp_path, tokenizer)
    ids = trainer.batches.data.chunks(slice(0, 24))
    generator = torch.Generator().manual_seed(0)
    halves = [trainer.masker(ids[:8], generator, 0.4), trainer.masker(ids[8:], generator, 0.15)]
    whole = trainer.masker.puzzle(
        ids, torch.cat([halves[0].positions, halves[1].positions + 8 * 32]),
        torch.cat([half.labels for half in halves]),
        torch.cat([half.input_ids.flatten()[half.positions] for half in halves]),
    )
    gradients, losses = [], []
    for micro in (halves, [whole]):
        trainer.model.zero_grad()
        losses.append(trainer.learner.accumulate(micro, len(whole.labels)))
        gradients.append(trainer.model.encoder.embeddings.token.weight.grad.clone())
    alone = F.cross_entropy(trainer.model(whole.input_ids, whole.positions).logits, whole.labels)
    assert torch.allclose(*losses, atol=1e-6) and torch.allclose(losses[0], alone, atol=1e-5)
    assert torch.allclose(*gradients, atol=1e-7) and gradients[0].abs().max() > 1e-4


class Interrupt:
    """Watches a run and presses Ctrl-C once, in step 4."""

    def __call__(self, step, model, folder):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("changes", [
    dict(optimizer="muon"), dict(optimizer="adamw"),
    dict(start="told", architecture="bert", d_model=64, heads=2, query_key_share=0.5),
])
def test_a_stopped_run_goes_on_bit_for_bit(base, tmp_path, tokenizer, changes):
    recipe = dict(dropout=0.2, first_batch_size=4) | changes
    straight = make_trainer(base, tmp_path / "straight", tokenizer, **recipe)
    straight.run()
    stopped = make_trainer(base, tmp_path / "stopped", tokenizer, Interrupt(), **recipe)
    stopped.run()
    assert stopped.stopped and stopped.step == 4
    ends = {}
    for random in (True, False):
        resumed = make_trainer(base, tmp_path / f"resumed{random}", tokenizer, **recipe)
        resumed.restore(stopped.checkpoints.newest(), random=random)
        resumed.run()
        assert resumed.step == 12 and resumed.tokens == straight.tokens < 12 * 16 * 32
        ends[random] = resumed.model.state_dict()
    want = straight.model.state_dict()
    assert all(torch.equal(want[name], ends[True][name]) for name in want)
    assert not all(torch.equal(want[name], ends[False][name]) for name in want)  # the control


def test_an_interrupt_keeps_what_was_learned(base, tmp_path, tokenizer):
    before = signal.getsignal(signal.SIGINT)
    trainer = make_trainer(base, tmp_path, tokenizer, Interrupt())
    trainer.run()
    kept = trainer.checkpoints.newest()
    assert kept["step"] == 4
    assert torch.equal(kept["model"]["head.decoder.weight"], trainer.model.head.decoder.weight)
    assert "interrupted" in (tmp_path / "logs" / "log.txt").read_text()
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupted_run_is_saved_before_anything_else(base, tmp_path, tokenizer, monkeypatch):
    trainer = make_trainer(base, tmp_path, tokenizer, Interrupt())
    score = evaluate

    def killed_while_looking(*arguments):
        if trainer.stopped:
            raise SystemExit  # as if the kernel were gone
        return score(*arguments)

    monkeypatch.setattr("bertlib.trainer.evaluate", killed_while_looking)
    with pytest.raises(SystemExit):
        trainer.run()
    assert trainer.checkpoints.newest()["step"] == 4


def test_a_trainer_can_be_saved_before_it_runs(base, tmp_path, tokenizer):
    trainer = make_trainer(base, tmp_path / "never", tokenizer)
    assert not (tmp_path / "never").exists()
    trainer.save()
    other = make_trainer(base, tmp_path / "other", tokenizer)
    other.restore(trainer.checkpoints.newest())
    other.run()
    trainer.run()
    for one, two in zip(trainer.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_weights_that_are_no_numbers_are_never_saved(base, tmp_path, tokenizer):
    trainer = make_trainer(base, tmp_path, tokenizer)
    trainer.save()
    trainer.step = 1
    with torch.no_grad():
        trainer.model.encoder.blocks[0].feed_forward.down.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match="diverged.*step 0 is kept"):
        trainer.save()
    assert [entry["step"] for entry in trainer.checkpoints.entries] == [0]


def test_a_run_writes_log_metrics_events_and_checkpoints(base, tmp_path, tokenizer):
    shown = []
    trainer = make_trainer(base, tmp_path, tokenizer, lambda step, *_: shown.append(step))
    score = trainer.run()
    val = read_metrics(tmp_path, "val")
    assert [record["step"] for record in val] == [0, 5, 10, 12]
    assert val[-1]["loss"] == trainer.score.loss < val[0]["loss"]
    assert [record["loss"] for record in read_metrics(tmp_path, "whole")] == [score.loss]
    assert val[-1]["tokens"] == 12 * 16 * 32
    assert all(record["seconds"] == round(record["seconds"], 2) for record in val)
    assert shown == [0, 1, 2, 4, 8, 12]
    told = (tmp_path / "logs" / "log.txt").read_text()
    assert "on cpu, torch.float32, from step 0\n" in told and told.endswith("finished\n")
    assert list((tmp_path / "logs").glob("events.out.tfevents.*"))
    assert trainer.checkpoints.newest()["step"] == 12


def test_each_rate_that_is_logged_is_that_of_the_step_before(base, tmp_path, tokenizer):
    make_trainer(base, tmp_path, tokenizer, schedule="cosine", warmup_iters=4, lr_decay_iters=8,
                 min_learning_rate=2e-4, max_iters=10, val_interval=1).run()
    records = {r["step"]: r["lr_factor"] for r in read_metrics(tmp_path, "train")}
    assert [records[step] for step in (1, 2, 3, 4, 5)] == [0.25, 0.5, 0.75, 1, 1]
    assert [records[step] for step in (7, 9, 10)] == pytest.approx([0.55, 0.1, 0.1])


def test_a_budget_of_time_ends_the_run(base, tmp_path, tokenizer):
    trainer = make_trainer(base, tmp_path, tokenizer, budget_minutes=1e-6, max_iters=50)
    trainer.run()
    assert trainer.step == 1 and trainer.seconds > 6e-5 and trainer.progress() == 1.0


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_gradients_are_clipped_at_their_own_scale(base, tmp_path, tokenizer, precision):
    """With float16 they are made 65,536 times as large on the way, so that small ones are kept."""
    trainer = make_trainer(base, tmp_path, tokenizer, precision=precision, optimizer="adamw",
                           grad_clip=0.1)
    portion = trainer.fetch(0.0)
    trainer.train_step(portion.micro, portion.masked)
    optimizer, = trainer.learner.optimizers
    averages = [state["exp_avg"].flatten() for state in optimizer.state.values()]
    wanted = 0.1 * (1 - trainer.settings.beta1)
    assert torch.cat(averages).norm().item() == pytest.approx(wanted, rel=0.01)


def test_evaluate_counts_every_masked_word(base, tmp_path, tokenizer):
    trainer = make_trainer(base, tmp_path, tokenizer)
    puzzle = trainer.val.frozen(slice(0, 10), trainer.masker)
    single = [trainer.val.frozen(slice(n, n + 1), trainer.masker) for n in range(10)]
    together, apart = (evaluate(trainer.model, iter(batches), trainer.device, trainer.dtype)
                       for batches in ([puzzle], single))
    assert together.count == apart.count == len(puzzle.labels)
    assert together.loss == pytest.approx(apart.loss, rel=1e-5)
    out = trainer.model.eval()(puzzle.input_ids, puzzle.positions)
    right = (out.logits.argmax(-1) == puzzle.labels).double().mean().item()
    assert together.accuracy == pytest.approx(right)
