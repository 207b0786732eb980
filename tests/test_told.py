"""What heads are told before they learn: waves, their sums, and where heads look at first."""

import math

import pytest
import torch

from bertlib.attention import explicit_attention
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.plumbing.files import InputError
from bertlib.pretrain import build
from bertlib.settings import Settings
from bertlib.told import Told, tell, told_parts, turn, wave_table, wave_weights

TOLD = Told()
SIZES = dict(vocab_size=60, dropout=0.0, attention_dropout=0.0)


def model(**changes) -> BertForMaskedLM:
    torch.manual_seed(0)
    fresh = BertForMaskedLM(BertConfig.preset("small", **SIZES | dict(n_layer=2) | changes))
    lengths = torch.linspace(0.02, 0.5, 60)[:, None]  # of words, very uneven
    torch.nn.init.normal_(fresh.encoder.embeddings.token.weight).detach().mul_(lengths)
    return fresh.eval()


def share(weights: torch.Tensor, offset: int) -> torch.Tensor:
    """The mean weight that each head [H] gives to the token `offset` places away."""
    return weights.diagonal(offset, dim1=-2, dim2=-1).mean(-1).mean(0)


def test_waves_that_are_turned_are_those_of_another_place():
    rates = TOLD.rates()
    table = wave_table(rates, 40)
    for offset in (-3, -1, 0, 1, 7):
        moved = table @ turn(rates, offset).mT
        inside = range(max(0, -offset), min(40, 40 - offset))
        assert torch.allclose(moved[list(inside)], table[[i + offset for i in inside]], atol=1e-5)


@pytest.mark.parametrize(("slope", "depth"), [(2.0, 12.0), (0.25, 8.0)])
def test_a_sum_of_cosines_is_a_peak_that_falls_exponentially(slope, depth):
    rates = torch.logspace(math.log10(0.0005), math.log10(60), 400)  # so many that it is a sum
    distance = torch.arange(60.0)
    found = wave_weights(rates, slope, depth) @ torch.cos(rates[:, None] * distance)
    assert torch.allclose(found, depth * (-slope / depth * distance).exp(), atol=0.03 * depth)


def test_twelve_waves_look_at_one_place_and_at_no_other():
    rates, distance = TOLD.rates(), torch.arange(-127.0, 128)
    score = wave_weights(rates, 2.0, 12.0) @ torch.cos(rates[:, None] * distance)
    weights = score.softmax(0)
    assert weights.argmax() == 127 and weights[127] > 0.55
    assert weights[(distance.abs() > 4)].sum() < 0.03
    even = torch.linspace(rates[0], rates[-1], 12)  # what evenly spaced rates would do
    alias = (torch.cos(even[:, None] * distance).sum(0) * score[127] / 12).softmax(0)
    assert alias[(distance.abs() > 4)].max() > 0.1


@pytest.mark.parametrize("changes", [{}, dict(norm="pre", qk_norm=True, bias=False)])
def test_heads_look_where_they_were_told_whatever_the_words(changes):
    fresh = model(zero_init=True, **changes)
    tell(fresh, TOLD)
    ids = torch.randint(60, (8, 128))
    state = fresh.encoder.embeddings(ids)
    for block in fresh.encoder.blocks:
        weights = block.attention.weights(state)
        right, left, around, wide = (share(weights, offset) for offset in (1, -1, 0, 40))
        assert right[0] > 0.5 and left[1] > 0.5 and 0.06 < around[2] < 0.2
        assert wide[3] > 1 / 256 and max(wide[0], wide[1]) < 1e-3
        assert right.argmax() == 0 and left.argmax() == 1
        state = block(state)


def test_what_is_told_lies_in_its_columns_and_rows_alone():
    fresh, told = model(), model()
    tell(told, TOLD)
    columns, others = TOLD.columns, slice(None, TOLD.columns.start)
    words, before = (m.encoder.embeddings.token.weight for m in (told, fresh))
    assert (words[:, columns] == 0).all()
    assert torch.allclose(words.norm(dim=1), torch.full((60,), 0.07 * math.sqrt(256 - 24)))
    cosine = torch.cosine_similarity(words[:, others], before[:, others])
    assert torch.allclose(cosine, torch.ones(60))
    assert (told.encoder.embeddings.position.weight[:, others] == 0).all()
    assert (told.encoder.embeddings.token_type.weight == 0).all()
    for one, other in zip(told.encoder.blocks, fresh.encoder.blocks, strict=True):
        for name, matrix in one.named_parameters():
            old = other.get_parameter(name)
            if "query.weight" in name or "key.weight" in name:
                assert torch.equal(matrix[:, others], old[:, others])
            else:
                assert torch.equal(matrix, old)


def test_a_head_without_a_slope_is_left_as_it_is():
    fresh, told = model(), model()
    tell(told, Told(heads=((2.0, 1, 12.0), (0.0, 0, 0.0))))
    mine, old = (m.encoder.blocks[0].attention.query.weight.unflatten(0, (4, 64))
                 for m in (told, fresh))
    assert [torch.equal(a, b) for a, b in zip(mine, old, strict=True)] == [
        False, True, False, True]


def test_scores_are_the_sums_that_were_promised():
    fresh = model()
    tell(fresh, TOLD)
    state = fresh.encoder.embeddings(torch.randint(60, (1, 50)))
    state[..., : TOLD.columns.start] = 0  # the waves alone
    q, k = fresh.encoder.blocks[0].attention.queries_and_keys(state)
    scores = explicit_attention(q, k, k)[1].log()
    distance = torch.arange(50.0)[None] - torch.arange(50.0)[:, None]
    for head, (slope, offset, depth) in enumerate(TOLD.heads):
        rates = TOLD.rates()
        wanted = (torch.cos(rates * (distance - offset)[..., None])
                  @ wave_weights(rates, slope, depth)).log_softmax(-1)
        assert torch.allclose(scores[0, head], wanted, atol=0.15 * depth)


def test_a_model_that_cannot_be_told_is_refused_in_a_sentence():
    with pytest.raises(InputError, match="only where positions are learned"):
        tell(model(position="sinusoidal"), TOLD)
    with pytest.raises(InputError, match="12 waves need heads of 24 features, and these have 16"):
        tell(model(n_head=16), TOLD)
    with pytest.raises(InputError, match="must not look at the right neighbour"):
        tell(model(causal=True), TOLD)


def test_the_head_s_own_layer_begins_by_doing_nothing():
    fresh = model()
    tell(fresh, TOLD)
    state = torch.nn.functional.layer_norm(torch.randn(9, 256), (256,))
    wanted = fresh.head.decoder(state)
    assert torch.allclose(fresh.head(state), wanted, atol=1e-3)
    other = model(activation="relu2", position="learned")
    before = other.head.transform.weight.clone()
    tell(other, TOLD)
    assert torch.equal(other.head.transform.weight, before)


SHORT = dict(max_iters=4, weight_decay=0.5)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_training_leaves_what_was_told_and_changes_all_else(own, is_stopped):
    settings = Settings.make("smoke", **SHORT)
    trainer = build(settings, own, "toy", own / "run")
    before = [part.clone() for part in told_parts(trainer.model, TOLD)]
    start = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    if is_stopped:  # go on from a state, as after a stop
        state = trainer.state()
        trainer = build(settings, own, "toy", own / "run")
        for part in told_parts(trainer.model, TOLD):
            part.zero_()
        trainer.restore(state)
    trainer.run()
    for part, kept in zip(told_parts(trainer.model, TOLD), before, strict=True):
        assert torch.equal(part, kept)
    lengths = trainer.model.encoder.embeddings.token.weight.norm(dim=1)
    assert torch.allclose(lengths, lengths.new_full((), 0.07 * math.sqrt(64 - 24)))
    same = {name for name, p in trainer.model.named_parameters() if torch.equal(p, start[name])}
    assert same == {"encoder.embeddings.position.weight"}
    others = slice(None, TOLD.columns.start)
    query = "encoder.blocks.0.attention.query.weight"
    assert not torch.equal(trainer.model.get_parameter(query)[:, others], start[query][:, others])


def test_without_it_a_step_would_change_what_was_told(own):
    trainer = build(Settings.make("smoke", **SHORT), own, "toy", own / "run")
    before = [part.clone() for part in told_parts(trainer.model, TOLD)]
    trainer.learner.kept = None
    trainer.run()
    changed = [not torch.equal(part, kept) for part, kept in
               zip(told_parts(trainer.model, TOLD), before, strict=True)]
    assert sum(changed) > len(changed) / 2
    lengths = trainer.model.encoder.embeddings.token.weight.norm(dim=1)
    assert lengths.max() > 1.05 * lengths.min()
