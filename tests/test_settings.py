"""Settings by the published names; what is refused."""

import pytest

from bertlib.files import InputError
from bertlib.pretrain import choose_preset, notebook_settings
from bertlib.settings import PRESETS, Settings


def test_the_cuda_preset_is_the_published_run():
    published = dict(
        seq_len=128, batch_size=200, micro_steps=2, val_interval=100, d_model=768, heads=12,
        n_layer=6, dropout=0.35, async_to_device=True, fused_adamw=True, compile=True,
        learning_rate=1e-3, min_learning_rate=5e-5, warmup_iters=1_000, lr_decay_iters=45_000,
        max_iters=60_000, weight_decay=0.01,
    )
    settings = Settings.make("cuda").as_dict()
    assert {name: settings[name] for name in published} == published


@pytest.mark.parametrize(("changes", "words"), [
    ({"learning_rte": 1}, "Did you mean 'learning_rate'"), ({"head": 4}, "Did you mean 'heads'"),
    ({"batch_size": 0}, "batch_size is 0"), ({"batch_size": 1.5}, "type int"),
    ({"batch_size": True}, "type int"),
    ({"first_batch_size": 5}, "must divide batch_size, 16"),
    ({"first_batch_size": 32}, "must divide"), ({"first_batch_size": -1}, "must divide"),
    ({"dropout": 1.0}, "dropout"),
    ({"heads": 7}, "n_head=7"),
    ({"learning_rate": 1e-3, "min_learning_rate": 2e-3},
     "min_learning_rate is 0.002; it must not be above learning_rate, 0.001"),
    ({"learning_rate": -1}, "above 0"), ({"seq_len": 8}, "16..2048"),
    ({"optimizer": "sgd"}, "adamw, muon"), ({"mask_rate": 1.0}, "between 0 and 1"),
    ({"keep_checkpoints": 1}, "at least 2"),
])
def test_unknown_names_and_bad_values_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        Settings.make("smoke", **changes)


def test_presets_are_valid_and_auto_chooses():
    for name in PRESETS:
        Settings.make(name)
    with pytest.raises(InputError, match="Did you mean 'smoke'"):
        Settings.make("smok")
    assert choose_preset("cpu") == "cpu"
    assert choose_preset("auto") == "smoke"  # conftest sets BERTLIB_PRESET


def test_a_whole_number_is_a_fine_float():
    assert Settings.make("smoke", learning_rate=1).learning_rate == 1.0


def test_a_misspelled_notebook_parameter_is_refused():
    names = {"In", "Out"}
    cells = {"In": [], "_i3": "", "preset": "cpu", "base": "wiki", "max_iters": 7}
    assert notebook_settings(names, cells) == {"max_iters": 7}
    with pytest.raises(InputError, match="'max_iter'. Did you mean 'max_iters'"):
        notebook_settings(names, cells | {"max_iter": 7})
