"""Settings by the published names; what is refused."""

import re
from dataclasses import fields

import pytest

from bertlib.plumbing.files import InputError
from bertlib.settings import LIMITS, PRESETS, Settings


def test_the_cuda_preset_is_the_published_run():
    published = dict(
        seq_len=128, batch_size=200, micro_steps=2, val_interval=100, d_model=768, heads=12,
        n_layer=6, dropout=0.35, async_to_device=True, fused_adamw=True, compile=True,
        learning_rate=1e-3, min_learning_rate=5e-5, warmup_iters=1_000, lr_decay_iters=45_000,
        max_iters=60_000, weight_decay=0.01, budget_minutes=0, final_chunks=0,
    )
    settings = Settings.make("cuda").as_dict()
    assert {name: settings[name] for name in published} == published


@pytest.mark.parametrize(("changes", "words"), [
    ({"learning_rte": 1}, "Did you mean 'learning_rate'"), ({"head": 4}, "Did you mean 'heads'"),
    ({"batch_size": 0}, "batch_size is 0"), ({"batch_size": 1.5}, "a whole number"),
    ({"seed": 1e3}, "seed is 1000.0; it must be a whole number"),
    ({"seed": 2**63}, "below 9,223,372,036,854,775,808"), ({"seed": -1}, "at least 0"),
    ({"learning_rate": 1e-3, "min_learning_rate": 2e-3},
     "min_learning_rate is 0.002; it must not be above learning_rate, 0.001"),
    ({"first_batch_size": 5}, "must divide batch_size, 16"),
    ({"first_batch_size": 32}, "must divide"), ({"first_batch_size": -1}, "at least 0"),
    ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
    ({"beta1": 2}, "beta1 is 2.0; it must be at least 0 and below 1"),
    ({"beta2": 1}, "beta2 is 1.0; it must be at least 0 and below 1"),
    ({"heads": 7, "architecture": "fast"},
     "heads is 7; it must divide d_model, 64, .* multiple of 4.*: choose 4, 8, 16"),
    ({"heads": 2, "architecture": "fast"},
     "heads is 2; .* in the architecture 'fast': choose 4, 8, 16, 32"),
    ({"heads": 5}, "must divide d_model, 64: choose 1, 2, 4, 8, 16, 32"),
    ({"heads": 3, "d_model": 30, "architecture": "fast"},
     "d_model, 30, .*: choose another d_model"),
    ({"d_model": 10**9}, "d_model is 1000000000; it must be at least 1 and at most 16,384"),
    ({"learning_rate": -1}, "above 0"), ({"seq_len": 8}, "at least 16 and at most 2,048"),
    ({"optimizer": "sgd"}, "adamw, muon"), ({"optimizer": 3}, "must be text"),
    ({"compile": 1}, "compile is 1; it must be True or False"),
    ({"compile": "true"}, "must be True or False"),
    ({"mask_rate": 1.0}, "above 0 and below 1"), ({"keep_checkpoints": 1}, "at least 2"),
])
def test_unknown_names_and_bad_values_are_refused(changes, words):
    with pytest.raises(InputError, match=words) as caught:
        Settings.make("smoke", **changes)
    assert "n_head" not in str(caught.value)  # the model's name for it, not the reader's


NUMBERS = [field for field in fields(Settings) if field.type in (int, float)]


@pytest.mark.parametrize("field", NUMBERS, ids=lambda field: field.name)
def test_no_number_is_endless_or_a_bool(field):
    endless = (float("inf"), float("-inf"), float("nan"), 10**400, -(10**5000))
    for value in (*endless, 10**18 if field.name != "seed" else 2**64, True):
        with pytest.raises(InputError, match=f"The setting {field.name} is ") as caught:
            Settings.make("smoke", **{field.name: value})
        assert len(str(caught.value)) < 300
    assert field.name in LIMITS


def test_an_endless_text_is_quoted_in_short():
    for changes in ({"device": "x" * 10**6}, {"x" * 10**6: 1}):
        with pytest.raises(InputError, match=re.escape("xx...xx")) as caught:
            Settings.make("smoke", **changes)
        assert len(str(caught.value)) < 1_000


def test_without_a_preset_all_of_the_validation_split_is_scored_and_steps_end_the_run():
    plain = Settings()
    assert (plain.val_chunks, plain.final_chunks, plain.budget_minutes) == (0, 0, 0)


def test_presets_are_valid():
    for name in PRESETS:
        Settings.make(name)
    with pytest.raises(InputError, match="Did you mean 'smoke'"):
        Settings.make("smok")


def test_a_whole_number_is_a_fine_float():
    assert type(Settings.make("smoke", learning_rate=1).learning_rate) is float
