"""Distil: a small model learns from a large one, by the recipe of DistilBERT.

The student is made of some of the teacher's blocks, with its embeddings and its head, and goes on
learning: what the hidden words are, how the teacher would have guessed, and what it saw in them.
In evaluation a student is a BERT like any other, so that the trainer, its optimisers, checkpoints
and logs are those of pretraining.

Source: Sanh et al. 2019, section 3.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensor_bytes

from bertlib.bert import BertForMaskedLM
from bertlib.counts import start_from_counts
from bertlib.data import EMBEDDED, in_order
from bertlib.distill.student import Distilling, Student, is_told, soft_loss, state_loss
from bertlib.huggingface import MODEL, load, save_shipped
from bertlib.huggingface.writing import is_published, save_published
from bertlib.plumbing.dataset_file import read_header
from bertlib.plumbing.files import PROJECT, check_new_folder, sha256
from bertlib.plumbing.records import write_json
from bertlib.plumbing.runs import Identity, claim_run
from bertlib.pretrain import describe as describe_run
from bertlib.pretrain import go_on, load_data
from bertlib.scoring import Score, evaluate
from bertlib.told import Told, tell
from bertlib.trainer import Trainer, Watcher

__all__ = ["Distilling", "Student", "build", "distill", "soft_loss", "state_loss",
           "teacher_of"]


def build(start: Path, distilling: Distilling, base: Path, label: str, folder: Path,
          watch: Watcher | None = None) -> Trainer:
    """A trainer whose model is a `Student` of the model in `start`.

    Errors as in `bertlib.load`, `pretrain.load_data` and `Student`.
    """
    teacher, tokenizer = load(start)
    config, fresh = teacher.config, distilling.take == "none"
    settings = distilling.loop(
        seq_len=config.seq_len, d_model=config.d_model, heads=config.n_head,
        n_layer=distilling.layers, start="told" if fresh or is_told(teacher) else "random")
    torch.manual_seed(distilling.seed)
    student = Student(teacher, distilling)
    batches, val = load_data(settings, base, label, tokenizer)
    if fresh:
        special, counts = val.header.special, settings.count_start()
        start_from_counts(student, batches.data.slices, special, counts)
        tell(student, settings.told() or Told())
    return Trainer(settings, student, batches, val, batches.masker, folder, watch)


def teacher_of(trainer: Trainer) -> BertForMaskedLM:
    """The model that a trainer's student asks."""
    assert isinstance(trainer.model, Student)
    return trainer.model.teacher


def exam(trainer: Trainer, model: BertForMaskedLM) -> Score:
    """Any model on the puzzles of the trainer's last look."""
    puzzles = in_order(trainer.val, trainer.masker, 64, trainer.settings.final_chunks)
    return evaluate(model, puzzles, trainer.device, trainer.dtype)


def distill(start: Path = MODEL, out: Path = Path("student"), distilling: Distilling | None = None,
            base: Path = PROJECT / "wiki", label: str = EMBEDDED, resume: str = "auto",
            watch: Watcher | None = None, progress: bool = False) -> dict[str, Any] | None:
    """Let a student of the model in `start` learn on the datasets of `label` in `base`.

    Returns the report, None if interrupted. The folder `out` appears when all is done: the model,
    as `bertlib.huggingface` writes it, and report.json with the scores of both on the same hidden
    words. Until then the run lies in `out`.training/runs, from where the same call goes on;
    resume: as in pretraining. Raises `InputError` for a teacher, data, settings or folders that
    cannot do; then nothing is written.
    """
    out, distilling = Path(out), distilling or Distilling()
    check_new_folder(out)
    trainer = build(start, distilling, base, label, out, watch)
    model, teacher = trainer.model, teacher_of(trainer)
    tokenizer = trainer.batches.tokenizer
    here = identity(trainer, teacher, distilling, label)
    run = claim_run(out.with_name(f"{out.name}.training"), here, resume, lambda _: False)
    try:
        trainer.open(run.folder)
        go_on(trainer)
        run.begin(here, tokenizer.save)
        trainer.checkpoints.clear()
        score = trainer.run(progress)
        if trainer.stopped:
            return None
        report = describe(trainer, score, label, distilling) | {"teacher": Path(start).name}
        (made := run.folder / "model").mkdir(exist_ok=True)
        (save_published if is_published(model.config) else save_shipped)(
            model, tokenizer, made, report)
        write_json(made / "report.json", report)
        made.rename(out)
    finally:
        run.close()
    return report


def describe(trainer: Trainer, score: Score, label: str, distilling: Distilling) -> dict[str, Any]:
    """The result of a run with its conditions, and what its teacher is worth, as plain values."""
    teacher = teacher_of(trainer)
    best = exam(trainer, teacher)
    return {
        **describe_run(trainer, score, label, "", neighbours=False),
        "origin": f"distilled from a BERT of {teacher.config.n_layer} layers",
        "distilling": asdict(distilling), "teacher_parameters": teacher.n_parameters(),
        "teacher_loss": best.loss, "teacher_accuracy": best.accuracy,
    }


def identity(trainer: Trainer, teacher: BertForMaskedLM, distilling: Distilling,
             label: str) -> Identity:
    """What tells this run from all others: settings, words, data, and the teacher's weights."""
    hashes = [read_header(path).sha256 for path in trainer.batches.paths]
    words = trainer.batches.tokenizer
    weights = {name: tensor.cpu().clone() for name, tensor in teacher.state_dict().items()}
    settings = asdict(distilling) | {"teacher": sha256(tensor_bytes(weights))}
    return Identity(label, asdict(trainer.model.config), settings, words.sha256,
                    words.rules.as_dict(), [*hashes, trainer.val.header.sha256])
