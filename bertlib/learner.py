"""One step: the loss of a batch, its gradient, and an update by each optimiser."""

from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from bertlib.bert import BertForMaskedLM
from bertlib.device import autocast, pick_device, pick_precision
from bertlib.masking import Masked
from bertlib.optim import build_optimizers, set_rates
from bertlib.ranks import ALONE, Ranks
from bertlib.settings import Settings
from bertlib.states import load_weights


class Learner:
    """A model on its device with all that changes its weights."""

    def __init__(self, settings: Settings, model: BertForMaskedLM, ranks: Ranks = ALONE):
        self.settings, self.ranks = settings, ranks
        self.device = pick_device(settings.device)
        self.dtype = pick_precision(settings.precision, self.device)
        self.model = model.to(self.device)
        self.optimizers = build_optimizers(model, settings, self.dtype)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)
        if settings.compile:
            for block in model.encoder.blocks:  # one small graph, used by all layers
                block.compile()
        self.replica = self.model if ranks.world == 1 else DistributedDataParallel(
            self.model, forward_sync_buffers=False, gradient_as_bucket_view=True)

    def step(self, micro: list[Masked], masked: int, factor: float) -> Tensor:
        """One update by the mean loss over all `masked` words, at `factor` of the peak rates.

        Returns this rank's part of the loss, in nats.
        """
        set_rates(self.optimizers, factor)
        loss = self.accumulate(micro, masked)
        for optimizer in self.optimizers:
            self.scaler.unscale_(optimizer)
        if self.settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.grad_clip)
        for optimizer in self.optimizers:
            self.scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
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
                loss = out.loss * (len(batch.labels) / masked)
                # the ranks' gradients are averaged, but their losses are parts of one sum
                self.scaler.scale(loss * self.ranks.world).backward()
            summed += loss.detach()
        return summed

    def is_finite(self) -> bool:
        """Whether every weight is a number that can be trained on and saved."""
        return bool(torch.stack([p.detach().isfinite().all() for p in
                                 self.model.parameters()]).all())

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {"model": self.model.state_dict(), "scaler": self.scaler.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned; `InputError` if the weights have another form."""
        load_weights(self.model, state["model"], "The checkpoint")
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.scaler.load_state_dict(state["scaler"])
