"""Guesses that are written down as a model learns."""

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.samples import Sampler, read_samples, some_sentences


def test_samples_are_kept_by_step(tokenizer, tmp_path):
    model = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer)))
    (tmp_path / "logs").mkdir()
    sampler = Sampler(tokenizer, ["a [MASK] ."], top=2)
    for step in (0, 1, 1):
        sampler(step, model, tmp_path)
    records = read_samples(tmp_path / "logs" / "samples.jsonl")
    assert [record["step"] for record in records] == [0, 1]
    assert len(records[0]["guesses"][0]) == 2


def test_sentences_of_another_text_hide_one_token_each(dataset, tokenizer):
    sentences = some_sentences(dataset, tokenizer)
    assert len(sentences) == 5 == len(set(sentences))
    for sentence in sentences:
        ids = tokenizer.encode(sentence)
        assert ids.count(tokenizer.special.mask) == 1 and 8 <= len(ids) <= 20


def test_sentences_fit_into_the_chunks_that_they_are_taken_from(dataset, tokenizer):
    many = some_sentences(dataset, tokenizer, count=len(dataset), length=30)
    assert max(len(tokenizer.encode(text)) for text in many) <= dataset.header.max_len
