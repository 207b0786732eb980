"""A page as text and as HTML: escaped, the same each time, readable without style."""

import re

from bertlib.highlight import (
    guesses_text,
    headings,
    inline_html,
    literal,
    page_html,
    page_text,
)
from bertlib.predict import Guess, Hole, Page


def hole(position, truth, *guesses, rank=1):
    pairs = tuple(Guess(word, share) for word, share in guesses)
    return Hole(position, pairs, truth, rank, dict(pairs).get(truth, 0.0001))


PAGE = Page(("[CLS]", "the", "king", "spoke", "##n", "<b>", "&", "[SEP]", "[PAD]"),
            (hole(2, "king", ("king", 0.5), ("man", 0.25)),
             hole(5, "<b>", ("<script>", 0.1), ("it", 0.02), rank=41),
             hole(6, "&", ("and", 0.9), ("&", 0.05), rank=2)))
UNKNOWN = Page(("[CLS]", "the", "[MASK]", "[SEP]"), (Hole(2, (Guess("sea", 0.3),)),))


def bare(page: str) -> str:
    """What is left where style is stripped and tags are not shown."""
    return re.sub(r"<[^>]*>", " ", page)


def test_text_marks_right_and_wrong():
    assert page_text(PAGE) == "the /king/✓ spoken /<script>/✗(<b>) /and/✗(&)"
    assert page_text(UNKNOWN) == "the /sea/"
    assert (PAGE.right(), PAGE.known()) == (1, 3)


def test_guesses_are_told_in_lines():
    first, second, third = guesses_text(PAGE).splitlines()
    assert first == "[1] king 50%, man 25%; ✓ right: true word king, rank 1, 50%"
    assert second.endswith("✗ wrong: true word <b>, rank 41, under 0.1%")
    assert third.endswith("rank 2, 5.0%")
    assert guesses_text(UNKNOWN) == "[1] sea 30%"


def test_html_is_escaped_and_says_all_without_style_or_colour():
    assert page_html(PAGE, "<i>title</i>").startswith("<p><b>&lt;i&gt;title")
    for page in (page_html(PAGE), inline_html(PAGE)):
        assert "<script>" not in page and "<b>&" not in page
        assert "&lt;script&gt;" in page and "1 of 3 right (33%)." in bare(page)
    words = " ".join(bare(page_html(PAGE)).split())
    assert "the [MASK] 1 spoken [MASK] 2 [MASK] 3" in words
    assert "1 ✓ right king 1 50% king 50% man 25%" in words
    assert "2 ✗ wrong &lt;b&gt; 41 under 0.1%" in words
    assert page_html(PAGE).count("<b style=") == 3
    struck = re.findall("<s style='opacity:.85'>(.*?)</s>", inline_html(PAGE))
    assert struck == ["&lt;b&gt;", "&amp;"]  # the truths that were missed, and no other
    assert "/king/✓" in bare(inline_html(PAGE)) and "/and/✗" in bare(inline_html(PAGE))


def test_signs_of_formulas_stand_apart_from_the_text_around_them():
    money = Page(("[CLS]", "$", "5", "$", "\\", "sea", "[SEP]"),
                 (hole(3, "$", ("$", 0.5), ("\\", 0.25)), hole(5, "sea", ("$", 0.5))))
    title = r"<$5> \(x\) $$y$$ \begin{z}"
    for page in (page_html(money, title), inline_html(money)):
        assert not re.search(r"[^>][$\\]|[$\\](?!</span>)", page) and "<span>$</span>" in page
    assert literal(title) == (
        "&lt;<span>$</span>5&gt; <span>\\</span>(x<span>\\</span>) <span>$</span><span>$</span>y"
        "<span>$</span><span>$</span> <span>\\</span>begin{z}")
    assert literal("the sea & <b>") == "the sea &amp; &lt;b&gt;"


def test_a_hidden_piece_is_read_together_with_its_word():
    piece = hole(4, "##n", ("##n", 0.6), ("##s", 0.2))
    page = Page(("[CLS]", "spo", "##ke", "is", "not", "##n"), (hole(5, "##n", ("##n", 0.6)),))
    assert "not" in guesses_text(page)
    whole = Page(("[CLS]", "the", "spo", "##ke", "##n", "[SEP]"), (piece,))
    assert guesses_text(whole).startswith("[1] spoken (##n) 60%, spokes (##s) 20%")
    alone = Page(("[CLS]", "##n", "[SEP]"), (hole(1, "##n", ("##n", 0.6)),))
    assert guesses_text(alone).startswith("[1] ##n 60%")
    both = Page(("[CLS]", "spo", "##ke", "[SEP]"),
                (hole(1, "spo", ("the", 0.6)), hole(2, "##ke", ("##ke", 0.6))))
    assert "[2] ##ke 60%" in guesses_text(both)
    bare_start = Page(("spo", "##ken"), (hole(1, "##ken", ("##ken", 0.6)),))
    assert guesses_text(bare_start).startswith("[1] spoken (##ken) 60%")


def test_the_table_has_a_column_for_each_guess():
    assert headings(PAGE)[:5] == ["hole", "right?", "true word", "its rank", "its share"]
    assert headings(PAGE)[5:] == ["guess 1", "guess 2"]


def test_a_page_without_holes_or_truths_says_so():
    assert "Nothing is hidden." in page_html(Page(("[CLS]", "sea", "[SEP]"), ()))
    assert "the true words are unknown" in page_html(UNKNOWN)
    assert "unknown" in bare(page_html(UNKNOWN))
