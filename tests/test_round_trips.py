"""What is written is read again as it was, whatever it is; and HTML says what it was given."""

import math
from collections import Counter
from contextlib import closing
from dataclasses import asdict, fields, replace
from html.parser import HTMLParser

import msgpack
import numpy as np
import pytest
import torch
from examples import (
    JUNK,
    MAX_LEN,
    ORDINARY,
    SEEDS,
    SHARES,
    SMALL,
    SPECIAL,
    calls,
    few,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from bertlib.checkpoint import Checkpoints
from bertlib.data import Batches, load_dataset
from bertlib.highlight import (
    headings,
    inline_html,
    page_html,
    page_text,
    rows,
    summary,
)
from bertlib.masking import Masker, MaskingConfig
from bertlib.packing import Packer, SplitWriter
from bertlib.plumbing.dataset_header import LONGEST, SHORTEST, SPLITS, Header, Origin, parse_header
from bertlib.plumbing.page import Guess, Hole, Page, load_page, save_page
from bertlib.plumbing.vocab import SPECIAL_TOKENS, Rules, SpecialIds
from bertlib.tokens import Tokenizer


@few
@given(calls(), MAX_LEN, st.sampled_from(["token", "text"]), st.floats(0.001, 0.999), SEEDS)
def test_a_split_is_read_as_it_was_put_in_whatever_the_calls(tmp_path_factory, stream, max_len,
                                                             segment, rate, seed):
    stream = [[(ORDINARY * 20, True)], *stream, [([], True)]]
    folder, all_at_once = tmp_path_factory.mktemp("split"), [sum(stream, [])]
    origin = Origin("a", "b", "titles", "documents", False, len(SMALL), SMALL.sha256,
                    SMALL.lowercase, None, SPECIAL, segment)
    path, other = folder / "1.msgpack.gz", folder / "2.msgpack.gz"
    with pytest.MonkeyPatch.context() as patch:
        for module in ("packing", "plumbing.dataset_file"):
            patch.setattr(f"bertlib.{module}.CHUNKS_IN_BLOCK", 3)
        for file, told in ((other, all_at_once), (path, stream)):
            with closing(SplitWriter("val", SMALL, origin, MaskingConfig(rate), max_len, seed,
                                     folder)) as writer, file.open("wb") as opened:
                for call in told:
                    writer.add(call)
                writer.flush()
                writer.finish(opened)
        first, data = (load_dataset(path, SMALL) for _ in range(2))  # then from its unpacked copy
    assert path.read_bytes() == other.read_bytes()
    packer, masker, header = Packer(SMALL, max_len, segment), Masker(SMALL), data.header
    chunks = packer(*all_at_once)
    assert header == first.header == writer.header()
    assert np.array_equal(first.ids, chunks) and np.array_equal(data.ids, chunks)
    counts = header.count, header.n_tokens, header.n_unknown, header.n_lost
    assert counts == (len(chunks), (chunks != SPECIAL.pad).sum(), (chunks == SPECIAL.unk).sum(),
                      packer.n_rest())
    puzzle = data.frozen(slice(None), masker)
    places, labels = puzzle.positions, puzzle.labels
    found = torch.bincount(places // max_len, minlength=len(chunks)).tolist()
    words = np.isin(chunks, ORDINARY).sum(1).tolist()
    assert found == [min(n, max(1, round(n * rate))) for n in words]
    assert set(labels.tolist()) <= set(ORDINARY)
    undone = masker.puzzle(puzzle.input_ids, places, labels, labels).input_ids
    assert np.array_equal(undone, chunks)


SIZES = st.integers(1, 100)  # most of the smaller file


@given(st.lists(SIZES, min_size=4), st.lists(SIZES, min_size=4), SEEDS, st.booleans())
def test_batches_go_on_as_if_never_stopped(base, tokenizer, masker, before, after, seed, dynamic):
    paths = [base / "datasets" / f"{split}_toy_32_123.msgpack.gz" for split in ("val", "train")]
    batches, again = (Batches(paths, masker, tokenizer, seed, dynamic) for _ in range(2))
    for size in before:
        batches.next(size, 0.15)
    again.restore(batches.state())
    for size in after:
        one, other = batches.next(size, 0.3), again.next(size, 0.3)
        assert len(one.input_ids) == size and torch.equal(one.input_ids, other.input_ids)
        assert torch.equal(one.positions, other.positions)
        assert torch.equal(one.labels, other.labels)
    assert batches.state() == again.state()


TOKENS = (st.text(min_size=1) | st.text("a \r\t\x85\u2028\ufeff", min_size=1)).filter(
    lambda token: "\n" not in token and token[-1] != "\r" and token[0] != "\ufeff")
RULES = st.builds(Rules, st.booleans(), st.none() | st.booleans(), st.booleans(),
                  st.just("says tokenizer_config.json"))


@given(st.sets(TOKENS).map(sorted), RULES, SEEDS)
def test_a_tokenizer_survives_its_folder(tmp_path_factory, tokens, rules, seed):
    folder, vocab = tmp_path_factory.mktemp("vocab"), sorted({*tokens, *SPECIAL_TOKENS, "word"})
    tokenizer = Tokenizer([vocab[i] for i in np.random.default_rng(seed).permutation(len(vocab))],
                          rules=rules)
    tokenizer.save(folder)
    again, text = Tokenizer.load(folder), " ".join(["Wörd 中文", *tokens])
    assert again.vocab == tokenizer.vocab and again.rules == rules
    assert again.encode(text) == tokenizer.encode(text) and again.sha256 == tokenizer.sha256


@st.composite
def headers(draw) -> Header:
    """What some dataset says about itself."""
    count, max_len = draw(st.integers(1, 10**6)), draw(st.integers(SHORTEST, LONGEST))
    size, n_tokens = draw(st.integers(5, 10**6)), draw(st.integers(1, count * max_len))
    special = SpecialIds(*draw(st.permutations(range(size)[:5])))
    origin = Origin(draw(st.text()), draw(st.text()), "titles", "documents", draw(st.booleans()),
                    size, "0" * 64, draw(st.booleans()), draw(st.sampled_from([None, True, False])),
                    special, draw(st.sampled_from(["token", "text"])))
    return Header(count, max_len, draw(st.integers(1, max_len - 2)), n_tokens,
                  draw(st.integers(0, n_tokens)), draw(st.integers(0, max_len - 1)),
                  draw(st.integers(0, 2**32 - 1)), draw(st.floats(1e-3, 0.99)),
                  draw(st.sampled_from(SPLITS)), origin, "f" * 64)


@given(headers(), st.sampled_from(fields(Header)), JUNK)
def test_a_header_survives_msgpack_and_what_is_none_is_refused(header, field, junk):
    entries = msgpack.unpackb(msgpack.packb(asdict(header)))
    assert parse_header(entries, "x") == header
    assume(type(junk) is not type(entries[field.name]))  # which may be as good as what is there
    assume((type(junk), field.name) != (int, "mask_rate"))
    short = {name: value for name, value in entries.items() if name != field.name}
    for bad in (junk, short, entries | {field.name: junk}, entries | {"more": junk}):
        with pytest.raises(ValueError):  # an InputError is one, too
            parse_header(bad, "x")


PLAIN = st.recursive(st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text()
                     | st.floats(allow_nan=False),
                     lambda part: st.lists(part) | st.dictionaries(st.text(), part), max_leaves=6)
KINDS = [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool]


@few
@given(st.lists(st.tuples(st.integers(0, 5), st.floats(), st.integers(0, 1)), min_size=1,
                max_size=4), PLAIN, st.lists(st.integers(0, 3), max_size=3),
       st.sampled_from(KINDS), SEEDS)
def test_the_newest_and_the_best_checkpoint_are_as_they_were(tmp_path_factory, saves, plain, shape,
                                                             kind, seed):
    folder, best = tmp_path_factory.mktemp("checkpoints"), None
    generator = torch.Generator().manual_seed(seed)
    for number, (step, loss, chunks) in enumerate(saves):
        kept = Checkpoints(folder)  # opened anew each time, as a run that goes on does
        weights = {"w": (100 * torch.randn(shape, generator=generator)).to(kind)}
        kept.save({"model": weights, "step": step, "plain": plain, "number": number}, step)
        better = best is None or best[1] != chunks or loss < best[0]
        if math.isfinite(loss) and better:
            best = loss, chunks, step, weights
        assert kept.save_best(weights, step, loss, chunks) == (math.isfinite(loss) and better)
    kept = Checkpoints(folder)
    newest = kept.newest()
    assert newest["plain"] == plain and newest["number"] == len(saves) - 1
    torch.testing.assert_close(newest["model"], weights, rtol=0, atol=0)
    if best is not None:
        found = kept.best_state()
        assert found["step"] == best[2]
        torch.testing.assert_close(found["model"], best[3], rtol=0, atol=0)
    assert len(list(folder.glob("step_*"))) == min(2, len({step for step, *_ in saves}))


# -- pages --------------------------------------------------------------------------------------

SILENT = ("[CLS]", "[SEP]", "[PAD]")
WORDS = st.text(max_size=9).filter(lambda word: word not in SILENT) | st.sampled_from(
    ["<b>", "</p>", "<!--", "&lt;", "&#x3c;b", "$x$", "'>\"", "##<i>", "\x00\r\n", "[MASK]"])


@st.composite
def pages(draw) -> Page:
    """A page of any words with holes in any places; of some nobody knows the truth."""
    tokens, holes = draw(st.lists(WORDS, max_size=6)), []
    for place in range(len(tokens)):
        guesses = draw(st.lists(st.builds(Guess, WORDS, SHARES), max_size=3))
        known = tokens[place], draw(st.integers(1, 99)), draw(SHARES)
        if guesses:
            holes.append(Hole(place, tuple(guesses), *(known if draw(st.booleans()) else ())))
    return Page((*tokens, "[SEP]"), tuple(holes))


@few
@given(pages())
def test_a_page_survives_its_file_but_for_later_digits(tmp_path_factory, page):
    path = tmp_path_factory.getbasetemp() / "page.json"
    save_page(page, path)
    assert load_page(path) == Page(page.tokens, tuple(
        replace(hole, guesses=tuple(Guess(word, round(share, 4)) for word, share in hole.guesses),
                probability=hole.probability and round(hole.probability, 6))
        for hole in page.holes))


class Reader(HTMLParser):
    """What a browser makes of HTML: how often each element stands there, and the text."""

    def __init__(self, html: str):
        super().__init__()
        self.elements, self.text = Counter(), ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements[tag] += 1

    def handle_data(self, data):
        self.text += data


@given(pages(), WORDS)
def test_html_says_the_words_and_nothing_in_them_is_markup(page, title):
    bare, told, n = Page(page.tokens, ()), rows(page), len(page.holes)
    assert Reader(page_html(bare, title)).text == title + page_text(bare) + summary(bare)
    whole, inline = Reader(page_html(page, title)), Reader(inline_html(page))
    cells = "".join(map("".join, [headings(page), *told])) if n else ""
    assert whole.text.startswith(title) and whole.text.endswith(summary(page) + cells)
    assert all(f"/{hole.guesses[0].token}/" in inline.text for hole in page.holes)
    del whole.elements["span"], inline.elements["span"]
    head, table = bool(title), dict(table=1, tr=n + 1, th=len(headings(page)),
                                    td=sum(map(len, told))) if n else {}
    assert whole.elements == Counter(p=2 + head, b=n + head, sup=n, **table)
    wrong = sum(hole.right is False for hole in page.holes)
    assert inline.elements == Counter(p=2, b=1, mark=n, s=wrong)
