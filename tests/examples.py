"""How hypothesis makes up examples for the properties, and what they share.

The examples depend on the code alone: they are the same in each run, alone or among all tests.
"""

import importlib
import math
import pkgutil
from dataclasses import fields

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import bertlib
from bertlib.bert import MOST_DISTANCES, BertConfig
from bertlib.plumbing.vocab import SPECIAL_TOKENS
from bertlib.settings import CHOICES, LIMITS, Settings
from bertlib.tokens import Tokenizer

for module in pkgutil.walk_packages(bertlib.__path__, "bertlib."):
    importlib.import_module(module.name)  # hypothesis tries the constants of what is imported

settings.register_profile(
    "bertlib", derandomize=True, database=None, deadline=None, max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],  # it would fail on a busy machine
)
settings.load_profile("bertlib")
few, many = settings(max_examples=12), settings(max_examples=300)  # what is slow, what is quick

# Words, special tokens in the middle, pieces of words: no id is what it is in most vocabularies.
SMALL = Tokenizer([*(f"w{n}" for n in range(60)), *SPECIAL_TOKENS, *(f"##p{n}" for n in range(60))])
SPECIAL, ORDINARY = SMALL.special, [*range(60), *range(65, 125)]

SHARES = st.floats(0, 1)
SEEDS = st.integers(0, 2**32 - 1)
JUNK = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary(),
    st.lists(st.integers()), st.dictionaries(st.text(), st.integers()),
    st.sampled_from([10**400, -(10**5000), [10**5000], "1", 1j]),
)

MAX_LEN = st.integers(16, 40) | st.integers(16, 2048)
LENGTHS = st.tuples(st.integers(0, 70) | st.integers(0, 3000), st.booleans())


@st.composite
def calls(draw) -> list[list[tuple[list[int], bool]]]:
    """A stream of texts in several calls: words, pieces and [UNK]; whether a document ends."""
    generator, known = np.random.default_rng(draw(SEEDS)), [*ORDINARY, SPECIAL.unk]
    lengths = draw(st.lists(st.lists(LENGTHS, max_size=5), min_size=1, max_size=5))
    return [[(generator.choice(known, n).tolist(), ends) for n, ends in call] for call in lengths]


def values(field) -> st.SearchStrategy:
    """What a setting may be, whatever the others are."""
    if field.name not in LIMITS:
        return st.booleans() if field.type is bool else st.sampled_from(tuple(CHOICES[field.name]))
    low, high, *opens = LIMITS[field.name]
    if field.type is int:
        return st.integers(low + opens[0], high - opens[1])
    return st.floats(low, high, exclude_min=opens[0], exclude_max=opens[1])


@st.composite
def accepted(draw) -> dict:
    """Settings of all names that fit together."""
    told = draw(st.fixed_dictionaries({field.name: values(field) for field in fields(Settings)}))
    heads, first, times = draw(st.tuples(*[st.integers(1, 256)] * 3))
    longest = math.isqrt(MOST_DISTANCES // (4 * heads))
    return told | dict(
        seq_len=min(told["seq_len"], longest), heads=4 * heads,
        d_model=4 * heads * draw(st.integers(1, 16)), batch_size=first * times,
        first_batch_size=draw(st.sampled_from([0, first])),
        min_learning_rate=told["learning_rate"] * draw(SHARES),
    )


@st.composite
def shapes(draw) -> BertConfig:
    """A small model of any kind."""
    heads = draw(st.sampled_from([1, 2, 4]))
    pattern = ((2.0, 1), (0.25, 0), (1.0, -1), (0.0, 0))[: draw(st.sampled_from([1, heads]))]
    return draw(st.builds(
        BertConfig, vocab_size=st.just(len(SMALL)), seq_len=st.just(24), n_head=st.just(heads),
        d_model=st.integers(2, 6).map(heads.__mul__), n_layer=st.integers(1, 2),
        d_ff=st.sampled_from([0, 5]), norm=st.sampled_from(["post", "pre"]),
        position=st.sampled_from(["learned", "sinusoidal", "distance"]),
        distance_heads=st.just(pattern), n_token_type=st.sampled_from([0, 2]),
        activation=st.sampled_from(["gelu", "gelu_new", "relu2"]), tied=st.booleans(),
        head_transform=st.booleans(), bias=st.booleans(), qk_norm=st.booleans(),
        causal=st.booleans(), embedding_norm=st.booleans(),
    ))
