"""What a model must beat, on texts so small that the right answers are known."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from bertlib import baselines as b
from bertlib.counts import word_counts
from bertlib.data import load_dataset
from bertlib.figures.plots import draw_accuracy, draw_loss
from bertlib.masking import Masked
from bertlib.plumbing import contexts
from bertlib.pretrain import pretrain
from bertlib.settings import Settings

PAD, UNK, CLS, SEP, MASK = SPECIAL = [0, 1, 2, 3, 4]
TEXT = np.array([[CLS, 5, 6, 7, SEP], [CLS, 5, 6, 8, SEP], [CLS, 9, 6, 7, SEP]])
V = 12


def known(text=TEXT, **k) -> b.Neighbours:
    return b.Neighbours(text, V, SPECIAL, **k)


def random_text(seed: int, rows: int = 30) -> np.ndarray:
    """Rows of uneven words, some of them padded, one with [UNK]."""
    draw = np.random.default_rng(seed)
    text = draw.choice(np.arange(5, V), (rows, 9), p=[0.3, 0.3, 0.2, 0.1, 0.06, 0.04, 0.0])
    text[:, 0], text[:, -1], text[0, 3] = CLS, SEP, UNK
    text[1::4, 5], text[1::4, 6:] = SEP, PAD
    return text


def by_hand(text, left, right, k_pair, k_triple) -> np.ndarray:
    """p(word | left, right) [V] from nothing but loops over the text."""
    p, one = np.full(V, 0.5), {"left": np.zeros(V), "right": np.zeros(V)}
    both = np.zeros(V)
    for row in text.tolist():
        for before, word, after in zip(row[:-2], row[1:-1], row[2:], strict=True):
            if word not in SPECIAL:
                p[word] += 1
                one["left"][word] += before == left
                one["right"][word] += after == right
                both[word] += before == left and after == right
    p /= p.sum()
    near = [(c + k_pair * p) / (c.sum() + k_pair) for c in one.values()]
    prior = near[0] * near[1] / p
    return (both + k_triple * prior / prior.sum()) / (both.sum() + k_triple)


def everywhere(size: int = V) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of neighbours, those that no text has and the edge among them."""
    pairs = np.array(list(itertools.product(range(size + 1), repeat=2)))
    return pairs[:, 0], pairs[:, 1]


def test_without_other_words_each_context_is_worth_one_word_of_the_prior():
    assert (known().k_pair, known().k_triple) == (1.0, 1.0)


def test_one_neighbour_is_counted_and_smoothed():
    model = known(k_pair=2.0)
    share = [2.5 / 15, 3.5 / 15, 2.5 / 15, 0.5 / 15]
    assert model.p[[5, 6, 7, 11]].tolist() == pytest.approx(share)
    left, right = np.array([5, 6, 6]), np.array([7, SEP, 6]) + model.size
    assert model.one(left, np.array([6, 7, 5])).tolist() == pytest.approx(
        [(2 + 2 * 3.5 / 15) / 4, (2 + 2 * 2.5 / 15) / 5, (2 * 2.5 / 15) / 5])
    assert model.one(right, np.array([6, 7, 9])).tolist() == pytest.approx(
        [(2 + 2 * 3.5 / 15) / 4, (2 + 2 * 2.5 / 15) / 5, (1 + 2 * 1.5 / 15) / 5])
    assert model.best_one(np.array([5, 6, 9])).tolist() == [6, 7, 6]
    assert model.best_one(np.array([SEP, 6]) + model.size).tolist() == [7, 5]


@pytest.mark.parametrize(("k_pair", "k_triple"), [(0.5, 1.0), (8.0, 0.1), (100.0, 30.0)])
def test_both_neighbours_agree_with_loops_and_sum_to_one(k_pair, k_triple, monkeypatch):
    monkeypatch.setattr(contexts, "AT_ONCE", 50)  # several pieces
    text = random_text(1)
    model = known(text, k_pair=k_pair, k_triple=k_triple)
    left, right = everywhere()
    table = model.both(left.repeat(V), right.repeat(V), np.tile(np.arange(V), len(left)))[0]
    table = table.reshape(-1, V)
    wanted = np.array([by_hand(text, *pair, k_pair, k_triple)
                       for pair in zip(left, right, strict=True)])
    assert np.allclose(table.sum(1), 1) and np.allclose(table, wanted)
    best = model.both(left, right, left % V)[1]
    assert np.allclose(table[np.arange(len(best)), best], table.max(1))
    assert not set(best.tolist()) & set(SPECIAL)


def test_probabilities_of_one_neighbour_sum_to_one_and_the_best_is_the_likeliest():
    model = known(random_text(2), k_pair=3.0)
    contexts = np.arange(2 * model.size)
    words = np.tile(np.arange(V), len(contexts))
    table = model.one(contexts.repeat(V), words).reshape(-1, V)
    assert np.allclose(table.sum(1), 1)
    best = model.best_one(contexts)
    assert np.allclose(table[contexts, best], table.max(1))
    assert not set(best.tolist()) & set(SPECIAL)


def test_a_masked_neighbour_tells_nothing():
    model = known(random_text(3), k_pair=2.0, k_triple=1.0)
    words = np.arange(V)
    six, mask = np.full(V, 6), np.full(V, MASK)
    assert np.allclose(model.one(mask, words), model.p)
    for left, right, p, best in (
            (six, mask, model.one(six, words), model.best_one(six)),
            (mask, six, model.one(six + model.size, words), model.best_one(six + model.size)),
            (mask, mask, model.p, np.full(V, model.p.argmax()))):
        found = model.both(left, right, words)
        assert np.allclose(found[0], p) and found[1].tolist() == best.tolist()
    assert set(model.best_one(mask)) == {model.p.argmax()}


def test_padding_and_special_words_are_not_counted():
    padded = np.pad(TEXT, ((0, 0), (0, 3)), constant_values=PAD)
    one, other = known(), known(padded)
    assert one.pairs.cells.tolist() == other.pairs.cells.tolist()
    assert one.triples.counts.tolist() == other.triples.counts.tolist()
    assert not set((one.pairs.cells % V).tolist()) & set(SPECIAL)


def scores(text: np.ndarray, puzzle: np.ndarray) -> dict[str, float]:
    """The baselines by `text` for each second inner word of `puzzle`, hidden behind [MASK]."""
    ids = torch.from_numpy(puzzle)
    holes = torch.zeros_like(ids, dtype=torch.bool)
    holes[:, 2:-1:3] = True
    positions = holes.flatten().nonzero().flatten()
    masked = Masked(ids.masked_fill(holes, MASK), positions, ids.flatten()[positions])
    return b.baselines([torch.from_numpy(text)], [masked], V, SPECIAL)[0]


def framed(words: np.ndarray) -> np.ndarray:
    return np.pad(words, ((0, 0), (1, 1)), constant_values=((0, 0), (CLS, SEP)))


def test_a_word_that_only_both_sides_decide():
    """l, (l + r) mod 6, r: one neighbour alone knows nothing, so left is the control."""
    draw = np.random.default_rng(0)
    sides = draw.integers(0, 6, (4000, 2))
    text = framed(np.stack([sides[:, 0], sides.sum(1) % 6, sides[:, 1]], 1) + 5)
    found = scores(text[:3000], text[3000:])
    assert found["both_accuracy"] == 1.0 and found["both_loss"] < 0.1
    assert found["left_loss"] == pytest.approx(math.log(6), abs=0.05)
    assert found["left_accuracy"] < 0.3


def test_each_neighbour_helps_where_text_has_order_and_none_where_it_was_shuffled():
    draw = np.random.default_rng(0)
    words = np.empty((800, 11), np.int64)
    words[:, 0] = draw.integers(0, 7, 800)
    for place in range(1, 11):  # mostly the next word, sometimes any
        step = np.where(draw.random(800) < 0.6, 1, draw.integers(0, 7, 800))
        words[:, place] = (words[:, place - 1] + step) % 7
    text = framed(words + 5)
    found = scores(text[:600], text[600:])
    assert found["both_loss"] < found["left_loss"] - 0.2 < found["unigram_loss"] - 0.6
    assert found["both_accuracy"] > found["left_accuracy"] > found["most_frequent_accuracy"]
    shuffled = framed(draw.permutation((words + 5).ravel()).reshape(words.shape))
    lost = scores(shuffled[:600], shuffled[600:])
    assert lost["both_loss"] > lost["unigram_loss"] - 0.01
    assert lost["left_loss"] > lost["unigram_loss"] - 0.01


def test_k_is_large_where_counts_tell_nothing_and_small_where_they_tell_all():
    once = np.ones(3)
    assert b._strength(np.array([0, 0, 1]), once, once / 3) == b.STRENGTHS[-1]
    assert b._strength(5 * once, 5 * once, once / 10) == b.STRENGTHS[0]


def test_k_suits_ten_places_of_the_text_and_not_its_beginning_alone():
    draw = np.random.default_rng(0)
    words = 5 + (np.arange(800)[:, None] + np.arange(9)) % 7  # each word tells the next
    chance = draw.integers(5, V, words.shape)  # none does
    begun = np.concatenate([chance[:8], words[8:]])  # a hundredth of it by chance
    order, mixed, none = (b.Neighbours.fit(framed(text), V, SPECIAL).k_pair
                          for text in (words, begun, chance))
    assert order == b.STRENGTHS[0] and none == b.STRENGTHS[-1]
    assert order < mixed < none


def test_k_of_pairs_is_the_best_for_both_sides_of_what_was_held_out():
    draw = np.random.default_rng(1)
    words = draw.integers(0, 7, (200, 9))
    for place in range(1, 9, 2):  # every second word is told by the one on its left
        follows = np.minimum(words[:, place - 1], 1)
        words[:, place] = np.where(draw.random(200) < 0.8, follows, words[:, place])
    text, held = framed(words + 5), np.arange(200) // 2 % 10 == 0
    targets, near = contexts.ordinary(text[held], V, SPECIAL, (-1, 1))
    left, right = near.T

    def loss(k: float, *sides: int) -> float:
        trial = known(text[~held], k_pair=k)
        pairs = trial.one(left, targets), trial.one(right + trial.size, targets)
        return -np.log(np.concatenate([pairs[side] for side in sides])).mean()

    best, best_of_left = (min(b.STRENGTHS, key=lambda k: loss(k, *sides))
                          for sides in ((0, 1), (0,)))
    assert best != best_of_left  # else one side alone would not be noticed
    assert b.Neighbours.fit(text, V, SPECIAL).k_pair == best


def test_six_places_vote_as_loops_over_the_text_count():
    text = random_text(4)
    model = b.Surroundings(text, V, SPECIAL)
    model.weights = torch.tensor([0.7, 0.1, 0.2, 0.9, 0.8, 0.3, 0.4])
    near = np.array([[5, 6, 7, 5, 6, 8], [V, V, CLS, 6, 5, MASK], [MASK] * 6])
    counts = np.zeros((3, 6, V))
    for row in text.tolist():
        for at, word in enumerate(row):
            if word not in SPECIAL:
                places = [at + place for place in contexts.PLACES]
                seen = [row[i] if 0 <= i < len(row) else V for i in places]
                counts[:, range(6), word] += near == seen
    p = np.full(V, 0.5) + np.isin(text, SPECIAL, invert=True).ravel() @ np.eye(V)[text.ravel()]
    p /= p.sum()
    rows = 0.7 * np.log(p) + np.einsum("o,nov->nv", model.weights[1:].numpy(),
                                       np.log1p(counts / (b.DOUBT * p)))
    wanted = rows - np.log(np.exp(rows).sum(1, keepdims=True))
    found = [model.answers(near[[n] * V], np.arange(V)) for n in range(3)]
    assert np.allclose([log_p for log_p, _ in found], wanted, atol=1e-5)
    assert [best[0] for _, best in found] == wanted.argmax(1).tolist()
    assert counts[0].any(1).all() and counts[1, :5].any(1).all() and not counts[2].any()


def test_words_that_are_told_two_places_away():
    draw = np.random.default_rng(0)
    words = draw.integers(0, 7, (2_000, 10))
    for place in range(2, 10):
        told = 6 - words[:, place - 2]
        words[:, place] = np.where(draw.random(2_000) < 0.9, told, words[:, place])
    text = framed(words + 5)
    found = scores(text[:1_500], text[1_500:])
    assert found["six_accuracy"] > 0.85 > 0.4 > found["both_accuracy"]
    assert found["six_loss"] < found["both_loss"] - 1


def test_weights_are_fitted_on_text_that_was_not_counted():
    """By chance alone, counted text would seem to tell its own words."""
    words = np.random.default_rng(0).integers(5, V, (400, 9))
    model = b.Surroundings.fit(framed(words), V, SPECIAL)
    near = contexts.around(framed(words), V)
    keep = ~np.isin(framed(words).ravel(), SPECIAL)
    own = model.score(near[keep], framed(words).ravel()[keep])
    assert own["six_loss"] > math.log(V - len(SPECIAL)) - 0.02


def test_real_puzzles_of_a_small_corpus(train_path, tokenizer, masker):
    train = load_dataset(train_path, tokenizer)
    val = load_dataset(train_path.with_name("val_toy_32_123.msgpack.gz"), tokenizer)
    special = val.header.special
    puzzle = val.frozen(slice(None), masker)
    found, = b.baselines(train.slices(100), [puzzle], len(tokenizer), special)
    counts = word_counts(train.slices(), len(tokenizer))
    counts[special] = 0
    assert found["uniform_loss"] == math.log(len(tokenizer))
    shares = (counts + 0.5) / (counts + 0.5).sum()  # no better than a distribution can be
    assert found["unigram_loss"] == pytest.approx(float(-shares.log()[puzzle.labels].mean()), 1e-5)
    assert found["most_frequent_id"] == int(counts.argmax())
    assert max(found["six_loss"], found["both_loss"],
               found["left_loss"]) < found["unigram_loss"] - 1
    assert found["both_accuracy"] > found["left_accuracy"] > found["most_frequent_accuracy"]
    few, = b.baselines(train.slices(), [puzzle], len(tokenizer), special, neighbours=False)
    assert few.items() <= found.items() and len(found) == len(few) + 6
    assert all(isinstance(value, int | float) for value in found.values())


def test_of_a_large_text_neighbours_are_counted_in_each_so_manieth_chunk(monkeypatch):
    text, puzzle = random_text(1, rows=40), random_text(2)
    monkeypatch.setattr(b, "MOST_COUNTED", text.size // 2)
    assert scores(text, puzzle)["six_loss"] == scores(text[::2], puzzle)["six_loss"]
    monkeypatch.setattr(b, "MOST_COUNTED", text.size)
    assert scores(text, puzzle)["six_loss"] != scores(text[::2], puzzle)["six_loss"]


def test_a_corpus_of_one_chunk_is_enough():
    found = scores(framed(np.array([[5, 6, 7, 8, 5, 6]])), framed(np.array([[5, 6, 7, 8, 9, 6]])))
    assert all(math.isfinite(value) for value in found.values())


def test_a_report_tells_all_baselines_and_the_plot_draws_them(own):
    folder = pretrain(Settings.make("smoke", max_iters=2, batch_size=8), own, "toy")
    report = json.loads((folder / "report.json").read_text())
    assert max(report["six_loss"], report["both_loss"],
               report["left_loss"]) < report["unigram_loss"]
    records = [{"tokens": 0, "loss": 9.0, "accuracy": 0.0},
               {"tokens": 9e6, "loss": 3.0, "accuracy": 0.4}]
    for draw, old, new in ((draw_loss, 2, 5), (draw_accuracy, 1, 4)):
        few = {k: v for k, v in report["on_the_way"].items()
               if k[:4] not in ("left", "both", "six_")}
        few = {"on_the_way": few, "source": "toy"}
        for facts, lines in ((report, new), (few, old)):
            axes = Figure(figsize=(7, 3.2)).subplots()
            draw(axes, records, facts)
            heights = sorted(note.xy[1] for note in axes.texts)
            low, high = axes.get_ylim()
            assert len(heights) == lines
            assert all(b - a > 0.05 * (high - low) for a, b in itertools.pairwise(heights))
