"""The checker of what notebook 06 puts together: a whole run by its settings."""

from dataclasses import replace

from bertlib.checks import checker, expect, require, same
from bertlib.checks.calling import Answer
from bertlib.checks.loop import puzzle, run_of, small
from bertlib.masking import Masked
from bertlib.optim import Learner, rate_factor
from bertlib.settings import Settings

RECIPE = Settings.make(
    "smoke", optimizer="adamw", start="random", schedule="cosine", batch_size=2, micro_steps=3,
    max_iters=6, val_interval=2, warmup_iters=2, lr_decay_iters=5, learning_rate=0.1,
    min_learning_rate=0.02, weight_decay=2.0, beta1=0.7, beta2=0.9, grad_clip=0.3, mask_rate=0.25)
LINEAR = replace(RECIPE, schedule="linear", max_iters=5, micro_steps=1, batch_size=3, grad_clip=0.0)


class Served:
    """Batches of the small puzzle in turn, which note how they were asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, float]] = []

    def next(self, size: int, rate: float) -> Masked:
        """The next rows; those without a hidden word are passed over."""
        self.asked.append((size, rate))
        first = (len(self.asked) - 1) % 3
        return puzzle().rows(first, first + 2)


def losses_of(settings: Settings, peak: bool = False) -> list[float]:
    """The losses of a run by bertlib; `peak`: the rate stays at its peak."""
    learner, batches, losses = Learner(settings, small()), Served(), []
    for step in range(settings.max_iters):
        micro = [batches.next(settings.batch_size, settings.mask_rate)
                 for _ in range(settings.micro_steps)]
        factor = 1.0 if peak else rate_factor(settings, step, step / settings.max_iters)
        masked = sum(len(part.labels) for part in micro)
        losses.append(float(learner.step(micro, masked, factor)))
    return losses


@checker
def check_journey(answer: Answer) -> None:
    """answer(model, batches, settings, look, save) -> (losses of all steps, the last look).

    batches.next(size, rate) returns a `Masked` part; a step has `micro_steps` of them.
    """
    for settings in (RECIPE, LINEAR):
        batches = Served()
        seen: list[str] = []

        def look(seen: list[str] = seen) -> int:
            seen.append("look")
            return seen.count("look")

        got = answer(small(), batches, settings, look, lambda seen=seen: seen.append("save"))
        require(isinstance(got, tuple | list) and len(got) == 2, "return two things: the list of "
                "losses, and what the last look returned")
        steps, parts = settings.max_iters, settings.micro_steps
        require(set(batches.asked) == {(settings.batch_size, settings.mask_rate)}, "batches.next "
                "wants settings.batch_size and settings.mask_rate")
        require(len(batches.asked) == steps * parts, f"{len(batches.asked)} parts were asked for; "
                f"{steps} steps of {parts} micro batches need {steps * parts}")
        _judge_losses(got[0], settings)
        looks = [event for event in run_of(steps, settings.val_interval) if event[:4] != "step"]
        require(seen == looks, f"it went {', '.join(seen)}; with val_interval="
                f"{settings.val_interval} it should be {', '.join(looks)}: hand look and save on")
        require(same(got[1], looks.count("look")), "return what the last look returned, too")


def _judge_losses(got: list[float], settings: Settings) -> None:
    """The losses tell which of the settings was not used."""
    own = replace(settings, beta1=0.9, beta2=0.999)
    expect(got, losses_of(settings), {
        "the rate stays at its peak: learning_rate * rate_factor(...)":
            losses_of(settings, peak=True),
        "grad_clip is not used": losses_of(replace(settings, grad_clip=0.0)),
        "weight_decay is not that of the settings": losses_of(replace(settings, weight_decay=0.01)),
        "beta1 and beta2 are not those of the settings": losses_of(own),
        "there is no warm-up": losses_of(replace(settings, warmup_iters=0)),
        "learning_rate is not that of the settings": losses_of(
            replace(settings, learning_rate=1e-3, min_learning_rate=2e-4)),
    }, "the losses are others than those of bertlib's steps" + (
        "" if settings.grad_clip else ", with grad_clip=0, which means no clipping"), 1e-3)
