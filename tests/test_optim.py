"""Schedules and optimisers, against closed forms."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bertlib.bert import BertForMaskedLM
from bertlib.masking import Masked
from bertlib.optim import Learner, Muon, build_optimizers, orthogonalise, rate_factor
from bertlib.plumbing.files import InputError
from bertlib.scoring import evaluate
from bertlib.settings import Settings


def test_the_published_schedule():
    settings = Settings.make("cuda")
    assert rate_factor(settings, 0, 0) == pytest.approx(1 / 1000)
    assert rate_factor(settings, 999, 0) == rate_factor(settings, 1000, 0) == pytest.approx(1)
    assert rate_factor(settings, 23_000, 0) == pytest.approx((1 + 0.05) / 2)
    assert rate_factor(settings, 45_000, 0) == rate_factor(settings, 59_999, 0) == 0.05


def test_a_decay_of_one_step_is_over_after_it():
    settings = Settings.make("cuda", warmup_iters=4, lr_decay_iters=5)
    assert [rate_factor(settings, step, 0) for step in (3, 4, 5, 6)] == [1, 1, 0.05, 0.05]


def test_the_linear_schedule_ends_with_the_run():
    settings = Settings.make("cpu")
    assert [rate_factor(settings, 9, p) for p in (0, 0.25, 1)] == [1, 0.75, 0]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gains_of_heads_are_not_drawn_to_zero(optimizer):
    settings = Settings.make("smoke", weight_decay=0.5, optimizer=optimizer, start="counts",
                             architecture="fast", heads=4)
    model = BertForMaskedLM(settings.model_config(100))
    decays = {id(p): group["weight_decay"]
              for part in build_optimizers(model, settings, torch.float32)
              for group in part.param_groups for p in group["params"]}
    gains = [p for name, p in model.named_parameters() if name.endswith("qk_gain")]
    assert len(gains) == settings.n_layer and {decays[id(p)] for p in gains} == {0.0}


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_the_rate_never_climbs_over_its_peak(schedule):
    """Settings refuse such a floor; what stands for them here does not."""
    high = SimpleNamespace(schedule=schedule, learning_rate=1e-3, min_learning_rate=2e-3,
                           warmup_iters=4, lr_decay_iters=20)
    factors = [rate_factor(high, step, step / 20) for step in range(21)]
    assert max(factors) == 1


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 16, 64)])
def test_newton_schulz_keeps_directions_and_levels_lengths(shape):
    torch.manual_seed(0)
    gradients = torch.randn(shape)
    result = orthogonalise(gradients)
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.3 and values.max() < 1.3
    left, _, right = torch.linalg.svd(gradients, full_matrices=False)
    alignment = (result * (left @ right)).sum((-2, -1)) / shape[1]
    assert alignment.min() > 0.7


def test_muon_moves_each_matrix_along_its_own_gradient():
    torch.manual_seed(0)
    matrices = [nn.Parameter(torch.zeros(8, 32)), nn.Parameter(torch.zeros(32, 8))]
    for matrix in matrices:
        matrix.grad = torch.randn_like(matrix)
    Muon(matrices, lr=0.1, weight_decay=0.0).step()
    for matrix, scale in zip(matrices, (1, 2), strict=True):  # sqrt(32 / 8) for the tall one
        left, _, right = torch.linalg.svd(matrix.grad, full_matrices=False)
        step = -matrix.detach() / (0.1 * scale)
        assert (step * (left @ right)).sum() / 8 > 0.7
        assert torch.linalg.svdvals(step).max() < 1.3


def test_muon_steps_as_pytorch_s_own_does():
    """Theirs multiplies in bfloat16, on any processor; the momentum counts gradients otherwise."""
    draw = torch.Generator().manual_seed(0)
    starts = [torch.randn(shape, generator=draw) for shape in ((16, 64), (64, 16), (32, 32))]
    ours, theirs = ([nn.Parameter(start.clone()) for start in starts] for _ in range(2))
    pair = Muon(ours, 0.1, weight_decay=0.3), torch.optim.Muon(theirs, 0.1, weight_decay=0.3)
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            other.grad = one.grad.clone()
        for optimizer in pair:
            optimizer.step()
    for start, one, other in zip(starts, ours, theirs, strict=True):
        assert (one - other).norm() / (other - start).norm() < 0.02


@pytest.mark.parametrize("is_asked", [True, False])
def test_blocks_are_compiled_where_it_is_asked(is_asked):
    settings = Settings.make("smoke", compile=is_asked)
    model = Learner(settings, BertForMaskedLM(settings.model_config(100))).model
    found = {block._compiled_call_impl is not None for block in model.encoder.blocks}
    assert found == {is_asked}


def test_groups_decay_matrices_only_and_cover_all_once():
    settings = Settings.make("smoke", weight_decay=0.5)
    model = BertForMaskedLM(settings.model_config(100))
    optimizers = build_optimizers(model, settings, torch.float32)
    groups = [g for optimizer in optimizers for g in optimizer.param_groups]
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    for group in groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.5 if parameter.ndim == 2 else 0.0)
    hidden = {id(p) for p in model.encoder.blocks.parameters() if p.ndim == 2}
    hidden.add(id(model.head.transform.weight))
    assert {id(p) for g in optimizers[1].param_groups for p in g["params"]} == hidden


def test_each_matrix_has_its_share_of_the_rate():
    settings = Settings.make("smoke", output_share=0.5, query_key_share=0.25,
                             matrix_learning_rate=0.04, learning_rate=0.004)
    learner = Learner(settings, BertForMaskedLM(settings.model_config(100)))
    ids = torch.randint(5, 100, (2, 8))
    batch = Masked(ids, torch.tensor([3, 9]), torch.tensor([7, 8]))
    learner.step([batch], 2, 0.5)
    rates = {id(p): group["lr"] for optimizer in learner.optimizers
             for group in optimizer.param_groups for p in group["params"]}
    told = {name: rates[id(p)] for name, p in learner.model.named_parameters()}
    half = {"output": 0.01, "down": 0.01, "query": 0.005, "key": 0.005, "value": 0.02, "up": 0.02,
            "transform": 0.02}
    for name, rate in told.items():
        *_, layer, kind = name.split(".")
        is_matrix = kind == "weight" and layer in half
        assert rate == pytest.approx(half[layer] if is_matrix else 0.002), name


def test_chunks_without_a_word_add_nothing_to_a_step():
    settings = Settings.make("smoke", device="cpu", precision="float32")
    torch.manual_seed(0)
    learner = Learner(settings, BertForMaskedLM(settings.model_config(100)))
    ids = torch.randint(5, 100, (2, 8))
    asked = Masked(ids, torch.tensor([3, 9]), torch.tensor([7, 8]))
    nothing = Masked(ids, torch.tensor([], dtype=torch.long), torch.tensor([], dtype=torch.long))
    loss = learner.accumulate([asked], 2)
    wanted = [p.grad.clone() for p in learner.model.parameters()]
    learner.model.zero_grad()
    assert learner.accumulate([asked, nothing], 2) == loss
    assert all(torch.equal(p.grad, g) for p, g in
               zip(learner.model.parameters(), wanted, strict=True))
    learner.model.zero_grad()
    assert learner.accumulate([nothing], 0) == 0
    assert not any(p.grad.any() for p in learner.model.parameters())
    with pytest.raises(InputError, match="hides a word of the vocabulary"):
        evaluate(learner.model, iter([nothing]), torch.device("cpu"), torch.float32)


def test_the_short_way_for_wide_matrices_takes_the_same_steps():
    """float64 takes the plain way; a direction without any gradient must not blow up either."""
    torch.manual_seed(0)
    gradients = torch.randn(2, 16, 64)
    gradients[1] = torch.randn(16, 3) @ torch.randn(3, 64)  # three directions only
    assert torch.allclose(orthogonalise(gradients), orthogonalise(gradients.double()).float(),
                          atol=1e-4)
