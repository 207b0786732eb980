"""Guesses, how they are shown, and the command that answers texts."""

import io
import json
import os
import sys

import pytest
import torch

from bertlib import predict
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.huggingface import save_shipped
from bertlib.masking import Masked
from bertlib.plumbing.files import InputError
from bertlib.predict import (
    Guess,
    Hole,
    Page,
    answers,
    attention_maps,
    fill,
    guess_chunk,
    guess_page,
    load_page,
    main,
    question,
    save_page,
    word_shares,
)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return BertForMaskedLM(BertConfig.preset("tiny", vocab_size=len(tokenizer)))


def test_fill_gives_the_best_words_of_each_mask(model, tokenizer):
    model.train()
    text = "the [MASK] of [MASK] ."
    first, second = fill(model, tokenizer, text, top=4)
    assert model.training
    ids = torch.tensor([tokenizer.encode(text)])
    shares = model.eval()(ids).logits.softmax(-1)[0]
    for place, guesses in ((2, first), (4, second)):
        best = shares[place].topk(4)
        assert [g.token for g in guesses] == tokenizer.tokens(best.indices.tolist())
        got = torch.tensor([g.probability for g in guesses])
        assert torch.allclose(got, best.values, atol=1e-6)
    with pytest.raises(InputError, match="MASK"):
        fill(model, tokenizer, "nothing hidden")
    model.train()
    with pytest.raises(InputError, match="44 tokens, the model takes at most 32"):
        fill(model, tokenizer, "[MASK] " + "the sea " * 20 + "end")
    assert model.training


@pytest.mark.parametrize("top", [0, 8193])
def test_more_guesses_than_words_are_refused(model, tokenizer, top):
    with pytest.raises(InputError, match=f"top is {top}; it must lie in 1..8192"):
        fill(model, tokenizer, "the [MASK] .", top)
    ids = torch.tensor([[2, tokenizer.special.mask, 3]])
    puzzle = Masked(ids, torch.tensor([1]), torch.tensor([-1]))
    with pytest.raises(InputError, match=f"top is {top}"):
        guess_page(model, tokenizer, puzzle, top)
    assert len(fill(model, tokenizer, "the [MASK] .", 8192)[0][:]) == 8192


TEXTS = ["the [MASK] of the sea .", "[MASK]", "a [MASK] and a [MASK] were in the city by the river",
         "[MASK] [MASK] [PAD] [MASK]", "the king went to the [MASK] ."] * 3


def test_many_questions_are_answered_as_each_alone_and_in_order(tokenizer, monkeypatch):
    shape = BertConfig.preset("tiny", vocab_size=len(tokenizer), init_std=0.2)  # reads its padding
    model = BertForMaskedLM(shape)
    monkeypatch.setattr("bertlib.predict.TOKENS_AT_ONCE", 64)  # several batches, most padded
    sizes: list[int] = []
    hook = model.register_forward_pre_hook(lambda _, given: sizes.append(given[0].numel()))
    found = answers(model, tokenizer, [question(model, tokenizer, text) for text in TEXTS], top=3)
    hook.remove()
    assert len(sizes) > 1 and max(sizes) <= 64
    for text, holes in zip(TEXTS, found, strict=True):
        alone = fill(model, tokenizer, text, top=3)
        assert len(holes) == len(alone) == text.count("[MASK]")
        for ours, theirs in zip(holes, alone, strict=True):
            assert [guess.token for guess in ours] == [guess.token for guess in theirs]
            for one, other in zip(ours, theirs, strict=True):
                assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_a_chunk_is_guessed_at_its_frozen_masks(model, dataset, masker, tokenizer):
    page = guess_chunk(model.eval(), dataset, 3, masker, tokenizer)
    puzzle = dataset.frozen(slice(3, 4), masker)
    assert [hole.position for hole in page.holes] == puzzle.positions.tolist()
    assert [hole.truth for hole in page.holes] == tokenizer.tokens(puzzle.labels.tolist())
    assert page.tokens == tuple(tokenizer.tokens(dataset.chunks(slice(3, 4))[0].tolist()))
    assert {len(hole.guesses) for hole in page.holes} == {5}


def test_rank_and_share_of_the_truth_are_those_of_the_logits(model, tokenizer):
    ids = torch.tensor([tokenizer.encode("the king of the sea")])
    truth = ids[0, [2, 5]]
    hidden = ids.clone()
    hidden[0, [2, 5]] = tokenizer.special.mask
    page = guess_page(model, tokenizer, Masked(hidden, torch.tensor([2, 5]), truth))
    shares = model.eval()(hidden).logits[0, [2, 5]].softmax(-1).detach()
    for hole, share, label in zip(page.holes, shares, truth.tolist(), strict=True):
        order = share.argsort(descending=True).tolist()
        assert hole.rank == order.index(label) + 1
        assert hole.probability == pytest.approx(float(share[label]), rel=1e-4)
        assert hole.right == (hole.rank == 1)
    unknown = guess_page(model, tokenizer, Masked(hidden, torch.tensor([2]), torch.tensor([-1])))
    assert unknown.holes[0].truth is None and unknown.holes[0].right is None
    assert unknown.known() == 0


def test_each_word_is_scored_with_it_alone_hidden(model, tokenizer):
    ids = torch.tensor(tokenizer.encode("the king of the sea"))
    shares = word_shares(model, tokenizer, ids)
    assert shares[0] == shares[-1] == 1
    for place in (1, 3):
        alone = ids.clone()
        alone[place] = tokenizer.special.mask
        wanted = model.eval()(alone[None]).logits[0, place].softmax(-1)[ids[place]]
        assert torch.allclose(shares[place], wanted, rtol=1e-4)
    assert word_shares(model, tokenizer, torch.tensor(tokenizer.encode(""))).tolist() == [1, 1]


def test_the_words_of_a_long_text_are_scored_in_parts(model, tokenizer, monkeypatch):
    ids = torch.tensor(tokenizer.encode("the king of the sea"))
    whole, asked = word_shares(model, tokenizer, ids), []
    monkeypatch.setattr(predict, "TOKENS_AT_ONCE", 2 * len(ids))
    ask = predict.in_evaluation
    monkeypatch.setattr(predict, "in_evaluation",
                        lambda model, batch, *rest: asked.append(len(batch)) or
                        ask(model, batch, *rest))
    assert torch.allclose(word_shares(model, tokenizer, ids), whole, rtol=1e-5)
    assert asked == [2, 2, 1]


def test_a_typed_mask_has_no_share(model, tokenizer):
    ids = torch.tensor(tokenizer.encode("the [MASK] of the sea"))
    shares = word_shares(model, tokenizer, ids)
    assert shares.isnan().nonzero().flatten().tolist() == [2]
    alone = ids.clone()
    alone[3] = tokenizer.special.mask
    wanted = model.eval()(alone[None]).logits[0, 3].softmax(-1)[ids[3]]
    assert torch.allclose(shares[3], wanted, rtol=1e-4)


def test_attention_is_shown_without_dropout_whatever_the_mode(model, tokenizer):
    ids = torch.tensor([tokenizer.encode("the king of the sea")])
    wanted = attention_maps(model.eval(), ids)
    assert torch.equal(attention_maps(model.train(), ids), wanted)
    assert model.training and model.encoder.blocks[0].training
    model.eval()
    assert torch.equal(attention_maps(model, ids), wanted) and not model.training
    with pytest.raises(InputError, match="at most 32"):
        attention_maps(model.train(), torch.ones(1, 33, dtype=torch.long))
    assert model.training


@pytest.fixture(scope="module")
def shipped(model, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shipped")
    save_shipped(model, tokenizer, folder, {})
    return folder


def test_the_command_answers_a_text(shipped, tokenizer, capsys):
    main(["the [MASK] of [MASK] .", "--model", str(shipped), "--top", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[MASK] 1" and lines[3] == "[MASK] 2" and len(lines) == 6
    assert all("%" in line and line.split()[0] in tokenizer.vocab for line in lines[1:3])
    main(["[MASK] is a city ."])  # by default, the model that comes with the course
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_the_command_answers_a_file_line_by_line(shipped, tmp_path, capsys, monkeypatch):
    content = ("\ufeff" + "\r\n".join(TEXTS) + "\u2028\r\n").encode()
    (tmp_path / "q.txt").write_bytes(content)
    main(["--file", str(tmp_path / "q.txt"), "--model", str(shipped), "--top", "2"])
    printed = capsys.readouterr()
    records = [json.loads(line) for line in printed.out.splitlines()]
    assert [record["text"] for record in records] == [*TEXTS[:-1], TEXTS[-1] + "\u2028"]
    assert [len(r["guesses"]) for r in records] == [text.count("[MASK]") for text in TEXTS]
    assert set(records[0]["guesses"][0][1]) == {"token", "probability"}
    shares = [guess["probability"] for record in records for hole in record["guesses"]
              for guess in hole]
    assert shares == [round(share, 6) for share in shares]
    assert "sentences/s" in printed.err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    main(["--file", "-", "--model", str(shipped), "--top", "2"])
    assert capsys.readouterr().out == printed.out


@pytest.mark.parametrize(("content", "words"), [
    (b"the [MASK] .\nno hole\n", "Line 2 of '.*q.txt': The text 'no hole' has no"),
    (b"the [MASK] .\n\nthe [MASK] .\n", "Line 2"),
    (b"a [MASK]\n[MASK]" + b" the sea" * 20, "Line 2 .* 43 tokens"),
    (b"a [MASK]\n" * 30, "more than 199 bytes; pass it in parts"),
    (b"", "is empty"), (b"\xff\xfe", "UTF-8"), (None, "No such file"),
])
def test_a_bad_file_is_refused_before_anything_is_printed(shipped, tmp_path, refused, capsys,
                                                          content, words, monkeypatch):
    monkeypatch.setattr("bertlib.plumbing.page.MOST_BYTES", 199)
    path = tmp_path / "q.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        main(["--file", str(path), "--model", str(shipped)])
    assert capsys.readouterr().out == ""
    refused(main, "--file", path, "--model", shipped)


def test_the_command_refuses_what_it_cannot_answer(shipped, tmp_path, refused):
    assert "Pass either" in refused(main)
    assert "Pass either" in refused(main, "a [MASK]", "--file", "x")
    assert "no folder" in refused(main, "a [MASK]", "--model", tmp_path / "none")
    assert "top is 0" in refused(main, "a [MASK]", "--model", shipped, "--top", 0)
    assert "has no [MASK]" in refused(main, "a mask", "--model", shipped)
    foreign = os.fsdecode(b"caf\xe9 [MASK]")  # as it comes from a terminal that is not UTF-8
    message = refused(main, foreign, "--model", shipped)
    assert r"The text 'caf\udce9 [MASK]' holds '\udce9', letter 4, which is half a" in message
    assert "byte that is not UTF-8" in message


def test_a_page_survives_a_file(tmp_path):
    hole = Hole(1, (Guess("king", 0.5), Guess("<b>", 0.25)), "king", 1, 0.5)
    page = Page(("[CLS]", "king", "[SEP]"), (hole, Hole(2, (Guess("sea", 0.125),))))
    save_page(page, tmp_path / "page.json")
    assert load_page(tmp_path / "page.json") == page
