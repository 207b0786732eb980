"""How the checkers build a learner's module with the weights of the right one, to compare them."""

from typing import Any

import torch
from torch import Tensor, nn

from bertlib.checks import require
from bertlib.checks.calling import Answer, NotYet, ask


def right_one(cls: type[nn.Module], config: Any, seed: int = 0) -> nn.Module:
    """The module of the course in evaluation; all its numbers are random, norms and biases too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = cls(config)
        for parameter in module.parameters():
            nn.init.normal_(parameter, mean=0.3, std=0.5)
    return module.eval()


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers that leave the learner's own random state alone."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def build(answer: Answer, config: Any, right: nn.Module) -> nn.Module:
    """An object of the learner's class, with the weights of `right`, in evaluation.

    Raises `NotYet` unless its parts have the names and shapes of `right`: else it could hold no
    weights of this course.
    """
    require(isinstance(answer, type), "hand over the class itself, not an object of it")
    mine = ask(answer, config)
    require(isinstance(mine, nn.Module), "the class should be one of nn.Module: class X(nn.Module)")
    judge_names(mine, right)
    mine.load_state_dict(right.state_dict())
    return mine.eval()


def judge_names(mine: nn.Module, right: nn.Module) -> None:
    """`NotYet` unless both modules have the same parameters, by name and shape."""
    got, wanted = ({name: tuple(p.shape) for name, p in module.state_dict().items()}
                   for module in (mine, right))
    missing, more = [sorted(set(a) - set(b)) for a, b in ((wanted, got), (got, wanted))]
    for name in missing[:1]:
        first = name.split(".")[0]
        require(not isinstance(getattr(mine, first, None), list), f"`{first}` is a plain list, "
                "whose modules PyTorch does not see; make it an nn.ModuleList")
        part = getattr(mine, first, None)
        require(not isinstance(part, Tensor) or isinstance(part, nn.Parameter), f"'{first}' is a "
                "tensor, which nobody trains; make it an nn.Parameter")
        raise NotYet(f"its part '{name}' is missing; there is '{more[0]}' instead: keep the names "
                     "of the contract" if more else f"its part `{_absent(mine, name)}` is missing")
    require(not more, f"'{(more or [''])[0]}' is one part too many with this config")
    for name, shape in wanted.items():
        require(got[name] == shape, f"'{name}' is {list(got[name])}, it should be {list(shape)}")


def _absent(mine: nn.Module, name: str) -> str:
    """The first part of a dotted name that `mine` does not have; the whole name if it has all."""
    owner: Any = mine
    for number, part in enumerate(parts := name.split("."), 1):
        if not hasattr(owner, part):
            return ".".join(parts[:number])
        owner = getattr(owner, part)
    return name
