"""A student: some of a larger model's blocks, and a loss that asks that model.

Sources: Sanh et al. 2019 (DistilBERT), sections 2 and 3; Hinton et al. 2015, section 2.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.bert import BertForMaskedLM, MLMOutput
from bertlib.plumbing.files import InputError
from bertlib.plumbing.limits import Limits, SettingError, check_fields
from bertlib.settings import Settings
from bertlib.told import Told, wave_table

WEIGHT = Limits(0, 1_000)
LIMITS = {"layers": Limits(1, 512), "temperature": Limits(0, 1_000, open_low=True),
          "soft": WEIGHT, "words": WEIGHT, "states": WEIGHT}


def every(teacher: int, student: int) -> list[int]:
    """Numbers of the blocks to keep, one of each so many, from the first on: 12, 6 -> 0, 2, .. 10.

    `InputError` if `student` does not divide `teacher`.
    """
    if teacher % student:
        good = [n for n in range(1, teacher) if teacher % n == 0]
        raise SettingError("layers", student, f"must divide the teacher's {teacher} blocks: choose "
                           f"{', '.join(map(str, good))}, or take spread")
    return list(range(0, teacher, teacher // student))


def spread(teacher: int, student: int) -> list[int]:
    """From the first block to the last in even steps: 12, 6 -> 0, 2, 4, 7, 9, 11 (DistilBERT's)."""
    step = (teacher - 1) / max(1, student - 1)
    return [int(number * step + 0.5) for number in range(student)]


TAKE: Mapping[str, Callable[[int, int], list[int]]] = {
    "every": every, "spread": spread, "lowest": lambda teacher, student: list(range(student)),
    "none": lambda teacher, student: [],  # it starts as pretraining does, to compare with
}


@dataclass(frozen=True)
class Distilling:
    """One distillation. Weights of the losses and temperature are those of DistilBERT's code.

    `SettingError`, an `InputError`, if a value is of the wrong type or beyond its limits.
    """

    layers: int = 2  # blocks of the student
    take: str = "every"  # which of the teacher's blocks it begins with, see TAKE
    temperature: float = 2.0  # of teacher and student in the loss on soft targets
    soft: float = 5.0  # weight of the loss on soft targets
    words: float = 2.0  # of the loss on hidden words
    states: float = 1.0  # of the loss on hidden states
    dropout: float = 0.0  # in the student; the teacher has none when it is asked
    max_iters: int = 500
    budget_minutes: float = 0.0  # training time; 0: stop at max_iters
    batch_size: int = 32
    learning_rate: float = 2e-3
    matrix_learning_rate: float = 0.015
    val_interval: int = 100
    val_chunks: int = 512  # chunks in a validation on the way; 0: all
    final_chunks: int = 0  # chunks in the last one
    checkpoint_minutes: float = 2.0
    seed: int = 1
    device: str = "auto"
    precision: str = "auto"

    def __post_init__(self):
        check_fields(self, LIMITS)
        if self.take not in TAKE:
            raise SettingError("take", self.take, f"must be one of {', '.join(TAKE)}")
        if not self.soft + self.words + self.states:
            raise InputError("The weights soft, words and states are all 0; make one larger.")
        self.loop()  # its own checks

    def loop(self, **shape: Any) -> Settings:
        """The same for the trainer: the preset `cpu` with what is said here, and a `shape`."""
        own = set(LIMITS) | {"take"}
        return Settings.make("cpu", **{name: value for name, value in asdict(self).items()
                                       if name not in own},
                             attention_dropout=self.dropout, **shape)


def soft_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """How far the student's shares [K, V] are from the teacher's: T^2 KL(teacher || student).

    Both logits [K, V] are divided by `temperature` first; the mean over K positions, in nats. T^2
    makes up for gradients that shrink with 1/T^2 (Hinton et al. 2015, section 2.1).
    """
    own, told = ((logits / temperature).log_softmax(-1) for logits in (student, teacher))
    return temperature**2 * F.kl_div(own, told, reduction="batchmean", log_target=True)


def state_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - cosine of the angle between two hidden states [K, D] of a position, the mean over K."""
    return 1 - F.cosine_similarity(student, teacher, dim=-1).mean()


class Student(BertForMaskedLM):
    """A BERT with fewer blocks than its teacher, whose loss in training is that of `Distilling`.

    It shares no weight with the teacher, which is no part of it: not trained, not saved, never in
    training mode. `InputError` if it would not be smaller.
    """

    def __init__(self, teacher: BertForMaskedLM, distilling: Distilling):
        deep, layers = teacher.config.n_layer, distilling.layers
        if layers >= deep:
            raise SettingError("layers", layers, f"must be below {deep}, the teacher's blocks")
        self.kept = TAKE[distilling.take](deep, layers)
        super().__init__(replace(
            teacher.config, n_layer=layers, zero_init=not self.kept, dropout=distilling.dropout,
            attention_dropout=distilling.dropout))
        self.distilling = distilling
        self.told_by = (teacher.eval(),)  # in a tuple PyTorch does not count it as a part
        if self.kept:
            self.load_state_dict(self._taken(teacher))

    @property
    def teacher(self) -> BertForMaskedLM:
        """The model that it asks."""
        return self.told_by[0]

    def _taken(self, teacher: BertForMaskedLM) -> dict[str, Tensor]:
        """The teacher's weights by the student's names."""
        weights, taken = teacher.state_dict(), {}
        for name in self.state_dict():
            parts = name.split(".")
            if parts[1] == "blocks":  # encoder.blocks.1. ...
                parts[2] = str(self.kept[int(parts[2])])
            taken[name] = weights[".".join(parts)]
        return taken

    def _apply(self, fn: Any, recurse: bool = True) -> "Student":
        """The teacher goes to the device that the student goes to."""
        self.teacher._apply(fn)
        return super()._apply(fn, recurse)

    def forward(self, input_ids: Tensor, positions: Tensor | None = None,
                labels: Tensor | None = None, attention_mask: Tensor | None = None,
                token_type_ids: Tensor | None = None) -> MLMOutput:
        """As a BERT; but in training the loss adds up those on targets, words and states.

        Then `labels` [K] belong to `positions` [K], as the trainer has it.
        """
        how, asked = self.distilling, (input_ids, attention_mask, token_type_ids, positions)
        if labels is None or not self.training or not how.soft + how.states:
            return super().forward(input_ids, positions, labels, attention_mask, token_type_ids)
        hidden = self.encoder(*asked)  # [K, D]
        logits = self.head(hidden).float()  # [K, V]
        loss = how.words * F.cross_entropy(logits, labels)
        with torch.no_grad():
            seen = self.teacher.encoder(*asked)  # [K, D]
            told = self.teacher.head(seen).float() if how.soft else None  # [K, V]
        if told is not None:
            loss = loss + how.soft * soft_loss(logits, told, how.temperature)
        if how.states:
            loss = loss + how.states * state_loss(hidden.float(), seen.float())
        return MLMOutput(logits, loss)


def is_told(model: BertForMaskedLM) -> bool:
    """Whether a model's places are the waves of `bertlib.told`, up to what bfloat16 can say."""
    places, told = model.encoder.embeddings.position, Told()
    if places is None or 2 * told.waves > model.config.d_model // model.config.n_head:
        return False
    waves = wave_table(told.rates(), model.config.seq_len) * 2**0.5 * told.std
    rest = F.pad(waves, (model.config.d_model - waves.shape[1], 0))  # [T, D]
    return torch.allclose(places.weight.detach().cpu(), rest, atol=1e-3)
