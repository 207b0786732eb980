"""How a text is dealt out: whole documents, a tenth of it held out twice, always alike."""


import pytest
from conftest import document

from bertlib.corpus import Corpus, _is_fair, deal
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.plumbing.texts import read_documents

INPUT = PROJECT / "wiki" / "input"


def write(path, *documents):
    path.write_text("".join(documents), encoding="utf-8")
    return path


def shares(corpus) -> list[float]:
    sizes = [0, 0, 0]
    for split, unit in corpus:
        sizes[split] += sum(map(len, unit))
    return [size / corpus.characters for size in sizes]


def test_no_document_of_the_embedded_corpus_stands_in_two_splits():
    splits: dict[str, set[int]] = {}
    for (split, unit), whole in zip(Corpus(INPUT), read_documents(INPUT), strict=True):
        assert unit == whole
        splits.setdefault(unit[0], set()).add(split)
    assert len(splits) > 10_000  # titles; some stand over two versions of an article
    assert not [title for title, found in splits.items() if len(found) > 1]


def test_validation_and_test_get_a_tenth_of_the_text_each():
    corpus = Corpus(INPUT)
    assert corpus.unit == "documents"
    assert shares(corpus)[1:] == pytest.approx([0.1, 0.1], abs=0.002)


def test_what_is_too_large_goes_to_training_whole():
    held = {unit[0] for split, unit in Corpus(INPUT) if split}
    assert not held & {"= Emma =", "= World Factbook 2015 ="}


def test_a_document_of_another_length_does_not_reach_the_held_out_ones(tmp_path):
    """The split of WikiText's layout: sizes differ a thousandfold, all stay whole."""
    parts = [document(n, paragraphs=1 + (n * 7919) % 97) for n in range(100, 400)]
    corpus = Corpus(write(tmp_path / "wiki.train.tokens", *parts))
    seen: dict[str, set[int]] = {}
    for split, unit in corpus:
        seen.setdefault(unit[0], set()).add(split)
    assert len(seen) == 300 and all(len(splits) == 1 for splits in seen.values())
    assert shares(corpus)[1:] == pytest.approx([0.1, 0.1], abs=0.01)


@pytest.mark.parametrize("sizes", [
    [100] * 10, [1] + [100] * 9, [100] * 11, [7] * 1000, list(range(1, 60)),
    [1000] * 5 + [10] * 500, [5, 300, 2, 8, 40, 60, 1, 1, 1, 1, 80, 90],
])
def test_both_get_about_a_tenth_whatever_the_sizes(sizes):
    splits = deal(sizes)
    for held in (1, 2):
        share = sum(z for z, s in zip(sizes, splits, strict=True) if s == held) / sum(sizes)
        assert abs(share - 0.1) <= max(0.025, min(sizes) / sum(sizes) / 2 + 1e-9)


def test_large_documents_are_held_out_only_where_the_small_ones_do_not_do():
    small, large = [10] * 12, [40] * 22  # of 1,000: a small one is a hundredth
    splits = deal(small + large)
    assert sorted(splits[:12]) == [1] * 6 + [2] * 6 and not any(splits[12:])
    assert any(deal([10] * 4 + [40] * 24)[4:])  # the small ones are less than half of a tenth


def test_the_borders_of_the_rules_of_dealing_out_belong_to_them(tmp_path):
    assert sorted(deal([20] * 5)) == [0, 0, 0, 1, 2]  # as far above a tenth as none is below it
    half = deal([10] * 10 + [40] * 22 + [20])  # the small ones are just half of a tenth, twice
    assert any(half[10:])
    for sizes, is_fair in (([50, 50] + [100] * 9, True), ([49, 50] + [100] * 9, False),
                           ([50, 49] + [100] * 9, False), ([50, 50] + [150] * 6, False)):
        splits = bytes([1, 2] + [0] * (len(sizes) - 2))
        assert _is_fair(sizes, splits) is is_fair, sizes
    for number, unit in ((10, "documents"), (9, "passages")):
        parts = [f" = D{n} = \nthe sea .\n" for n in range(number)]
        assert Corpus(write(tmp_path / f"{number}.txt", *parts)).unit == unit


def test_the_split_is_the_one_that_every_machine_makes():
    splits = deal([10] * 30)
    assert [n for n, split in enumerate(splits) if split == 1] == [5, 13, 17]
    assert [n for n, split in enumerate(splits) if split == 2] == [0, 1, 24]


@pytest.mark.parametrize("paragraph", ["the king went home . " * 20 + "\n", "the king went . "])
def test_a_novel_is_dealt_out_in_passages_and_says_so(tmp_path, paragraph):
    corpus = Corpus(write(tmp_path / "novel.txt", *[paragraph] * 500))
    assert corpus.unit == "passages" and 10 <= len(corpus.splits) <= 41
    assert shares(corpus)[1:] == pytest.approx([0.1, 0.1], abs=0.03)
    text = " ".join(" ".join(unit) for _, unit in corpus).split()
    assert text == (paragraph * 500).split()  # contiguous, nothing lost


def test_a_giant_among_dwarfs_is_cut_in_passages(tmp_path):
    dwarfs = [f" = D{n} = \nshort .\n" for n in range(12)]
    corpus = Corpus(write(tmp_path / "x.txt", *dwarfs, " = Giant = \n", "the sea .\n" * 5000))
    assert corpus.unit == "passages" and min(shares(corpus)) > 0.05


def test_versions_of_one_title_are_dealt_out_as_one_document(tmp_path):
    names = [n // 2 % 12 for n in range(30)]
    parts = [f" = D{name} = \n{'x' * (50 + name)}\n" for name in names]
    corpus = Corpus(write(tmp_path / "x.txt", *parts), unit="documents")
    order = list(dict.fromkeys(names))
    splits = deal([names.count(name) * (len(f"= D{name} =") + 50 + name) for name in order])
    assert set(splits) == {0, 1, 2}
    assert list(corpus.splits) == [splits[order.index(name)] for name in names]


def test_marks_of_wikitext_are_joined_where_they_are_found(tmp_path):
    line = " The role @-@ playing <unk> sold 1 @,@ 000 copies for 2 @.@ 5 yen .\n"
    corpus = Corpus(write(tmp_path / "w.txt", *[f" = A{n} = \n{line}" for n in range(20)]))
    assert corpus.wikitext
    _, unit = next(iter(corpus))
    assert unit[1] == "The role-playing <unk> sold 1,000 copies for 2.5 yen ."
    plain = Corpus(write(tmp_path / "p.txt", "a@-@b and x@,@y\n" * 50))
    assert not plain.wikitext and next(iter(plain))[1][0] == "a@-@b and x@,@y"


def test_an_unknown_unit_is_refused(tmp_path):
    with pytest.raises(InputError, match="documents, passages"):
        Corpus(write(tmp_path / "x.txt", "text\n"), unit="words")
