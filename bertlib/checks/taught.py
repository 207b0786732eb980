"""Checker of notebook 11: one step of a student that asks its teacher."""

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.checks import checker, expect, number, require
from bertlib.checks.calling import Answer
from bertlib.checks.distill import large
from bertlib.checks.loop import puzzle
from bertlib.checks.modules import right_one
from bertlib.masking import Masked

LENGTHS = [5, 3, 5, 4, 5, 3]  # of the rows; what follows is padding


def _loss(student: BertForMaskedLM, teacher: BertForMaskedLM, batch: Masked, heat: float = 2.0,
          weights: tuple[float, ...] = (5.0, 2.0, 1.0), mask: bool = True) -> Tensor:
    """The sum of the three losses."""
    asked = (batch.input_ids, batch.attention_mask if mask else None, None, batch.positions)
    own, told = student.encoder(*asked), teacher.encoder(*asked).detach()  # [K, D]
    logits, theirs = student.head(own), teacher.head(told).detach()  # [K, V]
    kl = F.kl_div((logits / heat).log_softmax(-1), (theirs / heat).log_softmax(-1),
                  reduction="batchmean", log_target=True)
    states = 1 - F.cosine_similarity(own, told, dim=-1).mean()
    parts = (heat**2 * kl, F.cross_entropy(logits, batch.labels), states)
    return sum((weight * part for weight, part in zip(weights, parts, strict=True)),
               torch.zeros(()))


def _pair(dropout: float) -> tuple[BertForMaskedLM, BertForMaskedLM, torch.optim.Optimizer]:
    """A student, a teacher with dropout that was left in training mode, the student's optimiser."""
    teacher = large(dropout).train()
    student: Any = right_one(BertForMaskedLM, replace(teacher.config, n_layer=2, dropout=0.0), 1)
    return student.train(), teacher, torch.optim.SGD(student.parameters(), lr=0.01)


@checker
def check_taught_step(answer: Answer) -> None:
    """answer(student, teacher, optimizer, batch, temperature, weights) -> the loss of the step.

    weights: of soft targets, hidden words, hidden states. All three at the hidden positions.
    """
    whole = replace(puzzle(), attention_mask=torch.arange(5) < torch.tensor(LENGTHS)[:, None])
    batches, given = (whole, whole.rows(2, 6)), (2.0, (5.0, 2.0, 1.0))
    ours, calm, optimizer = _pair(0.0)
    wrong = _wrong_losses(ours, calm, batches[0])
    losses = [_descend(ours, calm.eval(), optimizer, batch) for batch in batches]
    student, teacher, optimizer = _pair(0.5)
    before = [p.detach().clone() for p in teacher.parameters()]
    with torch.random.fork_rng(devices=[]):
        got = [answer(student, teacher, optimizer, batches[0], *given)]
        other = _pair(0.5)
        again = answer(*other, batches[0], *given)
        require(all(torch.equal(p, old) for p, old in zip(teacher.parameters(), before,
                                                          strict=True)),
                "the teacher's weights moved; only the student learns")
        require(all(p.grad is None for p in teacher.parameters()), "gradients reach the teacher, "
                "which costs time and memory for nothing: ask it under torch.no_grad()")
        require(abs(number(got[0]) - number(again)) < 1e-4, "the same step has another loss when "
                "it is repeated: the teacher's dropout is on; teacher.eval() before it is asked")
        require(student.training, "the student is left in evaluation mode; its dropout should work")
        expect(number(got[0]), losses[0], wrong, "another loss than 5 x soft targets + 2 x hidden "
               f"words + 1 x hidden states = {losses[0]:.3f}", tolerance=1e-5)
        got.append(answer(student, teacher, optimizer, batches[1], *given))
    require(not isinstance(got[0], Tensor) or not got[0].requires_grad, "the loss still holds the "
            "whole graph; return loss.item()")
    _judge_weights(student, ours)


def _descend(student: BertForMaskedLM, teacher: BertForMaskedLM, optimizer: torch.optim.Optimizer,
             batch: Masked) -> float:
    """One right step; returns the loss before it."""
    loss = _loss(student, teacher, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def _wrong_losses(student: BertForMaskedLM, teacher: BertForMaskedLM,
                  batch: Masked) -> dict[str, float]:
    """What known mistakes return for the first step."""
    ways: dict[str, dict[str, Any]] = {
        "the weights were not used: 5, 2 and 1, in the order soft targets, words, states":
            dict(weights=(1.0, 1.0, 1.0)),
        "the weights are in another order: soft targets, hidden words, hidden states":
            dict(weights=(2.0, 5.0, 1.0)),
        "that is the loss on hidden words alone; add those on soft targets and on hidden states":
            dict(weights=(0.0, 2.0, 0.0)),
        "that is the loss on soft targets alone; add those on hidden words and on hidden states":
            dict(weights=(5.0, 0.0, 0.0)),
        "T^2 is missing in the loss on soft targets": dict(weights=(5.0 / 2.0**2, 2.0, 1.0)),
        "the weights run backwards: soft targets 5, hidden words 2, states 1":
            dict(weights=(1.0, 2.0, 5.0)),
        "the loss on soft targets is missing": dict(weights=(0.0, 2.0, 1.0)),
        "the loss on hidden words is missing": dict(weights=(5.0, 0.0, 1.0)),
        "the loss on hidden states is missing": dict(weights=(5.0, 2.0, 0.0)),
        "the temperature was not passed on": dict(heat=1.0),
        "attention_mask was not passed on: padding is read": dict(mask=False)}
    with torch.no_grad():
        return {words: float(_loss(student, teacher.eval(), batch, **how))
                for words, how in ways.items()}


def _judge_weights(student: BertForMaskedLM, right: BertForMaskedLM) -> None:
    """`NotYet` unless the student stands where two right steps lead."""
    fresh = _pair(0.0)[0]
    mine, wanted, start = (torch.cat([p.detach().flatten() for p in model.parameters()])
                           for model in (student, right, fresh))
    require(not torch.equal(mine, start), "the loss is right, but the student has not moved: "
            "loss.backward(), then optimizer.step()")
    expect(mine, wanted, hint="the loss is right, but after two steps the student's weights are "
           "others: zero_grad, backward, step", tolerance=1e-4)
