"""Dataset files: what they hold, what is refused, and their unpacked copies."""

import gzip
import hashlib
import json
import os
import shutil
from dataclasses import replace

import msgpack
import numpy as np
import pytest
from conftest import VOCAB

from bertlib.data import load_dataset
from bertlib.plumbing.dataset_file import Block, map_unpacked, write_unpacked
from bertlib.plumbing.files import InputError
from bertlib.plumbing.vocab import Rules
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.tokens import Tokenizer

ARRAYS = ("ids", "positions", "replaced")


@pytest.fixture
def own_path(train_path, tmp_path):
    """The training file alone in a folder of its own, not yet unpacked."""
    return shutil.copy(train_path, tmp_path / "train.msgpack.gz")


def unpacked(path):
    return path.with_name(f"{path.name}.unpacked")


def assert_same(one, two):
    for name in ARRAYS:
        assert getattr(one, name).dtype == getattr(two, name).dtype
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def objects(path) -> list:
    return list(msgpack.Unpacker(gzip.open(path), max_buffer_size=1 << 30))


def rewrite(header, blocks, target):
    members = (msgpack.packb(header), b"".join(map(msgpack.packb, blocks)))
    target.write_bytes(b"".join(map(gzip.compress, members)))
    return target


def test_ids_travel_as_bytes_under_a_header(train_path, dataset):
    header, block = objects(train_path)
    assert header["format"] == "bertlib-mlm" and header["version"] == 2
    assert header["origin"]["source"] == "text.txt" and header["seed"] == 123
    assert header["origin"]["unit"] == "documents"
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
        rewrite(header, [block | {"ids": b"\1\0" + block["ids"][2:]}], target)
    if kind == "count":
        rewrite(header | {"count": header["count"] + 1}, [block], target)
    if kind == "huge":
        rewrite(header | {"count": 2**40}, [block], target)
    if kind == "extra":
        rewrite(header, [block, block], target)
    if kind == "one member":  # header and blocks, as gzip alone would write them
        target.write_bytes(gzip.compress(gzip.decompress(content)))
    if kind == "bomb":
        rewrite(header, [block | {"ids": b"\0" * 80_000_000}], target)
    return target


@pytest.mark.parametrize("kind", ["truncated", "bits", "ids", "count", "huge", "extra", "bomb",
                                  "one member"])
def test_a_damaged_dataset_is_refused(kind, train_path, tmp_path, tokenizer):
    path = damage(kind, train_path, tmp_path)
    with pytest.raises(InputError, match="truncated or altered") as error:
        load_dataset(path, tokenizer)
    assert "bad.msgpack.gz" in str(error.value) and "\n" not in str(error.value)


def test_single_words_pack_to_less_than_a_hundredth_and_are_honest(tmp_path, tokenizer):
    (tmp_path / "x.txt").write_text("king\n" * 2_000)
    config = PrepareConfig(tmp_path / "x.txt", "x", tmp_path, VOCAB, 2048, segment="text",
                           documents="lines")
    prepare(config)
    data = load_dataset(config.path("train"), tokenizer)
    assert data.header.n_bytes > 100 * config.path("train").stat().st_size
    assert (data.ids[:, 3:] == tokenizer.special.pad).all()
    assert len(data.ids) == data.header.count


def test_other_formats_versions_and_vocabularies_are_refused(train_path, tmp_path, tokenizer):
    header, block = objects(train_path)
    for change, words in (({"format": "x"}, "not a dataset"), ({"version": 1}, "version 1")):
        path = rewrite(header | change, [block], tmp_path / "x.msgpack.gz")
        with pytest.raises(InputError, match=words):
            load_dataset(path, tokenizer)
    (tmp_path / "text.msgpack.gz").write_text("hello")
    with pytest.raises(InputError):
        load_dataset(tmp_path / "text.msgpack.gz", tokenizer)
    other = Tokenizer([*tokenizer.vocab[:-1], "zzzz"])
    with pytest.raises(InputError, match="another vocabulary"):
        load_dataset(train_path, other)
    for name, rules in (("do_lower_case", Rules(False)),
                        ("tokenize_chinese_chars", Rules(True, split_chinese=False))):
        with pytest.raises(InputError, match=f"was made with {name} True, which is now False"):
            load_dataset(train_path, Tokenizer(tokenizer.vocab, rules=rules))
    with pytest.raises(InputError, match="no dataset"):
        load_dataset(tmp_path / "none.msgpack.gz", tokenizer)


# -- the unpacked copy ------------------------------------------------------------------------

def test_both_loads_give_what_the_file_holds(own_path, tokenizer):
    block = objects(own_path)[1]
    for _ in range(2):
        data = load_dataset(own_path, tokenizer)
        for name in ARRAYS:
            array = getattr(data, name)
            assert array.tobytes() == block[name]
            assert not array.flags.writeable
    assert {p.name for p in own_path.parent.iterdir()} == {own_path.name, unpacked(own_path).name}


def test_a_later_load_reads_no_block(own_path, tokenizer):
    first = load_dataset(own_path, tokenizer)
    rewrite(objects(own_path)[0], [], own_path)  # the header alone
    assert_same(load_dataset(own_path, tokenizer), first)
    unpacked(own_path).unlink()
    with pytest.raises(InputError, match="truncated or altered"):
        load_dataset(own_path, tokenizer)


def spoil(kind: str, path, data):
    good = path.read_bytes()
    contents = {"first bit": bytes([good[0] ^ 1]) + good[1:], "empty": b"", "longer": good + b"\0",
                "last bit": good[:-1] + bytes([good[-1] ^ 1]), "truncated": good[: len(good) // 2]}
    if kind in contents:
        path.write_bytes(contents[kind])
    if kind == "of another dataset":
        block = Block(data.ids[::-1], data.positions, data.replaced)
        write_unpacked(path, data.header, [block])


@pytest.mark.parametrize("kind", ["first bit", "last bit", "truncated", "longer", "empty",
                                  "of another dataset"])
def test_a_copy_that_does_not_fit_is_made_anew(kind, own_path, tokenizer, dataset):
    load_dataset(own_path, tokenizer)
    copy = unpacked(own_path)
    good = copy.read_bytes()
    spoil(kind, copy, dataset)
    assert copy.read_bytes() != good
    assert map_unpacked(copy, dataset.header) is None
    assert_same(load_dataset(own_path, tokenizer), dataset)
    assert copy.read_bytes() == good


@pytest.mark.parametrize(("name", "number"), [("ids", 65_535), ("replaced", 65_535),
                                              ("positions", 33)])
def test_a_copy_with_numbers_out_of_range_is_not_used(name, number, tmp_path, dataset):
    columns = {name: getattr(dataset, name).copy() for name in ARRAYS}
    columns[name][-1] = number
    block, digest = Block(**columns), hashlib.sha256()
    block.add_to(digest)
    header = replace(dataset.header, sha256=digest.hexdigest())  # which so tells of this copy
    write_unpacked(tmp_path / "x", header, [block])
    assert map_unpacked(tmp_path / "x", header) is None


def test_a_dataset_made_again_gets_a_new_copy(base, tmp_path, tokenizer):
    paths, text = [], base / "input" / "text.txt"
    for seed in (1, 2):
        config = PrepareConfig(text, "toy", tmp_path, base / "vocab", 32, seed)
        prepare(config)
        paths.append(config.path("train").rename(tmp_path / f"{seed}.gz"))
    first = load_dataset(paths[0], tokenizer)
    kept = first.positions.copy()
    shutil.copy(paths[1], paths[0])
    assert_same(load_dataset(paths[0], tokenizer), load_dataset(paths[1], tokenizer))
    assert load_dataset(paths[0], tokenizer).header.seed == 2
    assert np.array_equal(first.positions, kept)  # whoever reads the old one still does


@pytest.mark.parametrize("obstacle", ["folder in its place", "read-only folder"])
def test_without_a_place_for_the_copy_all_stays_in_memory(obstacle, own_path, tokenizer, dataset):
    if obstacle == "folder in its place":
        unpacked(own_path).mkdir()
    elif os.geteuid() == 0:
        pytest.skip("no folder is read-only for root")
    else:
        own_path.parent.chmod(0o555)
    before = set(own_path.parent.iterdir())
    for _ in range(2):
        assert_same(load_dataset(own_path, tokenizer), dataset)
    assert set(own_path.parent.iterdir()) == before
    own_path.parent.chmod(0o755)


def test_a_write_that_fails_leaves_nothing_half_written(own_path, dataset):
    block = Block(dataset.ids, dataset.positions, dataset.replaced)
    with pytest.raises(AttributeError):
        write_unpacked(unpacked(own_path), dataset.header, [block, None])
    assert list(own_path.parent.iterdir()) == [own_path]


def test_ids_of_a_large_vocabulary_take_four_bytes(tmp_path, dataset):
    origin = replace(dataset.header.origin, vocab_size=70_000)
    header = replace(dataset.header, origin=origin, count=3, max_len=5, n_masked=1)
    block, digest = Block(np.arange(69_985, 70_000, dtype="<u4").reshape(3, 5),
                          np.ones((3, 1), "<u2"), np.full((3, 1), 69_999, "<u4")), hashlib.sha256()
    block.add_to(digest)
    header = replace(header, sha256=digest.hexdigest())
    write_unpacked(tmp_path / "x", header, [block])
    assert_same(map_unpacked(tmp_path / "x", header), block)
