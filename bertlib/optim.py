"""One step: the loss of a batch, its gradient, how far to step, and in which direction.

Sources: AdamW, Loshchilov & Hutter 2019; cosine to a floor, nanoGPT after Loshchilov & Hutter
2017; Muon, Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon/).
"""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.optimizer import ParamsT

from bertlib.bert import BertForMaskedLM
from bertlib.masking import Masked
from bertlib.plumbing.device import autocast, machine_name, prepare_training
from bertlib.plumbing.ranks import ALONE, Ranks
from bertlib.plumbing.states import load_weights
from bertlib.settings import Settings
from bertlib.told import Kept

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: fast, lands near 1, not on it


def rate_factor(settings: Settings, step: int, progress: float) -> float:
    """Learning rate as a share of its peak, at most 1: a warm-up, then down to the floor.

    "cosine" follows `step` up to lr_decay_iters; "linear" follows `progress`, the share 0..1 of
    the run that is done, so that it ends at the floor whatever the run's length.
    """
    if step < settings.warmup_iters:
        return (step + 1) / settings.warmup_iters
    floor = min(1.0, settings.min_learning_rate / settings.learning_rate)
    if settings.schedule == "linear":
        return max(floor, 1 - progress)
    span = max(1, settings.lr_decay_iters - settings.warmup_iters)
    done = min(1.0, (step - settings.warmup_iters) / span)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def orthogonalise(gradients: Tensor, steps: int = 5) -> Tensor:
    """Make all singular values about 1 (0.7 to 1.2) by Newton-Schulz, in the type given.

    [n, rows, columns] with rows <= columns.
    """
    x = gradients / (gradients.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    if x.shape[-1] > x.shape[-2] and x.dtype == torch.float32:
        return _orthogonalise_wide(x, steps)
    for _ in range(steps):
        x = _polynomial(x @ x.mT) @ x
    return x


def _polynomial(square: Tensor) -> Tensor:
    """a + b square + c square^2, [n, rows, rows]: what a step multiplies x by from the left."""
    a, b, c = NEWTON_SCHULZ
    factor = torch.baddbmm(square, square, square, beta=b, alpha=c)  # [n, rows, rows]
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor


def _orthogonalise_wide(x: Tensor, steps: int) -> Tensor:
    """The same steps, in half the time: all but the last product are [n, rows, rows].

    Each factor is a polynomial of x x^T, so all commute: the next x x^T is factor (x x^T) factor.
    For float32 only, as the errors of few digits would add up.
    """
    square = x @ x.mT  # [n, rows, rows]
    factor = product = _polynomial(square)
    for _ in range(steps - 1):
        square = factor @ square @ factor
        factor = _polynomial(square)
        product = factor @ product
    return product @ x


class Muon(torch.optim.Optimizer):
    """Momentum, then orthogonalised: each direction of a weight matrix gets an equal step.

    For hidden matrices only; those of one shape go through one batched call in `dtype`.
    `torch.optim.Muon` takes the same steps, always in bfloat16: without instructions for it three
    times as slow (164 ms for 2 blocks of width 256, here 55; 2 cores).
    """

    def __init__(self, matrices: ParamsT, lr: float, momentum: float = 0.95,
                 weight_decay: float = 0.0, dtype: torch.dtype = torch.float32):
        super().__init__(matrices, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure=None) -> None:  # type: ignore[override]
        """One step from the gradients; parameters without one stay."""
        for group in self.param_groups:
            shapes: dict[tuple, list[nn.Parameter]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    shapes.setdefault(tuple(sorted(matrix.shape)), []).append(matrix)
            for matrices in shapes.values():
                self._step_alike(matrices, group)

    def _step_alike(self, matrices: list[nn.Parameter], group: dict) -> None:
        wide = [self._direction(matrix, group["momentum"]) for matrix in matrices]
        for matrix, update in zip(matrices, orthogonalise(torch.stack(wide)), strict=True):
            rows, columns = matrix.shape
            update = (update if rows <= columns else update.mT).to(matrix.dtype)
            matrix.mul_(1 - group["lr"] * group["weight_decay"])
            matrix.add_(update, alpha=-group["lr"] * max(1, rows / columns) ** 0.5)

    def _direction(self, matrix: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov momentum of the gradient, turned so that rows <= columns."""
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        gradient = cast(Tensor, matrix.grad)  # `step` takes none without
        state["momentum"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(state["momentum"], momentum).to(self.dtype)
        return ahead if ahead.shape[0] <= ahead.shape[1] else ahead.mT


def parameter_groups(model: nn.Module, matrices: list[nn.Parameter], weight_decay: float) -> list:
    """AdamW's groups: decay for matrices and embeddings, none for biases, norms and gains."""
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken]
    decay = [p for p in rest if p.ndim == 2]
    plain = [p for p in rest if p.ndim != 2]  # a gain for each head is [H, 1, 1]
    groups = [(decay, weight_decay), (plain, 0.0)]
    return [{"params": params, "weight_decay": wd} for params, wd in groups if params]


def matrix_shares(model: BertForMaskedLM, settings: Settings) -> dict[float, list[nn.Parameter]]:
    """Muon's matrices: those of the blocks, and the head's own; by their share of its rate."""
    groups: dict[float, list[nn.Parameter]] = {}
    added, compared = settings.output_share, settings.query_key_share
    share = {"output": added, "down": added, "query": compared, "key": compared}
    for name, parameter in model.named_parameters():
        kind = name.split(".")[-2]
        if parameter.ndim == 2 and (".blocks." in name or kind == "transform"):
            groups.setdefault(share.get(kind, 1.0), []).append(parameter)
    return groups


def build_optimizers(model: BertForMaskedLM, settings: Settings, dtype: torch.dtype) -> list:
    """The optimisers of a recipe: AdamW alone, or Muon beside it, which multiplies in `dtype`.

    Each group keeps its peak rate in "peak_lr".
    """
    shares = matrix_shares(model, settings) if settings.optimizer == "muon" else {}
    matrices = [matrix for group in shares.values() for matrix in group]
    optimizers: list[torch.optim.Optimizer] = [torch.optim.AdamW(
        parameter_groups(model, matrices, settings.weight_decay), lr=settings.learning_rate,
        betas=(settings.beta1, settings.beta2), fused=settings.fused_adamw,
    )]
    if matrices:
        rate, decay = settings.matrix_learning_rate, settings.weight_decay
        groups = [{"params": group, "lr": rate * share} for share, group in shares.items()]
        optimizers.append(Muon(groups, rate, weight_decay=decay, dtype=dtype))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


class Learner:
    """A model on its device with all that changes its weights."""

    def __init__(self, settings: Settings, model: BertForMaskedLM, ranks: Ranks = ALONE):
        ranks.require(settings.first_batch_size or settings.batch_size)
        self.settings, self.ranks = settings, ranks
        self.device, self.dtype = prepare_training(settings.device, settings.precision)
        self.model = model.to(self.device)
        self.optimizers = build_optimizers(model, settings, self.dtype)
        told = settings.told()
        self.kept = Kept(model, told) if told else None
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if settings.compile:
            for block in model.encoder.blocks:  # one small graph, used by all layers
                block.compile()
        self.replica: Any = self.model if ranks.world == 1 else DistributedDataParallel(
            self.model, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def step(self, micro: list[Masked], masked: int, factor: float) -> Tensor:
        """One update by the mean loss over all `masked` words, at `factor` of the peak rates.

        Returns this rank's part of the loss, in nats.
        """
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak_lr"] * factor
        loss = self.accumulate(micro, masked)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        if self.kept:
            self.kept.put_back()
        self.scaler.update()
        return loss

    def accumulate(self, micro: list[Masked], masked: int) -> Tensor:
        """Add up gradients as if the micro batches were one; each counts by its masked words."""
        summed = torch.zeros((), device=self.device)
        for number, batch in enumerate(micro, 1):
            batch = batch.to(self.device, non_blocking=self.settings.async_to_device)
            alone = self.ranks.world == 1 or number == len(micro)
            with nullcontext() if alone else self.replica.no_sync():  # ranks talk once a step
                with autocast(self.device, self.dtype):
                    out = self.replica(batch.input_ids, batch.positions, batch.labels,
                                       batch.attention_mask)
                # of chunks without a word, only [UNK], the mean loss is no number
                share = len(batch.labels) / max(1, masked)
                loss = out.loss * share if len(batch.labels) else out.logits.sum()
                # the ranks' gradients are averaged, but their losses are parts of one sum
                self.scaler.scale(loss * self.ranks.world).backward()
            summed += loss.detach()
        return summed

    def is_finite(self) -> bool:
        """Whether every weight is a number that can be trained on and saved."""
        return bool(torch.stack([p.detach().isfinite().all() for p in
                                 self.model.parameters()]).all())

    def conditions(self) -> dict[str, Any]:
        """What it is, and on what it learns, as plain values."""
        return {
            "parameters": self.model.n_parameters(), "seed": self.settings.seed,
            "device": str(self.device), "precision": str(self.dtype),
            "threads": torch.get_num_threads(), "ranks": self.ranks.world,
            "machine": machine_name(self.device), "torch": str(torch.__version__),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"model": self.model.state_dict(), "scaler": self.scaler.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` returned; `InputError` if the weights have another form."""
        load_weights(self.model, state["model"], "The checkpoint")
        if self.kept:
            self.kept = Kept(self.model, self.kept.told)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
