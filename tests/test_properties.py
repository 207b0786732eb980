"""What holds for any input: of puzzles, chunks, splits, settings, schedules and models."""

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from examples import (
    JUNK,
    MAX_LEN,
    ORDINARY,
    SEEDS,
    SHARES,
    SMALL,
    SPECIAL,
    accepted,
    calls,
    few,
    many,
    shapes,
)
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bertlib.bert import BertForMaskedLM
from bertlib.corpus import Corpus, deal
from bertlib.data import batch_size_at
from bertlib.masking import Masker, MaskingConfig, mask_rate_at
from bertlib.optim import rate_factor
from bertlib.packing import Packer
from bertlib.plumbing.files import InputError
from bertlib.plumbing.texts import cut
from bertlib.predict import answers
from bertlib.prepare_mlm_dataset import one_thread
from bertlib.settings import CHOICES, LIMITS, Settings


@pytest.fixture(autouse=True, scope="module")
def alone():
    with one_thread():  # many small steps, on a busy machine ten times as slow with two
        yield


# -- puzzles ----------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(1, 60), SEEDS, SHARES, st.integers(0, 59))
@example(2, 50, 0, 0.0, 0)
def test_a_puzzle_hides_its_share_of_words_and_can_be_undone(n_rows, length, seed, rate, first):
    draw, masker = np.random.default_rng(seed), Masker(SMALL)
    ids = torch.from_numpy(draw.integers(first, first + 66, (n_rows, length)))  # [B, T]
    before = ids.clone()
    puzzle, again = (masker(ids, torch.Generator().manual_seed(seed), rate) for _ in range(2))
    never = torch.tensor([SPECIAL.pad, SPECIAL.cls, SPECIAL.sep, SPECIAL.unk])
    may_hide, places = ~torch.isin(ids, never), puzzle.positions
    assert may_hide.flatten()[places].all() and (places.diff() > 0).all()
    found = torch.bincount(places // length, minlength=n_rows).tolist()
    assert found == [min(n, max(1, round(n * rate))) for n in may_hide.sum(1).tolist()]
    assert torch.equal(puzzle.labels, ids.flatten()[places]) and torch.equal(ids, before)
    shown = puzzle.input_ids.flatten()[places]
    replaced = shown[(shown != puzzle.labels) & (shown != SPECIAL.mask)]
    assert set(replaced.tolist()) <= set(ORDINARY)
    undone = masker.puzzle(puzzle.input_ids, places, puzzle.labels, puzzle.labels)
    assert torch.equal(undone.input_ids, ids)
    assert torch.equal(puzzle.input_ids, again.input_ids) and torch.equal(places, again.positions)
    mask, real = puzzle.attention_mask, ids != SPECIAL.pad
    assert real.all() if mask is None else torch.equal(mask, real)


@few
@given(st.integers(0, 10), st.integers(0, 10), SEEDS)
def test_shares_of_replacements_are_those_asked_for(masked, random, seed):
    assume(masked + random <= 10)
    masker = Masker(SMALL, MaskingConfig(masked=masked / 10, random=random / 10))
    labels = torch.full((100_000,), ORDINARY[seed % 120])
    shown = masker.replace(labels, torch.Generator().manual_seed(seed))
    wanted = torch.zeros(len(SMALL))
    wanted[ORDINARY] = random / 10 / 120
    wanted[SPECIAL.mask] += masked / 10
    wanted[labels[0]] += 1 - (masked + random) / 10
    found = torch.bincount(shown, minlength=len(SMALL)) / len(labels)
    assert (found - wanted).abs().max() < 0.01  # six standard deviations
    assert not found[wanted == 0].any()


# -- chunks -----------------------------------------------------------------------------------


@given(calls(), MAX_LEN)
def test_packed_chunks_hold_all_tokens_in_order_but_the_counted_tail(stream, max_len):
    packer = Packer(SMALL, max_len)
    chunks = np.concatenate([packer(call) for call in stream])
    tokens = [i for call in stream for ids, ends in call for i in ids + [SPECIAL.sep] * ends]
    inner = chunks[:, 1:-1].ravel().tolist()
    tail = tokens[len(inner) :]
    assert inner == tokens[: len(inner)] and len(tail) < max_len - 2
    assert packer.n_rest() == len(tail) - tail.count(SPECIAL.sep)
    assert (chunks[:, 0] == SPECIAL.cls).all() and (chunks[:, -1] == SPECIAL.sep).all()


@given(calls(), MAX_LEN)
def test_text_chunks_lose_nothing_and_break_only_before_words(stream, max_len):
    packer, room = Packer(SMALL, max_len, "text"), max_len - 2
    found = [row.tolist() for call in stream for row in packer(call)]
    begins, left = [not token.startswith("##") for token in SMALL.vocab], []
    for ids, ends in sum(stream, []):
        left += ids
        while ends and left:  # what is left of a document begins with its next chunk
            row = found.pop(0)
            end = row.index(SPECIAL.sep)
            inner = row[1:end]
            assert row[0] == SPECIAL.cls and set(row[end + 1 :]) <= {SPECIAL.pad}
            assert inner and inner == left[: len(inner)] and len(row) == max_len
            left = left[len(inner) :]
            word = next((n for n, i in enumerate(left) if n and begins[i]), len(left))
            assert not left or len(inner) + word > room  # the next word does not fit
            endless = len(inner) == room and not any(begins[i] for i in inner[1:])
            assert not left or begins[left[0]] or endless
    assert found == [] and packer.n_rest() == len(left)


# -- texts and how they are dealt out -----------------------------------------------------------


@given(st.text() | st.text("a  b"), st.integers(1, 30))
def test_pieces_are_short_and_together_the_text(text, limit):
    pieces, start = list(cut(text, limit)), 0
    assert "".join(pieces) == text and len(pieces[-1]) <= limit
    for piece in pieces[:-1]:  # up to the last space in reach
        assert len(piece) == (text[start + 1 : start + limit + 1].rfind(" ") + 1 or limit)
        start += len(piece)


@given(st.lists(st.integers(1, 50) | st.integers(1, 10**6), min_size=1))
def test_held_out_splits_get_as_near_to_a_tenth_as_sizes_allow(sizes):
    splits, total = deal(sizes), sum(sizes)
    parts = [[z for z, its in zip(sizes, splits, strict=True) if its == n] for n in range(3)]
    assert len(splits) == len(sizes) == sum(map(len, parts))
    held = [sum(part) for part in parts[1:]]
    for part in parts[1:]:
        assert sum(part) <= total / 10 + max(part, default=0) / 2  # the last one led nearer to it
    assert min(held) > total / 20 or min(held) + min(parts[0]) / 2 > total / 10  # none else would


@few
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 400)), min_size=1, max_size=50))
def test_a_corpus_is_dealt_out_whole(tmp_path_factory, documents):
    path = tmp_path_factory.mktemp("text") / "x.txt"
    text = "".join(f" = T{title} = \n" + "word " * words + "\n" for title, words in documents)
    path.write_text(text, encoding="utf-8")
    corpus = Corpus(path)
    units = list(corpus)
    found = "".join(paragraph for _, unit in units for paragraph in unit)
    assert found.replace(" ", "") == "".join(text.split())
    if corpus.unit == "documents":
        assert len(units) == len(documents)
        assert len({(unit[0], split) for split, unit in units}) == len({t for t, _ in documents})


# -- settings and schedules ---------------------------------------------------------------------


@given(accepted())
def test_accepted_settings_are_kept_as_they_are_and_survive_json(told):
    settings = Settings(**told)
    assert settings.as_dict() == told
    assert Settings(**json.loads(json.dumps(settings.as_dict()))) == settings


@many
@given(st.sampled_from(fields(Settings)), JUNK)
@example(Settings.__dataclass_fields__["mask_rate"], 0)
@example(Settings.__dataclass_fields__["mask_rate"], 1)
def test_what_no_setting_may_be_is_refused_by_its_name(field, value):
    if limits := LIMITS.get(field.name):
        number = type(value) is int or type(value) is field.type is float
        low, high, *opens = limits
        end = opens[0] and value == low or opens[1] and value == high
        fine = number and low <= value <= high and not end
    else:
        fine = type(value) is bool if field.type is bool else value in CHOICES[field.name]
    assume(not fine)
    with pytest.raises(InputError, match=f"The setting {field.name} is ") as caught:
        Settings.make("smoke", **{field.name: value})
    assert len(str(caught.value)) < 400


@given(accepted(), st.lists(SHARES, min_size=1).map(sorted), st.integers(1, 10**9))
def test_schedules_rise_fall_and_end_where_they_should(told, run, length):
    settings = Settings(**told)
    steps, warm_up = [int(length * share) for share in run], settings.warmup_iters
    rates = [rate_factor(settings, step, share) for step, share in zip(steps, run, strict=True)]
    n_warm = sum(step < warm_up for step in steps)
    warm, after = rates[:n_warm], rates[n_warm:]
    floor = settings.min_learning_rate / settings.learning_rate
    assert warm == sorted(warm) and all(0 < rate <= 1 for rate in warm)
    assert after == sorted(after, reverse=True) and all(floor <= rate <= 1 for rate in after)
    assert rate_factor(settings, warm_up, 0.0) == 1
    assert rate_factor(settings, max(settings.lr_decay_iters, warm_up + 1), 1.0) == floor
    first, last = settings.first_batch_size, settings.batch_size
    sizes = [batch_size_at(share, first, last) for share in (0.0, *run, 1.0)]
    first = first or last
    assert sizes == sorted(sizes) and all(size % first == 0 for size in sizes)
    assert sizes[0] == first and sizes[-1] == batch_size_at(0.6, first, last) == last
    ends = settings.mask_rate, settings.final_mask_rate
    masks = [mask_rate_at(share, *ends) for share in (0.0, *run, 1.0)]
    assert masks == pytest.approx(sorted(masks, reverse=ends[0] > ends[1]))
    assert (masks[0], masks[-1]) == pytest.approx(ends)


# -- the model ----------------------------------------------------------------------------------


def model_of(config) -> BertForMaskedLM:
    """A model with weights so large that all it reads shows."""
    model, generator = BertForMaskedLM(config).double().eval(), torch.Generator().manual_seed(1)
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.7, generator=generator)
    return model


@torch.no_grad()
@given(shapes(), st.lists(st.integers(1, 12), min_size=1, max_size=4), st.integers(0, 12), SEEDS)
def test_padding_and_neighbours_in_a_batch_change_nothing(config, lengths, more, seed):
    model, shape = model_of(config), (len(lengths), max(lengths) + more)
    ids = torch.from_numpy(np.random.default_rng(seed).integers(0, len(SMALL), shape))  # [B, T]
    real = torch.arange(shape[1]) < torch.tensor(lengths)[:, None]  # [B, T]; any ids as padding
    logits = model(ids, attention_mask=real).logits
    for row, length in enumerate(lengths):
        alone = model(ids[row : row + 1, :length]).logits[0]
        assert torch.allclose(logits[row, :length], alone, atol=1e-5)
    some = real.flatten().nonzero().flatten()[sum(lengths) // 2 :: 1 + seed % 3]
    kept = model(ids, some, attention_mask=real).logits
    assert torch.allclose(kept, logits.flatten(0, 1)[some], atol=1e-5)


@few
@given(shapes(), st.lists(st.lists(st.integers(0, 124) | st.just(SPECIAL.mask), min_size=1,
                                   max_size=12), max_size=8), st.integers(1, 64))
def test_questions_are_answered_alike_in_any_order_and_batch(config, questions, at_once):
    model = model_of(config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bertlib.predict.TOKENS_AT_ONCE", at_once)
        found = answers(model, SMALL, questions, top=3)
        alone = [answers(model, SMALL, [ids], top=3)[0] for ids in questions]
    assert [*map(len, found)] == [ids.count(SPECIAL.mask) for ids in questions]
    for one, other in zip(sum(found, []), sum(alone, []), strict=True):
        assert [guess.token for guess in one] == [guess.token for guess in other]
        assert [g.probability for g in one] == pytest.approx([g.probability for g in other])
