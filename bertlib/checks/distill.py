"""Checkers of notebook 11: soft targets, hidden states, which blocks to keep, the student."""

from copy import deepcopy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checks import checker, expect, mistakes, require
from bertlib.checks.calling import Answer
from bertlib.checks.modules import draw, right_one

# What may go wrong in the loss on soft targets: its right choice first, then mistakes in words.
SOFT_CHOICES: dict[str, dict[Any, str]] = {
    "factor": {2: "", 0: "T^2 is missing: without it the gradients shrink as T grows",
               1: "it is multiplied by T; by T^2"},
    "order": {"told": "", "own": "the KL is turned around: the mean goes by the teacher's shares",
              "cross": "that is the cross-entropy: it has the same gradient, but is not 0 where "
                       "both agree; subtract the teacher's own entropy"},
    "heat": {"both": "", "none": "the temperature was not used in the shares",
             "own": "the temperature divides the student's logits alone; the teacher's, too",
             "told": "the temperature divides the teacher's logits alone; the student's, too",
             "times": "you multiplied by the temperature; divide, so that differences shrink"},
    "axis": {-1: "", 0: "the shares sum to 1 over the positions; over the words, the last axis"},
    "mean": {"rows": "", "all": "that is the mean over all numbers; sum over the words, then "
                                "the mean over positions (reduction='batchmean')",
             "none": "that is the sum over all positions; take their mean",
             "each": "there is one value a position; take their mean"},
    "sign": {1: "", -1: "the sign is turned around: the KL is never negative"},
}


def _soft(student: Tensor, teacher: Tensor, heat: float, choice: dict[str, Any]) -> Tensor:
    """The loss with one choice for each part, right or wrong."""
    own_heat, told_heat = {"both": (heat, heat), "none": (1, 1), "own": (heat, 1),
                           "told": (1, heat), "times": (1 / heat, 1 / heat)}[choice["heat"]]
    own = (student / own_heat).log_softmax(choice["axis"])
    told = (teacher / told_heat).log_softmax(choice["axis"])
    parts = {"told": told.exp() * (told - own), "own": own.exp() * (own - told),
             "cross": -told.exp() * own}[choice["order"]]
    rows = parts.sum(-1)
    value = {"rows": rows.mean(), "all": parts.mean(), "none": rows.sum(), "each": rows}
    return choice["sign"] * heat ** choice["factor"] * value[choice["mean"]]


def _slips(student: Tensor, teacher: Tensor, heat: float) -> dict[str, Tensor]:
    """What is returned if F.kl_div is given the wrong kind of shares."""
    own, told = (student / heat).log_softmax(-1), (teacher / heat).log_softmax(-1)
    return {"F.kl_div wants logarithms for its first argument: log_softmax, not softmax":
            heat**2 * F.kl_div(own.exp(), told.exp(), reduction="batchmean"),
            "F.kl_div takes the teacher's shares, unless you say log_target=True":
            heat**2 * F.kl_div(own, told, reduction="batchmean"),
            "log_target=True wants logarithms; these are shares":
            heat**2 * F.kl_div(own, told.exp(), reduction="batchmean", log_target=True),
            "that is the distance of the logits, not of the shares": F.mse_loss(student, teacher)}


@checker
def check_soft_loss(answer: Answer) -> None:
    """answer(student [K, V], teacher [K, V], temperature) -> T^2 KL(teacher || student), a mean."""
    right = {part: next(iter(ways)) for part, ways in SOFT_CHOICES.items()}
    student, teacher = 2 * draw(3, 5, seed=1), 2 * draw(3, 5, seed=2)
    for heat, seed in ((2.0, 0), (1.0, 3), (5.0, 4)):
        if seed:
            student, teacher = draw(7, 11, seed=seed), 3 * draw(7, 11, seed=seed + 9)
        wrong = mistakes(SOFT_CHOICES, lambda choice: _soft(
            student, teacher, heat, choice), 2 if heat == 2 else 0)  # noqa: B023
        expect(answer(student, teacher, heat), _soft(student, teacher, heat, right),
               (wrong | _slips(student, teacher, heat)) if heat == 2 else None,
               f"not T^2 times the KL, for logits {tuple(student.shape)} and T = {heat:g}")
    expect(answer(student, student.clone(), 3.0), 0.0,
           hint="where both agree the loss should be 0", tolerance=1e-5)
    sure = torch.tensor([[300.0, 0.0, -300.0]])
    far = torch.as_tensor(answer(sure, sure.flip(-1), 1.0))
    require(bool(far.isfinite().all()), "logits of 300 make it infinite or not a number: take "
            "log_softmax, not the logarithm of softmax")
    expect(far, 600.0, hint="right for small logits, but not for 300, 0, -300 and their reverse")
    learns = student.clone().requires_grad_()
    got = answer(learns, teacher, 2.0)
    require(isinstance(got, Tensor) and got.requires_grad, "no gradient flows back to the "
            "student's logits; return a tensor, not a number")


@checker
def check_blocks(answer: Answer) -> None:
    """answer(teacher, student) -> the numbers of the blocks to keep, one of each so many."""
    for teacher, student in ((12, 6), (4, 2), (12, 3), (6, 1)):
        step = teacher // student
        got = answer(teacher, student)
        require(not isinstance(got, list | tuple) or all(isinstance(n, int) for n in got),
                "numbers of blocks are whole numbers: divide by //, not by /")
        expect(list(got) if isinstance(got, range) else got, list(range(0, teacher, step)), {
            "these are the lowest blocks; take one of each so many": list(range(student)),
            "these are the highest blocks; take one of each so many":
                list(range(teacher - student, teacher)),
            "blocks are counted from 0, and the first one stays":
                list(range(step - 1, teacher, step)),
            "these count from 1; the first block has number 0": list(range(1, teacher + 1, step)),
            "that is every second block, whatever was asked for": list(range(0, teacher, 2)),
            "all blocks are kept": list(range(teacher)),
            "one block too few": list(range(0, teacher, step))[:-1],
        }, f"not the blocks for {teacher} -> {student}: {list(range(0, teacher, step))}")


def large(dropout: float = 0.0) -> BertForMaskedLM:
    """A small teacher with four blocks, all its numbers random."""
    config = BertConfig(11, 5, 8, 2, 4, dropout=dropout, attention_dropout=0.0, norm_eps=1e-5)
    return right_one(BertForMaskedLM, config)  # type: ignore[return-value]


def _judge_copy(student: BertForMaskedLM, teacher: BertForMaskedLM, kept: list[int]) -> None:
    """`NotYet` unless each weight is a copy of the right one of the teacher's."""
    weights, blocks = teacher.state_dict(), student.encoder.blocks
    require(len(blocks) == len(kept), f"it has {len(blocks)} blocks, {len(kept)} are asked for")
    require(student.config.n_layer == len(kept), "its config still says "
            f"n_layer={student.config.n_layer}; saved like that, nobody could load it")
    for place, number in enumerate(kept):
        mine = blocks[place].state_dict()
        found = [n for n, block in enumerate(teacher.encoder.blocks)
                 if all(torch.equal(mine[name], p) for name, p in block.state_dict().items())]
        require(bool(found), f"its block {place} is none of the teacher's; load_state_dict copies "
                             "the weights")
        require(found == [number], f"its block {place} is block {found} of the teacher, not "
                f"[{number}]: by their names alone, the lowest blocks are loaded")
    for name, value in student.state_dict().items():
        part = name.split(".")[1] if name.startswith("encoder") else "head"
        require(part == "blocks" or torch.equal(value, weights[name]),
                f"'{name}' is not the teacher's; the {part} must be copied, too")
    theirs = {p.data_ptr() for p in teacher.parameters()}
    shared = [name for name, p in student.named_parameters() if p.data_ptr() in theirs]
    require(not shared, f"'{(shared or [''])[0]}' is the teacher's own tensor, not a copy: "
            "training the student would change the teacher")
    tied = student.head.decoder.weight is student.encoder.embeddings.token.weight
    require(tied, "decoder and token table must stay one tensor, as in the teacher")


@checker
def check_student(answer: Answer) -> None:
    """answer(teacher, kept) -> a BertForMaskedLM of the teacher's blocks `kept`, copied."""
    for kept in ([0, 2], [1, 3], [2]):
        teacher = large()
        before = deepcopy(teacher.state_dict())
        student = answer(teacher, list(kept))
        require(isinstance(student, BertForMaskedLM), f"it returns {type(student).__name__}, not a "
                "BertForMaskedLM")
        after = teacher.state_dict()
        require(len(teacher.encoder.blocks) == 4 and after.keys() == before.keys() and
                all(torch.equal(after[name], before[name]) for name in before) and
                teacher.config.n_layer == 4, "the teacher itself was changed; make a new model")
        _judge_copy(student, teacher, kept)


@checker
def check_state_loss(answer: Answer) -> None:
    """answer(student [K, D], teacher [K, D]) -> 1 - cosine, the mean over K positions."""
    for seed in (0, 1):
        student, teacher = 2 * draw(4, 6, seed=seed), 3 * draw(4, 6, seed=seed + 5) + 0.5
        dot, long = (student * teacher).sum(-1), student.norm(dim=-1) * teacher.norm(dim=-1)
        cosine = dot / long
        expect(answer(student, teacher), 1 - cosine.mean(), {
            "that is the cosine; the loss is 1 minus it": cosine.mean(),
            "the sign is turned around, and 1 is missing: 1 - cosine": -cosine.mean(),
            "the sign is turned around: 1 - cosine": 1 + cosine.mean(),
            "the products are not divided by the lengths of both": 1 - dot.mean(),
            "divide by the teacher's length, too": 1 - (dot / student.norm(dim=-1)).mean(),
            "divide by the student's length, too": 1 - (dot / teacher.norm(dim=-1)).mean(),
            "that compares features over the positions; a position has a state, the last axis":
                1 - F.cosine_similarity(student, teacher, dim=0).mean(),
            "that is the sum over the positions; take their mean": (1 - cosine).sum(),
            "there is one value a position; take their mean": 1 - cosine,
            "all positions share one cosine; each has its own, then the mean":
                1 - dot.sum() / (student.norm() * teacher.norm()),
            "that is the square distance; only the direction counts": F.mse_loss(student, teacher),
            "that is the angle; 1 - its cosine": cosine.acos().mean(),
        }, "1 minus the cosine of each position, then the mean")
    expect(answer(7 * student, student), 0.0, hint="longer is not another direction: 7 x and x "
           "should have a loss of 0", tolerance=1e-5)
    expect(answer(-student, student), 2.0, hint="opposite directions should have a loss of 2")
    got = answer(student.clone().requires_grad_(), teacher)
    require(isinstance(got, Tensor) and got.requires_grad, "no gradient flows back to the "
            "student's states; return a tensor, not a number")
