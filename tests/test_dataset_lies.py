"""Dataset files that lie: what no honest header or block holds is refused."""

import shutil
import zlib

import msgpack
import numpy as np
import pytest
from test_dataset_file import ARRAYS, assert_same, objects, rewrite, unpacked

from bertlib.data import load_dataset
from bertlib.plumbing.dataset_file import Block, read_header
from bertlib.plumbing.files import InputError, sha256


def entries(header: dict, name: str, value) -> dict:
    """A copy of a header's entries with another value, "origin.unit" being one inside another."""
    outer, _, inner = name.partition(".")
    return header | {outer: entries(header[outer], inner, value) if inner else value}


@pytest.mark.parametrize(("name", "value"), [
    ("count", 0), ("count", -1), ("count", True), ("count", 3.0), ("count", "3"), ("count", None),
    ("max_len", 15), ("max_len", 2049), ("n_masked", 0), ("n_masked", 31), ("n_tokens", 0),
    ("n_tokens", 10**9), ("n_unknown", -1), ("n_unknown", 10**9), ("n_lost", -1), ("n_lost", 32),
    ("seed", -1), ("seed", 2**32), ("mask_rate", 0.0), ("mask_rate", 1.5),
    ("mask_rate", float("nan")), ("split", "dev"), ("sha256", "0" * 63), ("sha256", "G" * 64),
    ("sha256", "0" * 64 + "\n"), ("origin", []), ("origin.vocab_size", 0), ("origin.source", b"x"),
    ("origin.vocab_sha256", ""), ("origin.segment", "word"), ("origin.strip_accents", 1),
    ("origin.more", 1), ("origin.special_ids.pad", -1), ("origin.special_ids.pad", 4),
    ("origin.special_ids.mask", 10**6), ("origin.special_ids.eos", 7), ("more", 1),
])
def test_a_header_that_no_file_has_is_refused(train_path, tmp_path, name, value):
    header, block = objects(train_path)
    path = rewrite(entries(header, name, value), [block], tmp_path / "x.msgpack.gz")
    with pytest.raises(InputError, match="x.msgpack.gz' is truncated or altered"):
        read_header(path)
    assert read_header(rewrite(header, [block], path)) == read_header(train_path)


def test_a_header_with_another_bit_or_end_is_found_though_no_block_is_read(train_path, tmp_path,
                                                                           tokenizer):
    path = shutil.copy(train_path, tmp_path / "x.msgpack.gz")
    header = load_dataset(path, tokenizer).header  # from now on with an unpacked copy
    content = path.read_bytes()
    member = zlib.decompressobj(wbits=31)
    member.decompress(content)
    length, refused = len(content) - len(member.unused_data), 0
    for place in range(length):
        path.write_bytes(content[:place])
        with pytest.raises(InputError, match="truncated"):
            load_dataset(path, tokenizer)
        flipped = bytes([content[place] ^ 1 << place % 8])
        path.write_bytes(content[:place] + flipped + content[place + 1 :])
        try:
            assert load_dataset(path, tokenizer).header == header, place
        except InputError:
            refused += 1
    assert length - 10 < refused < length  # gzip itself passes over its time and system


def test_another_size_of_the_vocabulary_is_told(train_path, tmp_path, tokenizer):
    header, block = objects(train_path)
    path = rewrite(entries(header, "origin.vocab_size", 9_999), [block], tmp_path / "x.msgpack.gz")
    with pytest.raises(InputError, match=r"another vocabulary \(9999 tokens, this one has 8192\)"):
        load_dataset(path, tokenizer)


def forge(train_path, target, header: dict, **arrays: np.ndarray):
    """A file of these arrays with a header whose hash fits."""
    old, block = objects(train_path)
    block |= {name: array.tobytes() for name, array in arrays.items()}
    digest = sha256(b"".join(block[name] for name in ARRAYS))
    return rewrite(old | {"sha256": digest} | header, [block], target)


def spoil_masks(kind: str, places: np.ndarray, replaced: np.ndarray) -> None:
    """Spoil a chunk's positions [M] or what is put there [M]."""
    if kind == "twice":
        places[1] = places[0]
    if kind == "swapped":
        places[:2] = places[1::-1].copy()
    if kind == "gap":
        places[0] = 32
    if kind == "outside":
        places[-1] = 33
    if kind == "none":
        places[:] = 32
    if kind == "[CLS]":
        places[0] = 0
    if kind == "[SEP]":
        places[-1] = 31
    if kind == "[PAD] put in":
        replaced[0] = 0


@pytest.mark.parametrize(("kind", "words"), [
    ("twice", "disorder"), ("swapped", "disorder"), ("gap", "disorder"), ("outside", "outside"),
    ("[CLS]", "no word"), ("[SEP]", "no word"), ("[PAD] put in", "no word"), ("none", "hides none"),
])
def test_masks_that_no_masker_draws_are_refused(kind, words, dataset, train_path, tmp_path,
                                                tokenizer):
    path = tmp_path / "x.msgpack.gz"
    places, replaced = dataset.positions.copy(), dataset.replaced.copy()
    assert places[7, -1] < 31
    forge(train_path, path, {}, positions=places, replaced=replaced)
    assert_same(Block(dataset.ids, places, replaced), load_dataset(path, tokenizer))
    replaced[7, -1] = tokenizer.ordinary_ids[-1]  # as a masker may, but it is another file's
    header, block = objects(path)
    rewrite(header, [block | {"replaced": replaced.tobytes()}], path)
    with pytest.raises(InputError, match="SHA-256 does not match"):
        load_dataset(path.rename(tmp_path / "y.msgpack.gz"), tokenizer)
    spoil_masks(kind, places[7], replaced[7])
    forge(train_path, path, {}, positions=places, replaced=replaced)
    with pytest.raises(InputError, match=rf"altered \(its? .*{words}"):
        load_dataset(path, tokenizer)


@pytest.mark.parametrize(("name", "more"), [("n_tokens", -1), ("n_unknown", 1)])
def test_tokens_are_counted_anew(name, more, dataset, train_path, tmp_path, tokenizer):
    lie = {name: getattr(dataset.header, name) + more}
    path = forge(train_path, tmp_path / "x.msgpack.gz", lie)
    with pytest.raises(InputError, match="other tokens than it announces"):
        load_dataset(path, tokenizer)
    assert list(tmp_path.iterdir()) == [path]


def test_a_dataset_without_a_word_to_guess_is_refused(dataset, train_path, tmp_path, tokenizer):
    ids = np.full_like(dataset.ids, tokenizer.special.unk)
    path = forge(train_path, tmp_path / "x.msgpack.gz", {"n_unknown": ids.size}, ids=ids,
                 positions=np.full_like(dataset.positions, 32))
    with pytest.raises(InputError, match="or no word"):
        load_dataset(path, tokenizer)


@pytest.mark.parametrize("change", [
    {"count": True}, {"count": 3.0}, {"count": "3"}, {"count": 0}, {"count": -1}, {"count": 2**40},
    {"ids": "text"}, {"ids": [1, 2]}, {"ids": {"a": 1}}, {"ids": None}, {"ids": b""}, {"more": 1},
    {"ids": msgpack.ExtType(5, b"1234")}, {"ids": msgpack.Timestamp(1)}, None, [], 7,
])
def test_a_block_of_other_entries_or_types_is_refused(change, train_path, tmp_path, tokenizer):
    header, block = objects(train_path)
    block = block | change if isinstance(change, dict) else change
    path = rewrite(header, [block], tmp_path / "x.msgpack.gz")
    with pytest.raises(InputError, match="truncated or altered"):
        load_dataset(path, tokenizer)
    for name in ("count", *ARRAYS):
        left = {key: value for key, value in objects(train_path)[1].items() if key != name}
        with pytest.raises(InputError, match="other entries"):
            load_dataset(rewrite(header, [left], path), tokenizer)


@pytest.mark.parametrize("obstacle", [False, True])
def test_more_chunks_than_announced_are_refused_in_memory_too(obstacle, dataset, train_path,
                                                              tmp_path, tokenizer):
    fewer = {"count": len(dataset) - 1, "n_tokens": 999}
    path = forge(train_path, tmp_path / "x.msgpack.gz", fewer)
    if obstacle:
        unpacked(path).mkdir()
    with pytest.raises(InputError, match="a block holds .* chunks"):
        load_dataset(path, tokenizer)
