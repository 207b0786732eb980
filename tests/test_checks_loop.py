"""The loop of notebook 06 is taken in any style, and its mistakes are told apart."""

import math

import pytest
import torch
import torch.nn.functional as F

from bertlib.checks.loop import (
    check_accumulate,
    check_evaluate,
    check_loop,
    check_step,
    loss_of,
)
from bertlib.checks.rates import check_parameter_groups, check_rate_factor
from bertlib.optim import parameter_groups, rate_factor
from bertlib.scoring import evaluate


def factor(s, step, progress, first=1, start=None, end=None, low=None, straight=False, stop=True):
    low = s.min_learning_rate / s.learning_rate if low is None else low
    if step < s.warmup_iters:
        return (step + first) / s.warmup_iters
    if s.schedule == "linear":
        return max(low, 1 - progress)
    begin = s.warmup_iters if start is None else start
    done = (step - begin) / ((end or s.lr_decay_iters) - begin)
    done = min(1.0, done) if stop else done
    if straight:
        return max(low, 1 - (1 - low) * done)
    return low + (1 - low) * (0.5 + 0.5 * math.cos(math.pi * done))


def always_cosine(s, step, progress):
    class Cosine:
        schedule = "cosine"
        def __getattr__(self, name):
            return getattr(s, name)
    return factor(Cosine(), step, progress)


def line_by_step(s, step, progress):
    if s.schedule == "cosine" or step < s.warmup_iters:
        return factor(s, step, progress)
    low = s.min_learning_rate / s.learning_rate
    done = (step - s.warmup_iters) / (s.lr_decay_iters - s.warmup_iters)
    return max(low, 1 - (1 - low) * done)


def groups(model, matrices, weight_decay, decays=lambda name, p: p.ndim == 2, skip=True, keep=id):
    taken = {id(m) for m in matrices} if skip else set()
    rest = [(name, p) for name, p in model.named_parameters() if id(p) not in taken]
    split = {weight_decay: [p for name, p in rest if decays(name, p)],
             0.0: [p for name, p in rest if not decays(name, p)]}
    return [dict(params=params, weight_decay=decay) for decay, params in split.items() if params]


def one_each(model, matrices, weight_decay):
    """A group for each parameter."""
    taken = set(map(id, matrices))
    return tuple({"params": [p], "weight_decay": weight_decay * (p.ndim == 2), "name": name}
                 for name, p in model.named_parameters() if id(p) not in taken)


def accumulate(model, micro, masked, share=lambda k, masked: k / masked, between=None,
               told=lambda losses, shares: sum(x * k for x, k in zip(losses, shares, strict=True))):
    losses, shares = [], []
    for batch in micro:
        if between:
            between(model)
        loss, k = loss_of(model, batch), share(len(batch.labels), masked)
        (loss * k).backward()
        losses.append(loss.item())
        shares.append(k)
    return told(losses, shares)


def all_at_once(model, micro, masked):
    """The parts' losses added up, and one backward pass."""
    logits = [model(b.input_ids, b.positions, None, b.attention_mask).logits for b in micro]
    labels = torch.cat([b.labels for b in micro])
    loss = F.cross_entropy(torch.cat(logits), labels, reduction="sum") / masked
    loss.backward()
    return loss.detach()


def with_graph(model, micro, masked):
    losses = [loss_of(model, b) * len(b.labels) / masked for b in micro]
    sum(losses).backward()
    return sum(losses)


def step(model, optimizer, micro, lr, limit, rate=True, clear=True, norm=True, each=False,
         share=lambda k, masked: k / masked):
    for group in optimizer.param_groups:
        group["lr"] = lr if rate else group["lr"]
    if clear:
        optimizer.zero_grad()
    loss = accumulate(model, micro, sum(len(part.labels) for part in micro), share)
    for some in ([p] for p in model.parameters()) if each else [model.parameters()]:
        if norm:
            torch.nn.utils.clip_grad_norm_(some, limit)
    optimizer.step()
    return loss


def step_by_hand(model, optimizer, micro, lr, limit):
    model.zero_grad()
    loss = all_at_once(model, micro, sum(len(part.labels) for part in micro))
    norm = torch.cat([p.grad.flatten() for p in model.parameters()]).norm()
    for p in model.parameters():
        p.data -= lr * p.grad * min(1.0, limit / float(norm))
    return loss.detach()


def emptied(model, optimizer, micro, lr, limit):
    loss = loss_of(model, micro[0])
    loss.backward()
    optimizer.zero_grad(set_to_none=False)
    optimizer.step()
    return loss.item()


def step_after(model, optimizer, micro, lr, limit):
    step(model, optimizer, micro, lr, limit)
    return loss_of(model, micro[0]).item()


@torch.no_grad()
def score(model, batches, mean=False, train=None, back=True, skip=True, ends=lambda *sums: sums):
    mode = model.training
    model.train(train if train is not None else False)
    losses, hits = [], []
    for b in batches:
        if skip and not len(b.labels):
            continue
        logits = model(b.input_ids, b.positions, None, b.attention_mask).logits
        each = F.cross_entropy(logits, b.labels, reduction="none")
        right = (logits.argmax(-1) == b.labels).float()
        losses += [each.mean()[None] if mean else each]
        hits += [right.mean()[None] if mean else right]
    if back:
        model.train(mode)
    losses, hits = torch.cat(losses), torch.cat(hits)
    return ends(losses.mean(), hits.mean(), sum(len(b.labels) for b in batches))


def score_of_course(model, batches):
    return evaluate(model, iter(batches), torch.device("cpu"), torch.float32)


def learning(model, batches):
    sum(loss_of(model, b) for b in batches if len(b.labels)).backward()
    return score(model, batches)


def run(step, look, save, max_iters, val_interval, first=True, last=True, order=True, more=0,
        start=0, when=lambda n, k: (n + 1) % k == 0, twice=False):
    got = look() if first else None
    for n in range(max_iters + more):
        step(n + start)
        if when(n, val_interval) and (n + 1 < max_iters or twice):
            got = look()
    if order is False:
        save()
    got = look() if last else got
    if order is True:
        save()
    return got


def while_run(step, look, save, max_iters, val_interval):
    done = 0
    while done < max_iters:
        if done % val_interval == 0:
            look()
        step(done)
        done += 1
    score = look()
    save()
    return score


RIGHT = [
    (check_rate_factor, rate_factor), (check_rate_factor, factor),
    (check_rate_factor, lambda *given: torch.tensor(factor(*given))),
    (check_parameter_groups, parameter_groups), (check_parameter_groups, groups),
    (check_parameter_groups, one_each),
    (check_accumulate, accumulate), (check_accumulate, all_at_once),
    (check_step, step), (check_step, step_by_hand),
    (check_evaluate, score_of_course), (check_evaluate, score),
    (check_loop, run), (check_loop, while_run),
]

RATES = [
    (lambda s, n, p: factor(s, n, p, first=0), "the warm-up begins with 0"),
    (lambda s, n, p: factor(s, max(n, s.warmup_iters), p), "there is no warm-up"),
    (lambda s, n, p: factor(s, n, p, low=0.0), "the floor is missing"),
    (lambda s, n, p: factor(s, n, p, low=s.min_learning_rate), "it is min / peak"),
    (lambda s, n, p: factor(s, n, p) * s.learning_rate, "the rate itself"),
    (lambda s, n, p: factor(s, n, p, start=0), "the cosine begins at step 0"),
    (lambda s, n, p: factor(s, n, p, end=s.max_iters), "the cosine ends at max_iters"),
    (lambda s, n, p: factor(s, n, p, stop=False), "it rises again"),
    (lambda s, n, p: factor(s, n, p, straight=True), "a straight line"),
    (always_cosine, "that is a cosine"),
    (line_by_step, "the line ends at lr_decay_iters"),
    (lambda s, n, p: 1, "the peak at every step"),
    (lambda s, n, p: 1.0 if n >= s.warmup_iters else factor(s, n, p), "constant after the warm-up"),
    (lambda s, n, p: factor(s, n, p) + (n == 30), "step 30 should be at 0.25, not 1.25"),
    (lambda s, n, p: [factor(s, n, p)], "return one number"),
    (lambda s, n: factor(s, n, 0.0), "TypeError"),
]

GROUPS = [
    (lambda m, x, w: groups(m, x, w, decays=lambda name, p: p.ndim >= 2), "a gain for each head"),
    (lambda m, x, w: groups(m, x, w, decays=lambda name, p: p.ndim == 2 or "bias" in name),
     "biases and norms should not"),
    (lambda m, x, w: groups(m, x, w, decays=lambda name, p: p.ndim == 2 and "token" not in name),
     "is a matrix and should decay"),
    (lambda m, x, w: groups(m, x, w, skip=False), "another optimiser has"),
    (lambda m, x, w: groups(m, x, w)[:1], "is in no group"),
    (lambda m, x, w: [*groups(m, x, w), *groups(m, x, w)[1:]], "is in two groups"),
    (lambda m, x, w: [*groups(m, x, w), dict(params=[], weight_decay=0.0)], "a group is empty"),
    (lambda m, x, w: groups(m, x, 0.01), "not by the 0.25"),
    (lambda m, x, w: [dict(params=[n for n, _ in m.named_parameters()], weight_decay=w)], "names"),
    (lambda m, x, w: list(m.parameters()), "a list of dictionaries"),
    (lambda m, x, w: [p for p in m.parameters() if p in [m.head.decoder.weight]], "RuntimeError"),
]

ACCUMULATE = [
    (lambda m, micro, k: accumulate(m, micro, k, share=lambda n, masked: 1 / 3), "a mean of means"),
    (lambda m, micro, k: accumulate(m, micro, k, share=lambda n, masked: 1.0), "added up as if"),
    (lambda m, micro, k: accumulate(m, micro, k, share=lambda n, masked: n), "not means any more"),
    (lambda m, micro, k: accumulate(m, micro, k, share=lambda n, masked: masked / n), "turned"),
    (lambda m, micro, k: accumulate(m, micro, k, between=lambda m: m.zero_grad()),
     "only the last part is left; zero_grad()"),
    (lambda m, micro, k: sum(loss_of(m, b).item() for b in micro), "no gradient is left"),
    (lambda m, micro, k: accumulate(m, micro, k, told=lambda losses, shares: losses[-1]),
     "that of the last part"),
    (lambda m, micro, k: accumulate(m, micro, k, told=lambda losses, shares: sum(losses) / 3),
     "the loss is a mean of means"),
    (lambda m, micro, k: accumulate(m, micro, k, told=lambda losses, shares: sum(losses)),
     "the losses are added up"),
    (lambda m, micro, k: accumulate(m, micro, k, told=lambda losses, shares: None), "nothing"),
    (with_graph, "holds the whole graph"),
    (lambda m, micro, k: loss_of(m, micro), "AttributeError"),
]

STEP = [
    (lambda *g: step(*g, clear=False), "gradients of the step before"),
    (lambda *g: step(*g, rate=False), "the rate is not set: group"),
    (lambda *g: step(*g, rate=False, clear=False), "nor are the gradients emptied"),
    (lambda *g: step(*g, norm=False), "not clipped before the step"),
    (lambda *g: step(*g, each=True), "each tensor is clipped by itself"),
    (lambda *g: step(*g, norm=False, clear=False), "neither clipped nor emptied"),
    (emptied, "no weight moved"),
    (lambda m, o, micro, lr, limit: loss_of(m, micro[0]).item(), "no weight moved"),
    (lambda *g: step(*g, share=lambda k, masked: 0.5), "a mean of means"),
    (lambda m, o, micro, *g: step(m, o, micro[:1], *g), "two steps are others"),
    (step_after, "taken before the step"),
    (lambda *g: None if step(*g) else None, "it returns nothing"),
]

EVALUATE = [
    (lambda m, b: score(m, b, mean=True), "a mean of means"),
    (lambda m, b: score(m, b, skip=False, mean=True), "a batch without hidden words"),
    (lambda m, b: score(m, b, train=True), "is dropout still on"),
    (lambda m, b: score(m, b, back=False), "is left in evaluation, though"),
    (lambda m, b: (score(m, b), m.train())[0], "is left in training"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: (loss, 100 * hit, n)), "percentage"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: (loss, hit * n, n)), "right guesses, not"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: (loss, 1 - hit, n)), "wrong guesses"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: (loss * n, hit, n)), "added up"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: (loss, hit, 3)), "number of batches"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: (loss, hit)), "return three numbers"),
    (lambda m, b: score(m, b, ends=lambda loss, hit, n: ("x", hit, n)), "not a number"),
    (learning, "neither weights nor gradients"),
]

LOOP = [
    (lambda *g: run(*g, first=False), "before the first step"),
    (lambda *g: run(*g, last=False), "after the last step"),
    (lambda *g: run(*g, when=lambda n, k: False), "on the way"),
    (lambda *g: run(*g, when=lambda n, k: True), "after each step"),
    (lambda *g: run(*g, when=lambda n, k: n % k == 0), "one step too early"),
    (lambda *g: run(*g, twice=True), "twice at the end"),
    (lambda *g: run(*g, more=1), "7 steps"), (lambda *g: run(*g, more=-1), "5 steps"),
    (lambda *g: run(*g, start=1), "counted from 0"),
    (lambda *g: run(*g, order=None), "not saved at the end"),
    (lambda *g: run(*g, order=False), "before the last look"),
    (lambda *g: run(*g) and 0, "what the last look returned"),
    (lambda *g: None if run(*g) else None, "it returns nothing"),
]

WRONG = [(check, answer, words) for check, wrong in (
    (check_rate_factor, RATES), (check_parameter_groups, GROUPS), (check_accumulate, ACCUMULATE),
    (check_step, STEP), (check_evaluate, EVALUATE), (check_loop, LOOP)) for answer, words in wrong]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
