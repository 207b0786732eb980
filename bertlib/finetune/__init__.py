"""Fine-tune: a pretrained encoder learns to judge texts, from a table of examples.

A text is a puzzle with one hole, at [CLS], and its label is what belongs there. So the trainer,
its optimiser, checkpoints and logs are those of pretraining; new are the head, batches by length,
rates that fall by layer, and an end when validation gets no better.

Sources: Devlin et al. 2018, section 4 and appendix A.3; Howard & Ruder 2018, section 3.2, and Sun
et al. 2019, section 5.3.4 (rates that fall by layer).
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes
from torch import nn

from bertlib.bert import BertForMaskedLM
from bertlib.finetune.classifier import Answer, Classifier, predict, read, score
from bertlib.finetune.examples import Examples, LengthBatches
from bertlib.finetune.folder import load, save
from bertlib.huggingface import load_encoder
from bertlib.optim import parameter_groups
from bertlib.plumbing.files import InputError, check_new_folder, sha256
from bertlib.plumbing.limits import Limits, SettingError, check_fields
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runs import Identity, claim_run
from bertlib.plumbing.states import load_weights
from bertlib.plumbing.tables import Row, class_names
from bertlib.pretrain import go_on
from bertlib.scoring import Score
from bertlib.settings import BELOW_ONE, Settings
from bertlib.tokens import Tokenizer
from bertlib.trainer import Trainer

__all__ = ["Answer", "Classifier", "Tuning", "load", "predict", "save", "score", "tune"]

LIMITS = {"epochs": Limits(1, 10_000), "layer_decay": Limits(0, 1, open_low=True),
          "warmup": BELOW_ONE, "dropout": BELOW_ONE, "freeze": Limits(0, 1_000),
          "max_len": Limits(0, 100_000), "looks": Limits(1, 1_000), "patience": Limits(0, 1_000)}


@dataclass(frozen=True)
class Tuning:
    """One fine-tuning; defaults in the range of BERT's paper (appendix A.3).

    `SettingError`, an `InputError`, if a value is of the wrong type or beyond its limits.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 0.0  # of the head and what is near it; 0: see `for_width`
    layer_decay: float = 0.95  # each layer further down has this share of the rate above
    warmup: float = 0.1  # share of the steps; then linearly to zero
    weight_decay: float = 0.01
    dropout: float = 0.1  # in encoder and head
    freeze: int = 0  # so many of the lowest blocks stay as they are, and the embeddings with them
    max_len: int = 0  # tokens; 0: as many as the model takes
    looks: int = 2  # at validation, an epoch
    patience: int = 6  # looks in a row that bring no new best loss, then it ends; 0: never
    regression: bool = False  # labels are numbers
    from_scratch: bool = False  # random weights, to compare with
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"
    checkpoint_minutes: float = 5.0

    def __post_init__(self):
        check_fields(self, LIMITS)
        self.loop(1)  # its own checks

    def for_width(self, width: int) -> "Tuning":
        """The same with a rate: 5e-5 at width 768, as in the paper, and 4.5e-4 at 256.

        Between 1e-4 and 1.5e-3, 5e-4 had the lowest loss with the course's own model (2,000
        sentences of `periods`, two epochs, one seed).
        """
        rate = self.learning_rate or min(1e-3, 5e-5 * (768 / width) ** 2)
        return replace(self, learning_rate=rate)

    def loop(self, batches: int) -> Settings:
        """The same for the trainer, whose epoch has so many batches."""
        steps = self.epochs * batches
        same = {name: getattr(self, name) for name in (
            "batch_size", "weight_decay", "seed", "device", "precision", "checkpoint_minutes")}
        return Settings(
            **same, learning_rate=self.learning_rate or 5e-5, min_learning_rate=0.0,
            schedule="linear", warmup_iters=int(self.warmup * steps), max_iters=steps,
            micro_steps=1, val_interval=-(-batches // self.looks), async_to_device=False,
            compile=False, final_mask_rate=1 / 128)  # one hole a text, for the MFU


class Tuner(Trainer):
    """Trains a `Classifier`; `settled` when validation did not get better for too long."""

    def __init__(self, tuning: Tuning, model: Any, train: Examples, val: Any, folder: Path,
                 watch: Any = None):
        tuning = tuning.for_width(model.config.d_model)
        batches: Any = LengthBatches(train, tuning.batch_size, tuning.seed)
        masker: Any = None  # the only hole of a text is [CLS]
        self.tuning, self.settled = tuning, False
        super().__init__(tuning.loop(len(batches)), model, batches, val, masker, folder, watch)
        self.learner.optimizers = [torch.optim.AdamW(layer_groups(model, tuning))]

    def progress(self, ahead: int = 0) -> float:
        """As in pretraining, but the end when validation has settled."""
        return 1.0 if self.settled else super().progress(ahead)

    def _exam(self, chunks: int) -> Score:
        """As in pretraining; of numbers the accuracy is the share of the variance explained."""
        score = super()._exam(chunks)
        right = max(0.0, 1 - score.loss) if self.tuning.regression else score.accuracy
        return score._replace(accuracy=right)

    def _look(self, whole: bool = False, keep: bool = True) -> Score:
        """Keep the best weights, and settle, only at looks that a run has which nobody stopped."""
        every = self.settings.val_interval
        planned = self.step % every == 0 or self.step == self.settings.max_iters
        score = super()._look(whole, keep and planned)
        best, wait = self.checkpoints.best, self.tuning.patience * every
        self.settled = planned and bool(wait and best and self.step - best["step"] >= wait)
        return score


def layer_groups(model: Classifier, tuning: Tuning) -> list[dict[str, Any]]:
    """AdamW's groups, each layer with its own peak rate; those that are frozen are in none."""
    encoder = model.encoder
    top = nn.ModuleList([encoder.final_norm, model.pooler, model.classifier])
    parts, groups = [encoder.embeddings, *encoder.blocks, top], []
    for depth, part in enumerate(parts):
        if tuning.freeze and depth <= tuning.freeze:
            part.requires_grad_(False)
            continue
        rate = tuning.learning_rate * tuning.layer_decay ** (len(parts) - 1 - depth)
        groups += [group | {"lr": rate, "peak_lr": rate}
                   for group in parameter_groups(part, [], tuning.weight_decay)]
    return groups


def build(start: Path, labels: Sequence[str], tuning: Tuning) -> tuple[Classifier, Tokenizer]:
    """A classifier on the encoder of a pretrained model, or on one like it with random weights.

    `start`: as `bertlib.load` takes it; of a published one the encoder is enough. `InputError` if
    it is too short or shallow for `tuning`.
    """
    pretrained, tokenizer = load_encoder(start)
    config, longest = pretrained.config, pretrained.config.seq_len
    if not 8 <= (max_len := tuning.max_len or longest) <= longest:
        raise SettingError("max_len", tuning.max_len, f"must lie in 8..{longest}, what the model "
                           "takes, or be 0")
    if tuning.freeze > config.n_layer:
        raise SettingError("freeze", tuning.freeze, f"must be at most {config.n_layer}, the "
                           "model's blocks")
    torch.manual_seed(tuning.seed)
    encoder = BertForMaskedLM(replace(config, seq_len=max_len, dropout=tuning.dropout,
                                      attention_dropout=tuning.dropout)).encoder
    if not tuning.from_scratch:
        state = pretrained.state_dict()
        if encoder.embeddings.position is not None:
            state["embeddings.position.weight"] = state["embeddings.position.weight"][:max_len]
        encoder.load_state_dict(state)
    return Classifier(encoder, labels, tokenizer.special.sep, tuning.regression), tokenizer


def tune(start: Path, train: Sequence[Row], val: Sequence[Row], out: Path, tuning: Tuning,
         test: Sequence[Row] = (), resume: str = "auto", watch: Any = None,
         progress: bool = False) -> dict[str, Any] | None:
    """Fine-tune the model in `start` on labelled rows; returns the report, None if interrupted.

    The folder `out` appears when all is done: the best weights, as `save` writes them, and
    report.json with the scores of validation and test. Until then the run lies in
    `out`.training/runs, from where the same call goes on; resume: as in pretraining. Raises
    `InputError` for rows, settings or folders that cannot do; then nothing is written.
    """
    _check(train, val, out := Path(out))
    labels = ("score",) if tuning.regression else class_names(train)
    model, tokenizer = build(start, labels, tuning)
    val = sorted(val, key=lambda row: sum(map(len, row.texts)))  # batches are less padded then
    sets = [read(model, tokenizer, rows) for rows in (train, val, test)]
    mean, std = _centre(sets[0], sets[1]) if tuning.regression else (0.0, 1.0)
    trainer = Tuner(tuning, model, sets[0], sets[1], out, watch)
    here = identity(trainer, tokenizer, train, val)
    run = claim_run(out.with_name(f"{out.name}.training"), here, resume, lambda _: False)
    try:
        trainer.open(run.folder)
        go_on(trainer)
        run.begin(here, tokenizer.save)
        trainer.checkpoints.clear()
        trainer.run(progress)
        if trainer.stopped:
            return None
        load_weights(model, trainer.checkpoints.best_state()["model"], "The best checkpoint")
        model.rescale(mean, std)
        report = {"start": Path(start).name, "labels": labels, "train_examples": len(train),
                  "cut": sets[0].cut, "val": score(model, tokenizer, val),
                  "test": score(model, tokenizer, test) if test else None, **describe(trainer)}
        save(model, tokenizer, made := run.folder / "model", report)
        write_json(made / "report.json", report)
        made.rename(out)
    finally:
        run.close()
    return report


def _check(train: Sequence[Row], val: Sequence[Row], out: Path) -> None:
    check_new_folder(out)
    if len(train) < 2 or not val:
        raise InputError("Pass two rows or more to train on, and one or more to validate on.")


def describe(trainer: Tuner) -> dict[str, Any]:
    """How a run went, by which settings and on what, as plain values."""
    best = trainer.checkpoints.best
    return {"best_step": best and best["step"], "steps": trainer.step,
            "minutes": trainer.seconds / 60, "settings": asdict(trainer.tuning),
            **trainer.learner.conditions()}


def _centre(train: Examples, val: Examples) -> tuple[float, float]:
    """Let the labels to train on have mean 0 and deviation 1; returns both as they were.

    `InputError` if they are all the same.
    """
    if (train.labels == train.labels[0]).all():
        raise InputError(f"All rows have the label {train.labels[0]:g}; pass rows of different "
                         "ones.")
    mean, std = float(train.labels.mean()), float(train.labels.std(correction=0))
    for part in (train, val):
        part.labels = (part.labels - mean) / std
    return mean, std


def identity(trainer: Tuner, tokenizer: Tokenizer, *parts: Sequence[Row]) -> Identity:
    """What tells this run from all others: settings, words, rows, and the weights to start from."""
    hashes = [sha256(json.dumps([row[1:] for row in part]).encode()) for part in parts]
    weights = sha256(tensor_bytes(trainer.model.state_dict()))
    return Identity("", asdict(trainer.model.config), asdict(trainer.tuning), tokenizer.sha256,
                    tokenizer.rules.as_dict(), [*hashes, weights])
