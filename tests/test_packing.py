"""Chunks: nothing is lost but a tail that is counted, and every length has its masks."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import VOCAB

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.data import in_order, load_dataset
from bertlib.masking import Masker, n_hidden
from bertlib.packing import Packer
from bertlib.plumbing.dataset_folder import find_datasets
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare, told
from bertlib.scoring import evaluate
from bertlib.tokens import Tokenizer


def prepared(folder, text: str, **changes):
    """Text as datasets: ({split: dataset}, what the command would tell, the tokenizer)."""
    (folder / "text.txt").write_text(text, encoding="utf-8")
    config = PrepareConfig(**dict(input=folder / "text.txt", label="t", output=folder, vocab=VOCAB,
                                  max_len=32) | changes)
    lines = list(told(config, prepare(config)))
    tokenizer = Tokenizer.load(config.vocab)
    train, val, test = find_datasets(folder, "t", config.max_len)
    datasets = {"train": train[0], "val": val, "test": test}
    return {name: load_dataset(p, tokenizer) for name, p in datasets.items()}, lines, tokenizer


def documents(lines: list[str]) -> str:
    return "".join(f" = T{n} = \n {line}\n" for n, line in enumerate(lines))


def test_every_length_has_as_many_places_as_masks(tokenizer):
    masker = Masker(tokenizer)
    for length in range(16, 2049):
        ids = torch.full((1, length), tokenizer.ordinary_ids[0])
        ids[0, 0], ids[0, -1] = tokenizer.special.cls, tokenizer.special.sep
        drawn = len(masker.choose(ids, 0.15, torch.Generator().manual_seed(0)))
        assert drawn == int(n_hidden(torch.tensor(length - 2), 0.15)) == round(0.15 * (length - 2))


def test_the_same_seed_makes_the_same_files_on_every_machine(tmp_path):
    text = documents([f"the king of house {n} went to the sea . " * 9 for n in range(60)])
    datasets, _, _ = prepared(tmp_path, text, seed=7)
    assert [data.header.sha256[:16] for data in datasets.values()] == [
        "27da7f42bf13824d", "f22cd9a5815175e4", "2e8c4642bc3092a3"]


def test_what_waits_for_the_end_of_its_document_is_in_no_chunk_yet(tokenizer):
    packer = Packer(tokenizer, 16, "text")
    assert len(packer([([7, 8, 9], False)])) == 0 and packer.n_rest() == 3
    assert len(packer([([10], True)])) == 1 and packer.n_rest() == 0


@pytest.mark.parametrize("length", [16, 192, 352, 392, 2048])
def test_lengths_that_once_crashed_are_prepared(tmp_path, length):
    text = documents(["the king went to the city and saw the river . " * 60] * 100)
    datasets, _, _ = prepared(tmp_path, text, max_len=length)
    val = datasets["val"]
    assert val.positions.shape[1] == round(0.15 * (length - 2))
    assert (val.positions < length).mean() > 0.95  # the rest: [SEP]s are never asked


@pytest.mark.parametrize("segment", ["token", "text"])
def test_chinese_text_loses_nothing_but_the_counted_tail(tmp_path, segment):
    signs = [chr(0x4E00 + n) for n in range(500)]
    vocab = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs, "t", "=", "##0", *"0123456789",
             *(f"##{n}" for n in range(1, 10))]
    (tmp_path / "v").mkdir()
    Tokenizer(vocab, lowercase=True).save(tmp_path / "v")
    draw = np.random.default_rng(0)
    lines = ["".join(draw.choice(signs, 90)) for _ in range(60)]
    datasets, said, tokenizer = prepared(tmp_path, documents(lines), vocab=tmp_path / "v",
                                         segment=segment)
    found = sum(int(((data.ids >= 5) & (data.ids < 505)).sum()) for data in datasets.values())
    lost = sum(data.header.n_lost for data in datasets.values())
    assert 60 * 90 - lost <= found <= 60 * 90 and (lost == 0 or segment == "token")
    assert lost < 3 * 30
    for line, data in zip(said[2:], datasets.values(), strict=True):
        assert f"{data.header.n_lost:,} tokens at the end left out" in line


def test_text_chunks_end_before_a_word_begins_and_hold_one_document(tokenizer):
    packer = Packer(tokenizer, 16, "text")
    word = tokenizer.encode("unbelievabilities", False)
    assert len(word) > 2 and all(tokenizer.vocab[i].startswith("##") for i in word[1:])
    rows = packer([(word * 3, False), (word * 4, True), ([7], True), ([], True)])
    flat = [row[row != tokenizer.special.pad].tolist()[1:-1] for row in rows]
    assert sum(flat, []) == word * 7 + [7] and flat[-1] == [7]
    assert all(row[0] == word[0] for row in flat[:-1]) and packer.n_rest() == 0
    pieces = Packer(tokenizer, 16, "text")([(word[:1] + word[1:2] * 40, True)])
    assert pieces.shape[0] == 3  # a word that fits no chunk is cut where the chunk ends


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, names are Unicode")
def test_a_text_whose_name_is_no_unicode_is_prepared(tmp_path):
    text = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.txt"))
    text.write_text(documents(["the king of the sea . " * 30] * 40))
    headers = prepare(PrepareConfig(text, "t", tmp_path, VOCAB, 32))
    assert {header.origin.source for header in headers.values()} == {"caf?.txt"}


def test_marks_that_look_like_special_tokens_are_text(tmp_path):
    line = "you [MASK] the [PAD] and [SEP] or [CLS] and [UNK] words of the king . " * 9
    datasets, _, tokenizer = prepared(tmp_path, documents([line] * 40))
    special = tokenizer.special
    for data in datasets.values():
        inner = data.ids[:, 1:-1]
        assert not np.isin(inner, [special.mask, special.pad, special.cls, special.unk]).any()
        assert "[ mask ]" in tokenizer.decode(inner.ravel().tolist())
    ends = sum(int((data.ids[:, 1:-1] == special.sep).sum()) for data in datasets.values())
    assert ends <= 40  # one a document


def test_words_that_wikitext_left_out_are_unknown_and_never_asked(tmp_path):
    line = "the role @-@ playing <unk> sold 1 @,@ 000 copies to the <unk> king . " * 9
    datasets, said, tokenizer = prepared(tmp_path, documents([line] * 40))
    unknown = tokenizer.special.unk
    total = 0
    for data in datasets.values():
        total += int((data.ids == unknown).sum())
        text = tokenizer.decode(data.ids.ravel().tolist())
        assert "@" not in text and "<" not in text and "role - playing" in text
        labels = np.take_along_axis(data.ids, np.minimum(data.positions, 31).astype(int), 1)
        assert not (labels == unknown)[data.positions < 32].any()
        assert data.header.origin.wikitext
    assert 40 * 18 - 30 <= total <= 40 * 18
    assert any("WikiText" in line and "[UNK]" in line for line in said)


def test_a_vocabulary_that_does_not_know_the_text_is_told(tmp_path):
    good, said, _ = prepared(tmp_path, documents(["the king of the sea . " * 30] * 40))
    assert not any("warning" in line for line in said) and "0.0% [UNK]" in said[2]
    assert good["val"].header.n_unknown == 0
    strange = "".join(chr(0x13000 + n) + " " for n in range(90))
    _, said, _ = prepared(tmp_path, documents([strange] * 40), label="u")
    assert "warning" in said[-1] and "python -m bertlib.tokens" in said[-1]


def test_chunks_of_unknown_words_alone_have_no_mask_and_do_not_spoil_the_score(tmp_path):
    strange = chr(0x13000) + " "
    lines = ["the king of the sea . " * 30, strange * 30 * 32] * 20
    datasets, _, tokenizer = prepared(tmp_path, documents(lines))
    data = datasets["val"]
    model = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer), seq_len=32))
    batches = list(in_order(data, Masker(tokenizer), 8))
    assert any(len(batch.labels) == 0 for batch in batches)
    score = evaluate(model, iter(batches), torch.device("cpu"), torch.float32)
    assert np.isfinite(score.loss) and score.count == (data.positions < 32).sum()


def test_passages_are_named_in_header_and_output(tmp_path):
    datasets, said, _ = prepared(tmp_path, "the king went to the sea . " * 2000)
    assert said[0].startswith("vocabulary: uncased, says tokenizer_config.json")
    assert datasets["val"].header.origin.unit == "passages"
    assert "contiguous passages" in said[1]
