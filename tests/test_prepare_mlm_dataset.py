"""Text to dataset files: what goes where, and what is refused."""

import gzip
import lzma
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import VOCAB, document

from bertlib.corpus import Corpus
from bertlib.data import load_dataset
from bertlib.plumbing.commands import run_command
from bertlib.plumbing.texts import read_documents
from bertlib.prepare_mlm_dataset import PrepareConfig, batches, main, parser, prepare
from bertlib.tokens import Tokenizer

SPLITS = ("train", "val", "test")


def run(text: Path, out: Path, **changes):
    config = PrepareConfig(text, "toy", out, VOCAB, **{"max_len": 32} | changes)
    prepare(config)
    return config


def numbers_in(dataset, tokenizer) -> set[str]:
    """The article numbers that a split's text holds."""
    words = tokenizer.decode(dataset.ids.flatten().tolist()).split()
    return {after for before, after in zip(words, words[1:], strict=False) if before == "code"}


def test_no_document_leaks_into_another_split(base, tokenizer):
    found = {}
    for split in SPLITS:
        path = base / "datasets" / f"{split}_toy_32_123.msgpack.gz"
        numbers = numbers_in(load_dataset(path, tokenizer), tokenizer)
        found[split] = {n for n in numbers if len(n) == 3 and n.isdigit()}
    assert not found["train"] & found["val"]
    assert not found["train"] & found["test"]
    assert not found["val"] & found["test"]
    assert [len(found[split]) for split in SPLITS] == [80, 10, 10]


def test_packed_chunks_have_no_padding_and_lose_nothing_but_a_tail(base, tokenizer):
    total = 0
    for split in SPLITS:
        data = load_dataset(base / "datasets" / f"{split}_toy_32_123.msgpack.gz", tokenizer)
        assert (data.ids[:, 0] == tokenizer.special.cls).all()
        assert (data.ids[:, -1] == tokenizer.special.sep).all()
        assert (data.ids != tokenizer.special.pad).all()
        total += data.ids[:, 1:-1].size
    text = (base / "input" / "text.txt").read_text()
    lines = [line for line in text.splitlines() if line.strip()]
    all_ids = sum(len(tokenizer.encode(line, False)) for line in lines) + 100  # a [SEP] each
    assert all_ids - 3 * 30 < total <= all_ids


def test_files_do_not_depend_on_how_much_is_encoded_at_once(base, tmp_path, monkeypatch):
    monkeypatch.setattr("bertlib.packing.CHUNKS_IN_BLOCK", 16)
    contents = []
    for characters in (500, 10_000_000):
        monkeypatch.setattr("bertlib.prepare_mlm_dataset.BATCH_CHARACTERS", characters)
        config = run(base / "input" / "text.txt", tmp_path)
        contents.append([config.path(split).read_bytes() for split in SPLITS])
    assert contents[0] == contents[1]


@pytest.mark.parametrize("line", ["the king went home . " * 40, "a"])
def test_a_document_of_any_length_is_encoded_in_batches_of_bounded_size(tmp_path, line):
    (tmp_path / "x.txt").write_text(f"{line}\n" * (3_000_000 // (len(line) + 50)))
    corpus = Corpus(tmp_path / "x.txt", unit="documents")
    found = list(batches(corpus, "?"))
    assert 3 <= len(found) <= 4
    assert max(sum(map(len, texts)) + 50 * len(texts) for texts, _ in found) < 1_020_100
    assert [text for texts, _ in found for text in texts] == list(read_documents(corpus.path))[0]
    ends = [ends for _, marks in found for _, _, ends in marks]
    assert ends == [False] * (len(ends) - 1) + [True]


def test_a_text_of_which_no_word_is_known_is_refused(tmp_path, refused):
    (tmp_path / "x.txt").write_text("".join(f"{chr(0x13000 + n)}\n" * 20 for n in range(200)))
    message = refused(main, "-i", tmp_path / "x.txt", "-l", "x", "-o", tmp_path, "-m", 32, "-v",
                      VOCAB, "-s", 1)
    assert "no word that the vocabulary knows" in message and "bertlib.tokens" in message
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


def test_text_segments_end_at_words_and_are_padded(base, tmp_path, tokenizer):
    config = run(base / "input" / "text.txt", tmp_path, segment="text")
    data = load_dataset(config.path("train"), tokenizer)
    padded = (data.ids == tokenizer.special.pad).sum()
    assert 0 < padded == data.header.count * 32 - data.header.n_tokens
    for row in data.ids[:20]:
        used = row[row != tokenizer.special.pad]
        assert used[0] == tokenizer.special.cls and used[-1] == tokenizer.special.sep
        first = tokenizer.vocab[used[1]]
        assert not first.startswith("##")


def test_frozen_masks_hide_15_percent_and_never_change(base, tokenizer, masker):
    path = base / "datasets" / "val_toy_32_123.msgpack.gz"
    one, two = (load_dataset(path, tokenizer).frozen(slice(None), masker) for _ in range(2))
    assert (one.input_ids == two.input_ids).all() and (one.positions == two.positions).all()
    header = load_dataset(path, tokenizer).header
    assert len(one.labels) == header.count * round(0.15 * 30)


def test_the_same_seed_writes_the_same_bytes_another_seed_does_not(base, tmp_path):
    names = {}
    for folder, seed in (("a", 7), ("b", 7), ("c", 8)):
        (tmp_path / folder).mkdir()
        config = run(base / "input" / "text.txt", tmp_path / folder, seed=seed)
        names[folder] = config.path("val").read_bytes()
    assert names["a"] == names["b"] != names["c"]


def test_files_of_several_seeds_share_the_split_and_differ_in_masks(base, tmp_path, tokenizer):
    first, second = (
        load_dataset(run(base / "input" / "text.txt", tmp_path, seed=seed).path("val"), tokenizer)
        for seed in (1, 2)
    )
    assert np.array_equal(first.ids, second.ids)
    assert not np.array_equal(first.positions, second.positions)


@pytest.mark.parametrize(("suffix", "opener"), [(".xz", lzma.open), (".gz", gzip.open)])
def test_compressed_text_gives_the_same_chunks(base, tmp_path, tokenizer, suffix, opener):
    text = base / "input" / "text.txt"
    with opener(tmp_path / f"text{suffix}", "wb") as stream:
        stream.write(text.read_bytes())
    config = run(tmp_path / f"text{suffix}", tmp_path, seed=123)
    packed = load_dataset(config.path("train"), tokenizer)
    plain = load_dataset(base / "datasets" / "train_toy_32_123.msgpack.gz", tokenizer)
    assert np.array_equal(packed.ids, plain.ids)


def test_a_text_without_titles_is_cut_at_paragraphs(tmp_path, tokenizer):
    lines = [f"code {n} the river runs to the sea and the city sleeps" for n in range(100, 600)]
    (tmp_path / "plain.txt").write_text("\n".join(lines))
    config = run(tmp_path / "plain.txt", tmp_path)
    sets = [numbers_in(load_dataset(config.path(s), tokenizer), tokenizer) for s in SPLITS]
    assert all(sets) and not sets[0] & sets[1] and not sets[0] & sets[2]


def test_the_command_names_its_files_and_draws_a_seed(base, tmp_path, capsys):
    main(["-i", str(base / "input" / "text.txt"), "-l", "wiki", "-o", str(tmp_path), "-m", "128",
          "-v", str(VOCAB.parent), "-s", "123"])
    assert (tmp_path / "train_wiki_128_123.msgpack.gz").exists()
    main(["-i", str(base / "input" / "text.txt"), "-l", "wiki", "-o", str(tmp_path), "-m", "128",
          "-v", str(VOCAB)])
    seed = capsys.readouterr().out.split("seed: ")[1].split()[0]
    assert (tmp_path / f"train_wiki_128_{seed}.msgpack.gz").exists()


def test_the_help_shows_the_example():
    text = parser().format_help()
    assert "train_wiki_128_123.msgpack.gz" in text
    for option in ("--input", "--label", "--output", "--max-len", "--vocab", "--seed"):
        assert option in text


def unwritable(tmp_path: Path) -> Path:
    if os.geteuid() == 0:
        return Path("/proc")  # nobody may create a file here, not even root
    (tmp_path / "locked").mkdir(mode=0o555)
    return tmp_path / "locked"


@pytest.mark.parametrize(("changes", "words"), [
    ({"-i": "missing.txt"}, "does not exist"),
    ({"-i": "empty.txt"}, "holds no text"),
    ({"-i": "blank.txt"}, "holds no text"),
    ({"-i": "binary.txt"}, "binary file"),
    ({"-i": "latin.txt"}, "not UTF-8"),
    ({"-i": "cut.xz"}, "damaged"),
    ({"-i": "text.pdf"}, "unknown ending"),
    ({"-i": "short.txt"}, "too short"),
    ({"-l": "a/b"}, "label 'a/b'"),
    ({"-m": 15}, "16..2048"),
    ({"-m": 2049}, "16..2048"),
    ({"-s": -1}, "seed"),
    ({"-v": "nomask.txt"}, "[MASK]"),
    ({"-v": "none"}, "no vocabulary"),
    ({"-o": "none"}, "does not exist"),
    ({"-o": "LOCKED"}, "Cannot write"),
    ({"--segment": "word"}, "segment"),
])
def test_bad_input_is_one_sentence_status_2_and_no_file(base, tmp_path, refused, changes, words):
    (tmp_path / "out").mkdir()
    files = {
        "empty.txt": b"", "blank.txt": b" \n\n", "binary.txt": b"abc\0\1\2" * 10,
        "latin.txt": b"caf\xe9 au lait\n", "short.txt": b"hello world\n", "text.pdf": b"%PDF",
        "cut.xz": lzma.compress(b"some text " * 999)[:60],
        "nomask.txt": b"[PAD]\n[UNK]\n[CLS]\n[SEP]\nthe\n",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    options = {"-i": base / "input" / "text.txt", "-l": "toy", "-o": tmp_path / "out",
               "-m": 32, "-v": VOCAB, "-s": 1}
    for key, value in changes.items():
        in_folder = key in ("-i", "-o", "-v")
        options[key] = tmp_path / value if in_folder else value
        if value == "LOCKED":
            options[key] = unwritable(tmp_path)
    message = refused(main, *(part for pair in options.items() for part in pair))
    assert words in message
    assert not list((tmp_path / "out").iterdir())


def test_the_module_runs_and_exits_with_2(tmp_path):
    command = [sys.executable, "-m", "bertlib.prepare_mlm_dataset", "-i", "none.txt", "-l", "x",
               "-o", str(tmp_path), "-m", "32", "-v", str(VOCAB)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "none.txt" in done.stderr and "Traceback" not in done.stderr


def test_a_section_title_opens_no_document(tmp_path):
    (tmp_path / "two.txt").write_text(document(1) + document(2))
    documents = list(read_documents(tmp_path / "two.txt"))
    starts = [d[0] for d in documents if d[0].startswith("= Article")]
    assert starts == ["= Article 1 =", "= Article 2 ="]
    assert not any(d[0].startswith("= =") for d in documents if len(d) > 2)


FULL = """
import resource, signal, sys
from bertlib.prepare_mlm_dataset import command
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
command()
"""


def test_a_disk_that_is_full_is_told_in_one_sentence_and_nothing_is_left(tmp_path):
    (tmp_path / "out").mkdir()
    draw = np.random.default_rng(0)
    words = [line for line in VOCAB.read_text().splitlines() if line.isalpha()]
    (tmp_path / "x.txt").write_text("".join(
        f" = T{n} = \n {' '.join(draw.choice(words, 300))}\n" for n in range(400)))
    done = subprocess.run(
        [sys.executable, "-c", FULL, "-i", tmp_path / "x.txt", "-l", "x", "-o", tmp_path / "out",
         "-m", "32", "-v", VOCAB, "-s", "1"], capture_output=True, text=True)
    assert done.returncode == 2 and not list((tmp_path / "out").iterdir())
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


def test_ctrl_c_in_preparation_leaves_nothing_half_written(base, tmp_path, monkeypatch, capsys):
    real = Tokenizer.encode_batch

    def press(self, texts):
        signal.raise_signal(signal.SIGINT)
        return real(self, texts)

    monkeypatch.setattr(Tokenizer, "encode_batch", press)
    status = run_command(lambda: main([
        "-i", str(base / "input" / "text.txt"), "-l", "x", "-o", str(tmp_path), "-m", "32",
        "-v", str(VOCAB), "-s", "1"]))
    assert status == 130 and "interrupted" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

