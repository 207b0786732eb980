"""Dataset files and batches."""

import gzip
import json

import msgpack
import numpy as np
import pytest
import torch

from bertlib.data import Batches, find_files, in_order, load_dataset
from bertlib.files import InputError
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.tokens import Tokenizer


def objects(path) -> list:
    return list(msgpack.Unpacker(gzip.open(path), max_buffer_size=1 << 30))


def rewrite(path, parts, target):
    with gzip.open(target, "wb") as stream:
        for part in parts:
            stream.write(msgpack.packb(part))
    return target


def test_ids_travel_as_bytes_under_a_header(train_path, dataset):
    header, block = objects(train_path)
    assert header["format"] == "bertlib-mlm" and header["version"] == 1
    assert header["source"] == "text.txt" and header["seed"] == 123
    assert block["ids"] == dataset.ids.astype("<u2").tobytes()
    assert json.dumps(header)  # plain values only


def damage(kind: str, path, tmp_path):
    target, (header, block) = tmp_path / "bad.msgpack.gz", objects(path)
    content = path.read_bytes()
    if kind == "truncated":
        target.write_bytes(content[: len(content) // 2])
    if kind == "bits":
        target.write_bytes(content[:3000] + bytes([content[3000] ^ 1]) + content[3001:])
    if kind == "ids":
        rewrite(path, [header, block | {"ids": b"\1\0" + block["ids"][2:]}], target)
    if kind == "count":
        rewrite(path, [header | {"count": header["count"] + 1}, block], target)
    if kind == "huge":
        rewrite(path, [header | {"count": 2**40}, block], target)
    if kind == "extra":
        rewrite(path, [header, block, block], target)
    if kind == "header":
        rewrite(path, [header | {"more": 1}, block], target)
    if kind == "bomb":
        rewrite(path, [header, block | {"ids": b"\0" * 80_000_000}], target)
    return target


@pytest.mark.parametrize("kind", ["truncated", "bits", "ids", "count", "huge", "extra", "header",
                                  "bomb"])
def test_a_damaged_dataset_is_refused(kind, train_path, tmp_path, tokenizer):
    path = damage(kind, train_path, tmp_path)
    with pytest.raises(InputError, match="truncated or altered") as error:
        load_dataset(path, tokenizer)
    assert "bad.msgpack.gz" in str(error.value) and "\n" not in str(error.value)


def test_other_formats_versions_and_vocabularies_are_refused(train_path, tmp_path, tokenizer):
    header, block = objects(train_path)
    for change, words in (({"format": "x"}, "not a dataset"), ({"version": 2}, "version 2")):
        path = rewrite(train_path, [header | change, block], tmp_path / "x.msgpack.gz")
        with pytest.raises(InputError, match=words):
            load_dataset(path, tokenizer)
    (tmp_path / "text.msgpack.gz").write_text("hello")
    with pytest.raises(InputError):
        load_dataset(tmp_path / "text.msgpack.gz", tokenizer)
    other = Tokenizer([*tokenizer.vocab[:-1], "zzzz"])
    with pytest.raises(InputError, match="another vocabulary"):
        load_dataset(train_path, other)
    with pytest.raises(InputError, match="no dataset"):
        load_dataset(tmp_path / "none.msgpack.gz", tokenizer)


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
    paths = find_files(str(folder / "train_toy_32_*.msgpack.gz"))
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


def test_no_match_is_refused(tmp_path):
    with pytest.raises(InputError, match="No dataset matches"):
        find_files(str(tmp_path / "train_*.gz"))
