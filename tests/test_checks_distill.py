"""Checkers of notebook 11 name the true mistake, and accept right answers of any style."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertlib.bert import BertForMaskedLM
from bertlib.checks.distill import (
    check_blocks,
    check_soft_loss,
    check_state_loss,
    check_student,
    large,
)
from bertlib.checks.taught import check_taught_step
from bertlib.distill import soft_loss, state_loss


def kl(student, teacher, own_heat, told_heat, axis=-1):
    """KL(teacher || student) [K] with a temperature for each."""
    own, told = (student / own_heat).log_softmax(axis), (teacher / told_heat).log_softmax(axis)
    return (told.exp() * (told - own)).sum(-1)


def naive(s, t, T):
    own, told = (s / T).softmax(-1), (t / T).softmax(-1)
    return T**2 * (told * (told.log() - own.log())).sum(-1).mean()


def torch_kl(s, t, T, own="log_softmax", told="softmax", log_target=False):
    return T**2 * F.kl_div(getattr(s / T, own)(-1), getattr(t / T, told)(-1),
                           reduction="batchmean", log_target=log_target)


def unit(x, dim=-1):
    return x / x.norm(dim=dim, keepdim=True)


def fresh(teacher, kept, n_layer=None):
    return BertForMaskedLM(replace(teacher.config, n_layer=n_layer or len(kept)))


def made(teacher, kept, head=True, embeddings=True, n_layer=None):
    """The student, part by part."""
    student = fresh(teacher, kept, n_layer)
    if embeddings:
        student.encoder.embeddings.load_state_dict(teacher.encoder.embeddings.state_dict())
    if head:
        student.head.load_state_dict(teacher.head.state_dict())
    for block, number in zip(student.encoder.blocks, kept, strict=False):
        block.load_state_dict(teacher.encoder.blocks[number].state_dict())
    return student


def by_name(teacher, kept):
    student = fresh(teacher, kept)
    student.load_state_dict(teacher.state_dict(), strict=False)
    return student


def shared(teacher, kept):
    student = made(teacher, kept)
    student.encoder.blocks = nn.ModuleList(teacher.encoder.blocks[n] for n in kept)
    return student


def cut_down(teacher, kept):
    teacher.encoder.blocks = nn.ModuleList(teacher.encoder.blocks[n] for n in kept)
    return teacher


def untied(teacher, kept):
    student = made(teacher, kept)
    student.head.decoder.weight = nn.Parameter(student.head.decoder.weight.detach().clone())
    return student


def unsaid(teacher, kept):
    student = made(teacher, kept)
    student.config = teacher.config
    return student


def by_state(teacher, kept):
    """Another style: names are rewritten."""
    weights = teacher.state_dict()
    names = {f"encoder.blocks.{n}.": f"encoder.blocks.{place}." for place, n in enumerate(kept)}
    taken = {name: tensor for name, tensor in weights.items() if ".blocks." not in name}
    for old, new in names.items():
        taken |= {name.replace(old, new): tensor for name, tensor in weights.items()
                  if name.startswith(old)}
    student = fresh(teacher, kept)
    student.load_state_dict(taken)
    return student


def copied_before(teacher, kept):
    from copy import deepcopy
    student = deepcopy(teacher)
    student.encoder.blocks = nn.ModuleList(student.encoder.blocks[n] for n in kept)
    student.config = student.encoder.config = replace(teacher.config, n_layer=len(kept))
    return student


def step(eval_mode=True, no_grad=True, parts="abc", heat=None, order=(0, 1, 2), use_mask=True,
         clear=True, move=True, flat=False, graph=False, quiet=False, back=True):
    """A step with a teacher, rightly or with some mistakes."""
    def answer(student, teacher, optimizer, batch, temperature, weights):
        weights = [weights[n] for n in order] if order else (1, 1, 1)
        asked = (batch.input_ids, batch.attention_mask if use_mask else None, None,
                 batch.positions)
        if eval_mode:
            teacher.eval()
        if quiet:
            student.eval()
        with torch.set_grad_enabled(not no_grad):
            seen = teacher.encoder(*asked)
            told = teacher.head(seen)
        hidden = student.encoder(*asked)
        logits = student.head(hidden)
        losses = {"a": soft_loss(logits, told, heat or temperature),
                  "b": F.cross_entropy(logits, batch.labels), "c": state_loss(hidden, seen)}
        loss = sum(weight * losses[name] for name, weight in zip("abc", weights, strict=True)
                   if name in parts)
        if clear:
            optimizer.zero_grad()
        if back:
            loss.backward()
        if move:
            optimizer.step()
        if flat:
            with torch.no_grad():
                for parameter in teacher.parameters():
                    parameter.mul_(0.9)
        return loss if graph else loss.item()
    return answer


WRONG = [
    (check_soft_loss, lambda s, t, T: kl(s, t, T, T).mean(), "T^2 is missing"),
    (check_soft_loss, lambda s, t, T: T * kl(s, t, T, T).mean(), "by T^2"),
    (check_soft_loss, lambda s, t, T: soft_loss(t, s, T), "the KL is turned around"),
    (check_soft_loss, lambda s, t, T: -T**2 * (
        (t / T).softmax(-1) * (s / T).log_softmax(-1)).sum(-1).mean(), "cross-entropy"),
    (check_soft_loss, lambda s, t, T: -((t / T).softmax(-1) * (s / T).log_softmax(-1)).sum(
        -1).mean(), "T^2 is missing: without it the gradients shrink as T grows and that is the"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, 1, 1).mean(), "was not used in the shares"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, T, 1).mean(), "the student's logits alone"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, 1, T).mean(), "the teacher's logits alone"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, 1 / T, 1 / T).mean(), "you multiplied by"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, T, T, 0).mean(), "over the positions; over"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, T, T).mean() / s.shape[1],
     "mean over all numbers"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, T, T).sum(), "sum over all positions"),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s, t, T, T), "one value a position"),
    (check_soft_loss, lambda s, t, T: -soft_loss(s, t, T), "the sign is turned around: the KL"),
    (check_soft_loss, lambda s, t, T: torch_kl(s, t, T, own="softmax"), "first argument"),
    (check_soft_loss, lambda s, t, T: torch_kl(s, t, T, told="log_softmax"),
     "unless you say log_target=True"),
    (check_soft_loss, lambda s, t, T: torch_kl(s, t, T, log_target=True), "these are shares"),
    (check_soft_loss, lambda s, t, T: F.mse_loss(s, t), "distance of the logits"),
    (check_soft_loss, lambda s, t, T: soft_loss(s, t, 2), "T = 1"),
    (check_soft_loss, naive, "take log_softmax"),
    (check_soft_loss, lambda s, t, T: soft_loss(s, t, T).item(), "no gradient flows back"),
    (check_blocks, lambda a, b: range(b), "the lowest"),
    (check_blocks, lambda a, b: range(a - b, a), "the highest"),
    (check_blocks, lambda a, b: range(a // b - 1, a, a // b), "the first one stays"),
    (check_blocks, lambda a, b: list(range(0, a, 2)), "every second block, whatever"),
    (check_blocks, lambda a, b: range(a), "all blocks"),
    (check_blocks, lambda a, b: list(range(0, a, a // b))[:-1], "one block too few"),
    (check_blocks, lambda a, b: b, "not a list"),
    (check_blocks, lambda a, b: [n * a / b for n in range(b)], "divide by //"),
    (check_state_loss, lambda s, t: state_loss(s, t).item(), "no gradient flows"),
    (check_student, by_name, "by their names alone"),
    (check_student, lambda t, k: made(t, k, head=False), "the head must be copied"),
    (check_student, lambda t, k: made(t, k, embeddings=False), "is not the teacher's"),
    (check_student, lambda t, k: made(t, k, n_layer=4), "it has 4 blocks, 2"),
    (check_student, lambda t, k: fresh(t, k), "none of the teacher's"),
    (check_student, shared, "is the teacher's own tensor"),
    (check_student, cut_down, "the teacher itself was changed"),
    (check_student, untied, "must stay one tensor"),
    (check_student, unsaid, "its config still says"),
    (check_student, lambda t, k: made(t, k).state_dict(), "not a BertForMaskedLM"),
    (check_state_loss, lambda s, t: F.cosine_similarity(s, t).mean(), "that is the cosine; the"),
    (check_state_loss, lambda s, t: -F.cosine_similarity(s, t).mean(), "and 1 is missing"),
    (check_state_loss, lambda s, t: 1 + F.cosine_similarity(s, t).mean(), "around: 1 - cosine"),
    (check_state_loss, lambda s, t: 1 - (s * t).sum(-1).mean(), "the lengths of both"),
    (check_state_loss, lambda s, t: 1 - (unit(s) * t).sum(-1).mean(), "by the teacher's length"),
    (check_state_loss, lambda s, t: 1 - (s * unit(t)).sum(-1).mean(), "by the student's length"),
    (check_state_loss, lambda s, t: 1 - F.cosine_similarity(s, t, dim=0).mean(), "features over"),
    (check_state_loss, lambda s, t: (1 - F.cosine_similarity(s, t)).sum(), "sum over the posit"),
    (check_state_loss, lambda s, t: 1 - F.cosine_similarity(s, t), "one value a position"),
    (check_state_loss, lambda s, t: 1 - F.cosine_similarity(s.flatten(), t.flatten(), dim=0),
     "share one cosine"),
    (check_state_loss, lambda s, t: F.mse_loss(s, t), "square distance"),
    (check_state_loss, lambda s, t: F.cosine_similarity(s, t).acos().mean(), "the angle"),
    (check_taught_step, step(eval_mode=False), "teacher's dropout is on"),
    (check_taught_step, step(no_grad=False), "gradients reach the teacher"),
    (check_taught_step, step(flat=True), "the teacher's weights moved"),
    (check_taught_step, step(parts="b"), "hidden words alone"),
    (check_taught_step, step(parts="a"), "soft targets alone"),
    (check_taught_step, step(parts="bc"), "soft targets is missing"),
    (check_taught_step, step(parts="ac"), "hidden words is missing"),
    (check_taught_step, step(parts="ab"), "hidden states is missing"),
    (check_taught_step, step(heat=1.0), "the temperature was not passed on"),
    (check_taught_step, step(order=None), "the weights were not used"),
    (check_taught_step, step(order=(1, 0, 2)), "in another order"),
    (check_taught_step, step(use_mask=False), "attention_mask was not passed on"),
    (check_taught_step, step(clear=False), "after two steps"),
    (check_taught_step, step(move=False), "the student has not moved"),
    (check_taught_step, step(quiet=True), "left in evaluation mode"),
    (check_taught_step, step(graph=True), "return loss.item()"),
]
RIGHT = [
    (check_soft_loss, soft_loss),
    (check_soft_loss, torch_kl),
    (check_soft_loss, lambda s, t, T: T**2 * kl(s.double(), t.double(), T, T).mean()),
    (check_blocks, lambda a, b: range(0, a, a // b)),
    (check_blocks, lambda a, b: [n for n in range(a) if n % (a // b) == 0]),
    (check_student, made),
    (check_student, by_state),
    (check_student, copied_before),
    (check_state_loss, state_loss),
    (check_state_loss, lambda s, t: 1 - (unit(s) * unit(t)).sum(-1).mean()),
    (check_state_loss, lambda s, t: F.cosine_embedding_loss(s, t, torch.ones(len(s)))),
    (check_taught_step, step()),
]


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_of_any_style_pass(check, answer):
    assert check(answer) == "right"


def test_no_two_mistakes_look_alike():
    said = [(check, check(answer)) for check, answer, _ in WRONG]
    assert len(set(said)) == len(said)


def test_the_learner_s_own_random_state_is_left_alone():
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    check_taught_step(step())
    large()
    assert torch.equal(torch.rand(4), wanted)
