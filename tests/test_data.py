"""Batches: order, masks, rotation, and going on."""

import shutil

import numpy as np
import pytest
import torch
from conftest import document

from bertlib.data import Batches, batch_size_at, ensure_datasets, in_order, load_dataset
from bertlib.plumbing.dataset_folder import find_datasets
from bertlib.plumbing.files import InputError
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare


def test_slices_give_all_ids_in_order(dataset):
    slices = list(dataset.slices(100))
    assert [len(part) for part in slices[:-1]] == [100] * (len(dataset) // 100)
    assert torch.equal(torch.cat(slices), dataset.chunks(slice(None)))
    assert slices[0].dtype == torch.int64


def test_an_epoch_shows_each_chunk_once(train_path, masker, tokenizer):
    batches = Batches([train_path], masker, tokenizer, seed=5)
    count = len(batches.data)
    order = batches.order.copy()
    assert sorted(order) == list(range(count))
    for _ in range(count // 16):
        batches.next(16, 0.15)
    assert batches.epoch == 0
    batches.next(16, 0.15)
    assert batches.epoch == 1 and not np.array_equal(batches.order, order)


def test_the_batch_grows_in_whole_steps_up_to_60_percent():
    places = (0, 0.19, 0.21, 0.41, 0.6, 1)
    assert [batch_size_at(p, 8, 32) for p in places] == [8, 8, 16, 24, 32, 32]
    assert {batch_size_at(p, 0, 32) for p in places} == {32}


def test_a_batch_may_end_where_its_epoch_ends(train_path, masker, tokenizer):
    batches = Batches([train_path], masker, tokenizer, seed=5, dynamic=False)
    order, count = batches.order.copy(), len(batches.data)
    for epoch in (0, 1):
        whole = batches.next(count, 0.15)
        assert batches.epoch == epoch
    assert not torch.equal(whole.labels, batches.data.frozen(order, masker).labels)
    assert torch.equal(whole.labels, batches.data.frozen(batches.order, masker).labels)


def test_dynamic_masks_differ_by_epoch_static_ones_do_not(train_path, masker, tokenizer):
    for dynamic in (True, False):
        batches = Batches([train_path], masker, tokenizer, seed=5, dynamic=dynamic)
        seen = []
        for _ in range(2):
            batches.order = np.arange(len(batches.data))
            batches.cursor = 0
            seen.append(batches.next(8, 0.15).input_ids)
        assert torch.equal(*seen) is not dynamic


def test_files_rotate_by_epoch(base, train_path, masker, tokenizer, tmp_path):
    folder = tmp_path
    for seed in (1, 2, 3):
        prepare(PrepareConfig(base / "input" / "text.txt", "toy", folder, base / "vocab", 32, seed))
    paths = find_datasets(folder, "toy", 32).train
    batches = Batches(paths, masker, tokenizer, seed=0, dynamic=False)
    seeds, epoch = [], -1
    while len(seeds) < 5:
        batches.next(64, 0.15)
        if batches.epoch != epoch:
            epoch = batches.epoch
            seeds.append(batches.data.header.seed)
    assert seeds == [1, 2, 3, 1, 2]


def test_batches_go_on_from_a_state(train_path, masker, tokenizer):
    batches = Batches([train_path], masker, tokenizer, seed=5)
    count = len(batches.data) // 16 + 2  # into the second epoch
    for _ in range(count):
        batches.next(16, 0.15)
    state = batches.state()
    expected = batches.next(16, 0.15)
    again = Batches([train_path], masker, tokenizer, seed=5)
    again.restore(state)
    got = again.next(16, 0.15)
    assert torch.equal(got.input_ids, expected.input_ids)
    assert torch.equal(got.positions, expected.positions)


def test_a_batch_larger_than_the_data_is_refused(train_path, masker, tokenizer):
    with pytest.raises(InputError, match="batch_size"):
        Batches([train_path], masker, tokenizer, seed=5).next(10**6, 0.15)


def test_in_order_covers_all_or_the_first_chunks(dataset, masker):
    all_of_them = list(in_order(dataset, masker, 64))
    assert sum(len(batch.input_ids) for batch in all_of_them) == len(dataset)
    assert sum(len(batch.input_ids) for batch in in_order(dataset, masker, 64, 100)) == 100


def test_a_label_is_a_name_not_a_pattern(base, tmp_path):
    folder = tmp_path / "with [brackets]"
    folder.mkdir()
    for label in ("my", "my_32", "my.2"):
        prepare(PrepareConfig(base / "input" / "text.txt", label, folder, base / "vocab", 32))
    for label in ("my", "my_32", "my.2"):
        files = find_datasets(folder, label, 32)
        assert [path.name for path in (*files.train, files.val, files.test)] == [
            f"{split}_{label}_32_123.msgpack.gz" for split in ("train", "val", "test")]


def test_a_missing_dataset_is_refused_with_what_there_is_and_the_command(base, tmp_path):
    command = r"toy \(32\).*prepare-mlm-dataset -i TEXT -l no"
    with pytest.raises(InputError, match=f"'no' of 32.*{command}"):
        find_datasets(base / "datasets", "no", 32)
    with pytest.raises(InputError, match="'toy' of 64"):
        find_datasets(base / "datasets", "toy", 64)
    with pytest.raises(InputError, match="has none"):
        find_datasets(tmp_path / "nowhere", "toy", 32)


def test_datasets_of_another_label_are_never_made_from_the_texts_of_the_base(own):
    before = sorted((own / "datasets").iterdir())
    with pytest.raises(InputError, match="no dataset 'mine'"):
        ensure_datasets(own, "mine", 32)
    assert sorted((own / "datasets").iterdir()) == before


@pytest.mark.parametrize("changes", [{"input": "other.txt"}, {"unit": "passages"},
                                     {"segment": "text"}])
def test_files_of_another_text_or_split_under_one_label_are_refused(base, tmp_path, changes):
    (tmp_path / "other.txt").write_text("".join(document(n) for n in range(300, 400)))
    common = dict(label="toy", output=tmp_path, vocab=base / "vocab", max_len=32)
    prepare(PrepareConfig(base / "input" / "text.txt", seed=1, **common))
    changes = {k: tmp_path / v if k == "input" else v for k, v in changes.items()}
    prepare(PrepareConfig(**{"input": base / "input" / "text.txt"} | changes, seed=2, **common))
    with pytest.raises(InputError, match="not one text, split"):
        find_datasets(tmp_path, "toy", 32)


@pytest.mark.parametrize(("old", "new", "words"), [
    ("train_toy_32", "val_toy_32", r"val_toy_32_123.* says \(train, 32, 123\)"),
    ("train_toy_32", "train_toy_64", r"train_toy_64_123.* says \(train, 32, 123\)"),
])
def test_a_file_under_the_name_of_another_is_refused(own, old, new, words):
    folder, end = own / "datasets", "_123.msgpack.gz"
    for split in ("train", "val", "test"):
        shutil.copy(folder / f"{split}_toy_32{end}", folder / f"{split}_toy_64{end}")
    shutil.copy(folder / (old + end), folder / (new + end))
    with pytest.raises(InputError, match=words):
        find_datasets(folder, "toy", int(new[-2:]))


def test_half_a_set_is_refused(base, tmp_path):
    prepare(PrepareConfig(base / "input" / "text.txt", "toy", tmp_path, base / "vocab", 32))
    (tmp_path / "val_toy_32_123.msgpack.gz").unlink()
    with pytest.raises(InputError, match="no dataset .*val_toy_32_123"):
        find_datasets(tmp_path, "toy", 32)


def test_one_file_under_the_name_of_another_is_refused_when_it_is_loaded(own, tokenizer):
    val, test = (own / "datasets" / f"{split}_toy_32_123.msgpack.gz" for split in ("val", "test"))
    test.replace(val)
    with pytest.raises(InputError, match=r"val_toy.* \(test, 32, 123\); give it back"):
        load_dataset(val, tokenizer)
    test.write_bytes(val.read_bytes())
    with pytest.raises(InputError, match=r"val_toy.* \(test, 32, 123\); give it back"):
        find_datasets(own / "datasets", "toy", 32)
    val.rename(own / "any.gz")
    assert load_dataset(own / "any.gz", tokenizer).header.split == "test"
