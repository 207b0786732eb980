"""The whole run of notebook 06 is taken in any style, and a setting that is not used is named."""

from dataclasses import replace

import pytest
import torch

from bertlib.checks.journey import check_journey
from bertlib.optim import Learner, parameter_groups, rate_factor


def journey(model, batches, settings, look, save, parts=None, looks=True, factor=rate_factor):
    """By bertlib's own step."""
    learner, losses = Learner(settings, model), []
    look()
    for n in range(settings.max_iters):
        micro = [batches.next(settings.batch_size, settings.mask_rate)
                 for _ in range(parts or settings.micro_steps)]
        masked = sum(len(part.labels) for part in micro)
        losses.append(float(learner.step(micro, masked, factor(settings, n,
                                                               n / settings.max_iters))))
        if looks and (n + 1) % settings.val_interval == 0 and n + 1 < settings.max_iters:
            look()
    score = look()
    save()
    return losses, score


def by_torch(model, batches, settings, look, save):
    """By PyTorch's AdamW, all parts in one backward pass."""
    optimizer = torch.optim.AdamW(parameter_groups(model, [], settings.weight_decay),
                                  betas=(settings.beta1, settings.beta2))
    seen, losses = [look()], []
    for n in range(settings.max_iters):
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * rate_factor(settings, n, n / settings.max_iters)
        optimizer.zero_grad()
        parts = [batches.next(settings.batch_size, settings.mask_rate)
                 for _ in range(settings.micro_steps)]
        loss = sum(model(p.input_ids, p.positions, p.labels, p.attention_mask).loss * len(p.labels)
                   for p in parts) / sum(len(p.labels) for p in parts)
        loss.backward()
        if settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(model.parameters(), settings.grad_clip)
        optimizer.step()
        losses.append(loss.item())
        if (n + 1) % settings.val_interval == 0 or n + 1 == settings.max_iters:
            seen.append(look())
    save()
    return losses, seen[-1]


def changed(**values):
    def run(model, batches, settings, look, save):
        return journey(model, batches, replace(settings, **values), look, save)
    return run


@pytest.mark.parametrize("answer", [journey, by_torch])
def test_a_right_run_is_taken_however_it_is_written(answer):
    assert check_journey(answer) == "right"


@pytest.mark.parametrize("answer, words", [
    (lambda *g: journey(*g, factor=lambda *where: 1.0), "the rate stays at its peak"),
    (changed(grad_clip=0.0), "grad_clip is not used"),
    (changed(weight_decay=0.01), "weight_decay is not that"),
    (changed(beta1=0.9, beta2=0.999), "beta1 and beta2"),
    (changed(warmup_iters=0), "there is no warm-up"),
    (changed(learning_rate=1e-3, min_learning_rate=2e-4), "learning_rate is not that"),
    (changed(learning_rate=0.09), "are others than those of bertlib's"),
    (lambda m, b, s, *g: journey(m, b, replace(s, grad_clip=s.grad_clip or 1e-12), *g),
     "grad_clip=0, which means no clipping"),
    (changed(batch_size=1), "batches.next wants"), (changed(mask_rate=0.15), "batches.next wants"),
    (lambda *g: journey(*g, parts=2), "12 parts were asked for; 6 steps of 3"),
    (lambda *g: journey(*g, looks=False), "with val_interval=2 it should be look, look, look"),
    (lambda *g: (journey(*g)[0], None), "return what the last look returned"),
    (lambda *g: journey(*g)[0], "return two things"), (lambda *g: None, "it returns nothing"),
])
def test_a_mistake_is_named(answer, words, diagnosed):
    diagnosed(check_journey, answer, words)
