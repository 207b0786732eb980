"""Notebook 06: its checkers name the mistake that was made, its museum shows what it says."""

import pytest
import torch

from bertlib.checks.museum import (
    TOPICS,
    T,
    fresh,
    late_mask,
    masked_loss,
    slot_losses,
    slots,
    toy_world,
    train,
    unigram_loss,
)
from bertlib.checks.trainer import check_adamw, check_clip, check_resume


def adamw(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    m.lerp_(gradient, 1 - beta1)
    v.lerp_(gradient**2, 1 - beta2)
    weight.mul_(1 - lr * decay)
    weight.sub_(lr * m / (1 - beta1**t) / ((v / (1 - beta2**t)).sqrt() + eps))


def adamw_by_the_paper(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    m.copy_(beta1 * m + (1 - beta1) * gradient)
    v.copy_(beta2 * v + (1 - beta2) * gradient * gradient)
    rate = lr * (1 - beta2**t) ** 0.5 / (1 - beta1**t)
    update = rate * m / (v.sqrt() + eps * (1 - beta2**t) ** 0.5)
    weight -= update + lr * decay * weight


def adam(weight, gradient, m, v, lr, beta1, beta2, eps, decay, hats=(1, 1), power=2, sign=1):
    """AdamW with parts to be exchanged; hats: what m and v are divided by."""
    m.lerp_(gradient, 1 - beta1)
    v.lerp_(gradient**power, 1 - beta2)
    weight.mul_(1 - lr * decay)
    weight.sub_(sign * lr * m / hats[0] / ((v / hats[1]).sqrt() + eps))


def halfway(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    adam(weight, gradient, m, v, lr, beta1, beta2, eps, 0)


def without_power(weight, gradient, m, v, t, lr, beta1, beta2, *rest):
    adam(weight, gradient, m, v, lr, beta1, beta2, *rest, hats=(1 - beta1, 1 - beta2))


def first_hat_only(weight, gradient, m, v, t, lr, beta1, *rest):
    adam(weight, gradient, m, v, lr, beta1, *rest, hats=(1 - beta1**t, 1))


def uphill(weight, gradient, m, v, t, lr, beta1, beta2, *rest):
    adam(weight, gradient, m, v, lr, beta1, beta2, *rest, sign=-1,
         hats=(1 - beta1**t, 1 - beta2**t))


def hats_kept(weight, gradient, m, v, t, lr, beta1, beta2, *rest):
    adamw(weight, gradient, m, v, t, lr, beta1, beta2, *rest)
    m.div_(1 - beta1**t)
    v.div_(1 - beta2**t)


def betas_turned(weight, gradient, m, v, t, lr, beta1, beta2, *rest):
    adamw(weight, gradient, m, v, t, lr, 1 - beta1, 1 - beta2, *rest)


def betas_swapped(weight, gradient, m, v, t, lr, beta1, beta2, *rest):
    adamw(weight, gradient, m, v, t, lr, beta2, beta1, *rest)


def no_squares(weight, gradient, m, v, t, lr, beta1, beta2, *rest):
    adam(weight, gradient, m, v, lr, beta1, beta2, *rest, power=1)


def new_moments(weight, gradient, m, v, t, *rest):
    first, second = m.clone(), v.clone()
    adamw(weight, gradient, first, second, t, *rest)
    m.copy_(first)


def without_correction(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    adamw(weight, gradient, m, v, 10**9, lr, beta1, beta2, eps, decay)


def with_l2(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    adamw(weight, gradient + decay * weight, m, v, t, lr, beta1, beta2, eps, 0)


def eps_inside(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    m.lerp_(gradient, 1 - beta1)
    v.lerp_(gradient**2, 1 - beta2)
    weight.mul_(1 - lr * decay)
    weight.sub_(lr * m / (1 - beta1**t) / (v / (1 - beta2**t) + eps).sqrt())


def forgetful(weight, gradient, m, v, *rest):
    adamw(weight, gradient, m.clone(), v.clone(), *rest)


def no_decay(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    adamw(weight, gradient, m, v, t, lr, beta1, beta2, eps, 0)


def decay_without_rate(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    adamw(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay / lr)


def shrunk_after(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay):
    no_decay(weight, gradient, m, v, t, lr, beta1, beta2, eps, decay)
    weight.mul_(1 - lr * decay)


def from_zero(weight, gradient, m, v, t, *rest):
    adamw(weight, gradient, m, v, t - 1, *rest)


def clip(gradients, limit):
    norm = sum(float(g.square().sum()) for g in gradients) ** 0.5
    return [g * min(1.0, limit / (norm + 1e-12)) for g in gradients]


def clip_tensor(gradients, limit):
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    return [g * (limit / norm).clamp(max=1.0) for g in gradients]


def clip_by_torch(gradients, limit):
    leaves = [torch.nn.Parameter(g.clone()) for g in gradients]
    for leaf, gradient in zip(leaves, gradients, strict=True):
        leaf.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_(leaves, limit)
    return [leaf.grad for leaf in leaves]


def resume(run, state, leave_out=""):
    if leave_out != "model":
        run.model.load_state_dict(state["model"])
    if leave_out != "optimizer":
        run.optimizer.load_state_dict(state["optimizer"])
    if leave_out != "place":
        run.place = state["place"]
    if leave_out != "random":
        torch.set_rng_state(state["random"])


def random_too_early(run, state):
    resume(run, state)
    torch.rand(1)


RIGHT = [
    (check_adamw, adamw), (check_adamw, adamw_by_the_paper),
    (check_clip, clip), (check_clip, clip_by_torch), (check_clip, clip_tensor),
    (check_resume, resume),
]

WRONG = [
    (check_adamw, lambda *given: None, "did not move"),
    (check_adamw, lambda weight, gradient, *rest: weight.sub_(0.1 * gradient), "plain gradient"),
    (check_adamw, without_correction, "bias correction is missing"),
    (check_adamw, with_l2, "Adam with L2"),
    (check_adamw, eps_inside, "inside the root"),
    (check_adamw, forgetful, "still 0"),
    (check_adamw, no_decay, "does not decay"),
    (check_adamw, decay_without_rate, "not multiplied by the learning rate"),
    (check_adamw, shrunk_after, "after the step"),
    (check_adamw, from_zero, "not a number"),
    (check_adamw, halfway, "divided by 1 - beta**t and the weight does not decay"),
    (check_adamw, without_power, "m and v are divided by 1 - beta; it is 1 - beta**t"),
    (check_adamw, first_hat_only, "v is not corrected"),
    (check_adamw, uphill, "goes uphill"),
    (check_adamw, hats_kept, "kept after bias correction"),
    (check_adamw, betas_turned, "changed places in m and v"),
    (check_adamw, betas_swapped, "beta1 belongs to m"),
    (check_adamw, no_squares, "it needs their squares"),
    (check_adamw, new_moments, "v is still 0"),
    (check_adamw, lambda weight, gradient, *rest: adamw(weight, gradient.mul_(2), *rest),
     "the gradient itself was changed"),
    (check_adamw, lambda weight, gradient, m, v, t, lr, *rest: adamw(
        weight, gradient, m, v, t, 2 * lr, *rest), "m and v are right, the step is not"),
    (check_adamw, lambda weight: None, "TypeError"),
    (check_clip, lambda gradients, limit: [g.mul_(0.1) for g in gradients],
     "gradients itself was changed; work on a copy"),
    (check_clip, lambda gradients, limit: clip(gradients, limit)[0], "not a list"),
    (check_resume, lambda run, state: run.model.load_state_dict(state.pop("model")),
     "state itself was changed"),
    (check_resume, lambda run, state: run.load(state), "AttributeError"),
    (check_clip, lambda gradients, limit: None, "returns nothing"),
    (check_clip, lambda gradients, limit: gradients, "as they were"),
    (check_clip, lambda gradients, limit: [g * min(1.0, limit / float(torch.cat(
        [h.flatten() for h in gradients]).norm())) for g in gradients], "ZeroDivisionError"),
    (check_clip, lambda gradients, limit: [g * (limit / n).clamp(max=1) if n else g / n for n in [
        torch.cat([h.flatten() for h in gradients]).norm()] for g in gradients], "norm 0"),
    (check_clip, lambda gradients, limit: [clip([g], limit)[0] for g in gradients], "own norm"),
    (check_clip, lambda gradients, limit: [g.clamp(-limit, limit) for g in gradients],
     "each number"),
    (check_clip, lambda gradients, limit: [
        g * limit / torch.cat([h.flatten() for h in gradients]).norm() for g in gradients],
     "scaled up"),
    (check_clip, lambda gradients, limit: [
        g * min(1, limit / sum(float(h.square().sum()) for h in gradients)) for g in gradients],
     "root is missing"),
    (check_clip, lambda gradients, limit: [
        g * min(1, limit / sum(float(h.norm()) for h in gradients)) for g in gradients],
     "norms of the tensors were added"),
    (check_resume, lambda run, state: None, "weights are not those"),
    (check_resume, lambda run, state: resume(run, state, "model"), "weights are not those"),
    (check_resume, lambda run, state: resume(run, state, "optimizer"), "forgot its moments"),
    (check_resume, lambda run, state: resume(run, state, "random"), "random state"),
    (check_resume, lambda run, state: resume(run, state, "place"), "place in the data"),
    (check_resume, random_too_early, "random state"),
]


@pytest.mark.parametrize("check, answer", RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize("check, answer, words", WRONG)
def test_the_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)


def test_the_random_state_is_left_as_it_was():
    before = torch.get_rng_state()
    check_resume(resume)
    assert torch.equal(before, torch.get_rng_state())


@pytest.fixture(scope="module")
def world():
    return toy_world()


def test_rows_of_the_toy_language_are_whole_and_labelled_rightly(world):
    tokens = world.tokenizer
    topics = [set(" ".join(topic).split()) for topic in TOPICS]
    for ids, order in zip(world.train_ids[:200].tolist(), world.train_order[:200], strict=True):
        text = " ".join(tokens.tokens(ids))
        assert text.startswith("[CLS] the ") and "[UNK]" not in text and text.count("[SEP]") == 2
        parts = [part.removeprefix("[CLS]").split() for part in text.split("[SEP]")[:2]]
        assert all(sum(bool(topic & set(part)) for topic in topics) == 1 for part in parts)
        assert (parts[1][0] == "the") == bool(order)
    assert 0.4 < world.val_order.float().mean() < 0.6


def test_slots_hold_the_puzzle_and_weights_strike_out_the_rest(world):
    batch = world.frozen.rows(0, 20)
    positions, labels, weights = slots(batch, most=6)
    used = weights.bool()
    assert torch.equal(positions[used], batch.positions)
    assert torch.equal(labels[used], batch.labels)
    assert not labels[~used].any() and not (positions[~used] % T).any()
    losses, weights = slot_losses(fresh(), batch, most=6)
    mean = (losses * weights).sum() / weights.sum()
    assert torch.allclose(mean, masked_loss(fresh(), batch), atol=1e-5)


def test_a_late_mask_is_the_right_attention_where_nothing_is_padded(world):
    ids = world.val_ids[:, :11]
    assert torch.allclose(fresh()(ids).logits, late_mask(fresh())(ids).logits, atol=1e-5)
    mask = torch.ones_like(ids, dtype=torch.bool)
    mask[:, 9:] = False
    right, late = (model(ids, attention_mask=mask).logits for model in
                   (fresh(), late_mask(fresh())))
    assert not torch.allclose(right, late, atol=1e-4)


def test_the_loop_learns_and_repeats_itself(world):
    curve, told = train(world, fresh(), steps=60)
    assert curve[0] == [0, 10, 20, 30, 40, 50, 60]
    assert curve[1][-1] < unigram_loss(world) < curve[1][0]
    assert train(world, fresh(), steps=60) == (curve, told)
