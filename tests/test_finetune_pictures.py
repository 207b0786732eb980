"""The pictures of lesson 09: legible, and true to the head that they show."""

import pytest
import test_diagrams

from bertlib.finetune.pictures import TEXTS, encoder_and_head, spoken


def test_the_diagram_can_be_read_by_eye_and_by_screen_reader():
    test_diagrams.test_any_viewer_can_show_it_and_a_screen_reader_can_say_it(encoder_and_head())
    assert test_diagrams.faults(encoder_and_head()) == []
    assert len({len(tokens) for tokens in TEXTS}) == 1


def test_words_are_marked_by_sign_and_size_and_text_stays_text():
    page, plain = spoken(["<b>", "$5", "peace", "war", "."], [0.1, -3.0, 2.0, -0.5, 0.0], most=3)
    assert plain == "<b> $5(−) peace(+) war(−) ."
    assert "&lt;b&gt;" in page and page.count("<mark") == 3 and "<span>$</span>5" in page
    assert spoken(["a", "b"], [0.0, 0.0])[1] == "a b"


@pytest.mark.parametrize("most", [1, 2, 9])
def test_no_more_words_are_marked_than_are_asked_for(most):
    assert spoken(list("abcd"), [0.4, -0.3, 0.2, 0.1], most)[0].count("<mark") == min(most, 4)
