"""The diagrams of notebook 10: legible as all others, and true to the code that they show."""

import pytest
import torch
from test_diagrams import faults, said

from bertlib.attention import causal_bias
from bertlib.figures.diagram import KINDS
from bertlib.figures.zoom_writer import STEPS, WORDS, kept_rows, two_puzzles
from bertlib.masking import NextToken
from bertlib.tokens import SPECIAL_TOKENS, Tokenizer


@pytest.mark.parametrize("make", [two_puzzles, kept_rows])
def test_words_can_be_read_and_nothing_collides(make):
    picture = make()
    assert faults(picture) == [] and picture.width == 700 and len(picture.alt) > 200
    assert len(picture.svg) < 25_000


def test_the_questions_are_those_of_the_puzzle():
    small = Tokenizer([*SPECIAL_TOKENS, *WORDS[1:]])
    row = [*small.encode(" ".join(WORDS[1:]))]  # with its [SEP], which is asked for nowhere
    puzzle = NextToken(small).ask(torch.tensor([row]))
    answers = small.tokens(puzzle.labels.tolist())
    words = said(two_puzzles())
    assert f"GPT: what comes next, {len(answers)} questions" in words
    for word in answers:  # right once, seen below, and seen by BERT unless it is hidden
        assert words.count(word) == 3


def test_as_many_squares_are_filled_as_tokens_are_computed():
    svg = kept_rows().svg
    filled = svg.count(f'width="26" height="26" fill="{KINDS["bar"]["fill"]}"')
    anew = int((causal_bias(STEPS) == 0).sum())
    assert filled == anew + STEPS
    assert {f"{anew} tokens through the blocks", f"{STEPS} tokens through the blocks"} <= set(
        said(kept_rows()))
