"""`wordpiece.js` in a real browser against `bertlib.tokens`: the same ids at the same letters."""

import json
import random
import unicodedata

import pytest
from chromium import needs_chromium, new_page
from test_tokens import paragraphs

from bertlib.page import HERE
from bertlib.plumbing.vocab import SPECIAL_TOKENS, Rules
from bertlib.tokens import Tokenizer

pytestmark = needs_chromium
ENCODE = """([texts, vocab, rules]) => {
  const words = new WordPiece(vocab, rules);
  return texts.map((text) => JSON.stringify(words.encode(text)));
}"""
OLD = [chr(c) for c in range(0x110000)  # what Unicode has known since 2002, and did not rethink
       if unicodedata.category(chr(c)) not in ("Cs", "Cn", "Co")
       and unicodedata.category(chr(c)) == unicodedata.ucd_3_2_0.category(chr(c))]
KNOWN = set(OLD)
CHINESE = (0x3400, 0x4DBF, 0x4E00, 0x9FFF, 0xF900, 0xFAFF, 0x20000, 0x2A6DF, 0x2A700, 0x2B81F,
           0x2B920, 0x2CEAF, 0x2F800, 0x2FA1F)  # where blocks of signs begin and end
SAMPLES = (
    *(f"a{chr(edge - 1)}b{chr(edge)}c{chr(edge + 1)}d" for edge in CHINESE),
    "The Café, the cafe\u0301 in 北京!", "ÜBER Über uber ñ [MASK] ?", "É è Е́", "it's half-way...",
    "x[MASK]y[mask] [ MASK ] [[MASK]] [CLS][SEP][PAD][UNK]", "İstanbul ISTANBUL ı ß ẞ ΣΑΣ Σ ﬁ",
    "한국어 ひらがな カタカナ ｶﾞ 漢字 𠀀 豈 ", "नमस्ते दुनिया ภาษาไทย עִבְרִית العَرَبِيَّة",
    "a\u00adb\u200bc\u200dd\ufeffe\u0000f\ufffdg\x07h\ue000i\U000f0000j",
    "one\ttwo\nthree\r\nfour\x0bfive\x0csix\x85seven\u2028eight\u00a0nine\u3000ten", "", "   ",
    "👩\u200d👩\u200d👧 🇩🇪 ❤\ufe0f e\u0301\u0327\u0323 q\u0307\u0323 \U0001d165\U0001d15e",
    "$5 + 3 = <8> ^_^ `~|", "“x” — ‘y’… ¿z? «w»", "a" * 100, "a" * 101, "é" * 100, "é" * 101,
)


@pytest.fixture(scope="module")
def tab(browser):
    page = new_page(browser)
    page.add_script_tag(path=HERE / "wordpiece.js")
    yield page
    assert page.errors == [] and page.outside == []
    page.close()


def wanted(tokenizer: Tokenizer, text: str) -> dict[str, list]:
    """Ids, and offsets as JavaScript counts: two letters for a character beyond 16 bits."""
    encoding, at = tokenizer.backend.encode(text), [0]
    for sign in text:
        at.append(at[-1] + 1 + (ord(sign) > 0xFFFF))
    return {"ids": encoding.ids,
            "offsets": [[at[start], at[end]] for start, end in encoding.offsets]}


def check_same(tab, tokenizer: Tokenizer, texts: list[str]) -> None:
    found = tab.evaluate(ENCODE, [texts, tokenizer.vocab, tokenizer.rules.as_dict()])
    for text, mine in zip(texts, found, strict=True):
        assert json.loads(mine) == wanted(tokenizer, text), ascii(text)


def mixed(draw: random.Random) -> str:
    """A line of words, signs and spaces of all scripts, with special tokens and accents in it."""
    plain = "abcdefghijklmnopqrstuvwxyz ABC 0123 .,!?-'\u0301\u0308\u0327äöüßéÅçñ"
    script = ord(draw.choice(OLD)) // 256 * 256
    near = [c for c in map(chr, range(script, script + 256)) if c in KNOWN] or OLD
    pools = (plain, plain, OLD, near, near, (*SPECIAL_TOKENS, "\u4e2d", "\u200d", " ", "\t"))
    return "".join(draw.choice(draw.choice(pools)) for _ in range(draw.randint(1, 60)))


def test_the_courses_texts_and_mixed_lines(tab, tokenizer):
    draw = random.Random(0)
    check_same(tab, tokenizer, [*SAMPLES, *paragraphs(1_000), *(mixed(draw) for _ in range(1_000))])


@pytest.mark.parametrize("chinese", [False, True])
@pytest.mark.parametrize("strip", [None, False, True])
@pytest.mark.parametrize("lower", [False, True])
def test_all_rules_with_a_vocabulary_that_spells(tab, lower, strip, chinese):
    """It holds most characters and some pairs, so that a wrong letter is a wrong id."""
    draw = random.Random(1)
    texts = [*SAMPLES, *(mixed(draw) for _ in range(300))]
    rules = Rules(lower, strip, chinese)
    wash = Tokenizer([*SPECIAL_TOKENS, "a"], rules=rules).backend.normalizer.normalize_str
    seen = sorted({sign for text in texts for sign in wash(text) if not sign.isspace()})
    kept = [sign for sign in seen if draw.random() < 0.97]
    pairs = ["".join(draw.choices("abcde", k=2)) for _ in range(20)]
    vocab = dict.fromkeys([*SPECIAL_TOKENS, *kept, *(f"##{sign}" for sign in kept), *pairs,
                           *(f"##{pair}" for pair in pairs)])
    check_same(tab, Tokenizer(list(vocab), rules=rules), texts)


def test_every_character_is_washed_and_cut_alike(tab):
    """Between two letters, so that it shows whether it parts, joins, or is gone."""
    vocab = [*SPECIAL_TOKENS, "a", "##a", *(c for c in OLD if c.isprintable())]
    vocab = list(dict.fromkeys(vocab))
    texts = ["".join(f"a{sign}a " for sign in OLD[start : start + 64])
             for start in range(0, len(OLD), 64)]
    check_same(tab, Tokenizer(vocab, lowercase=True), texts)


def test_half_a_character_is_told_in_one_sentence(tab, tokenizer):
    # as an escape: a lone surrogate does not travel as it is
    found = tab.evaluate("""([vocab, rules]) => {
      try { new WordPiece(vocab, rules).encode("the \\ud800 sea"); } catch (e) { return e.message; }
    }""", [tokenizer.vocab, tokenizer.rules.as_dict()])
    assert found == "Letter 5 of the text is half a character; take it out."
