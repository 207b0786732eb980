"""BERT's published weights: a folder in Hugging Face's layout, read whole or refused by name.

The names are those of transformers, modeling_bert.py. What a file says that this course's model
does not do (another activation, a decoder, layers too many) is refused, never left out.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bertlib.bert import BertConfig, BertForMaskedLM, Encoder
from bertlib.huggingface.weights import Weights, find_weights
from bertlib.plumbing.files import InputError
from bertlib.plumbing.interrupts import held_back
from bertlib.plumbing.records import read_json
from bertlib.plumbing.states import check_shapes, expected_bytes, shapes
from bertlib.tokens import Tokenizer

TIED = "head.decoder.weight"  # where tied, stored once, as the token embeddings
TABLE = "bert.embeddings.word_embeddings.weight"
DECODER = "cls.predictions.decoder.weight"
BIAS, DECODER_BIAS = "cls.predictions.bias", "cls.predictions.decoder.bias"

OUTSIDE = {
    "encoder.embeddings.token": "bert.embeddings.word_embeddings",
    "encoder.embeddings.position": "bert.embeddings.position_embeddings",
    "encoder.embeddings.token_type": "bert.embeddings.token_type_embeddings",
    "encoder.embeddings.norm": "bert.embeddings.LayerNorm",
    "head.transform": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
}
IN_BLOCK = {
    "attention.query": "attention.self.query", "attention.key": "attention.self.key",
    "attention.value": "attention.self.value", "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm", "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense", "ffn_norm": "output.LayerNorm",
}
SIZES = {"vocab_size": "vocab_size", "seq_len": "max_position_embeddings",
         "d_model": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers",
         "d_ff": "intermediate_size", "n_token_type": "type_vocab_size"}
DROPOUT = {"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
READ = {  # what config.json must say: see shape_fields
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute",
    "is_decoder": False, "add_cross_attention": False,
}
UNUSED = re.compile(  # by the prediction of hidden words: lists of numbers, and other heads
    r"(bert\.)?embeddings\.(position|token_type)_ids|bert\.pooler\..*|cls\.(?!predictions\.).*")


def their_name(name: str, tied: bool = True) -> str:
    """Hugging Face's name of one of our parameters; without ties the decoder has its own two."""
    if name == TIED:
        return TABLE if tied else DECODER
    if name == "head.decoder.bias":
        return BIAS if tied else DECODER_BIAS
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, number, inside = stem.split(".", 3)
    return f"bert.encoder.layer.{number}.{IN_BLOCK[inside]}.{kind}"


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder; `InputError` if it is missing or no JSON object."""
    path = Path(folder) / "config.json"
    return read_json(path, dict[str, Any], "pass a model's folder", is_sealed=False)


def outline(config: BertConfig) -> BertForMaskedLM:
    """A model without numbers, which takes no memory: to know the shapes of its tensors."""
    with held_back(), torch.device("meta"):  # Ctrl-C would leave PyTorch in a loop there
        return BertForMaskedLM(config)


def build(config: BertConfig, weights: dict[str, Tensor]) -> BertForMaskedLM:
    """A model with these weights, which fit its `outline`, in evaluation mode."""
    model = BertForMaskedLM(config)
    model.load_state_dict(weights)
    return model.eval()


def shape_fields(folder: Path, read: dict[str, Any], sizes: dict[str, str],
                 dropout: dict[str, str], eps_name: str, eps: float) -> dict[str, Any]:
    """The fields of a `BertConfig` that a published config.json tells.

    read: what it must say, if it says anything; its model_type must be said. sizes, dropout:
    ours -> theirs; a share that is not told is 0.1, as there. `InputError` if it says something
    else, or if a size is missing or no number.
    """
    config, path = read_config(folder), Path(folder) / "config.json"
    for name, wanted in read.items():
        if (value := config.get(name, wanted if name != "model_type" else None)) != wanted:
            raise InputError(f"'{path}' says {name} is {value!r}; only {wanted!r} is read here.")
    shape: dict[str, Any] = {}
    for ours, theirs in sizes.items():
        if theirs not in config:
            raise InputError(f"'{path}' has no {theirs}; get the file again.")
        if type(config[theirs]) is not int:
            raise InputError(f"'{path}' says {theirs} is {config[theirs]!r}; it must be a number.")
        shape[ours] = config[theirs]
    for ours, theirs in dropout.items():
        shape[ours] = share = config.get(theirs, 0.1)
        if type(share) not in (int, float) or not 0 <= share < 1:
            raise InputError(f"'{path}' says {theirs} is {share!r}; it must be from 0 to below 1.")
    eps, tied = config.get(eps_name, eps), config.get("tie_word_embeddings", True)
    if not isinstance(eps, float) or not isinstance(tied, bool):
        raise InputError(f"'{path}' says {eps_name} is {eps!r} and tie_word_embeddings is "
                         f"{tied!r}; they must be a number such as 1e-12, and true or false.")
    return {**shape, "norm_eps": eps, "tied": tied}


def published_shape(folder: Path) -> BertConfig:
    """The shape that a published config.json describes; what we cannot compute is refused."""
    return BertConfig(**shape_fields(folder, READ, SIZES, DROPOUT, "layer_norm_eps", 1e-12))


def old_names(names: Iterable[str]) -> dict[str, str]:
    """Each tensor's name today -> its name in the file: 2018's norms have gamma and beta."""
    return {name.replace(".gamma", ".weight").replace(".beta", ".bias"): name for name in names}


def check_copies(found: dict[str, Tensor], folder: Path) -> None:
    """`InputError` if what is tied, and some versions of the files hold twice, is two things."""
    for copy, name in {DECODER: TABLE, DECODER_BIAS: BIAS}.items():
        if copy in found and name in found and not torch.equal(found[copy], found[name]):
            raise InputError(f"The weights in '{folder}' have a '{copy}' that differs from "
                             f"'{name}', but config.json ties them; if they were trained apart, "
                             "set tie_word_embeddings to false there.")


def read_words(folder: Path, config: BertConfig) -> Tokenizer:
    """The folder's tokenizer; `InputError` unless each row of the embeddings has its word.

    One that is shorter may have lost a line, and then all later words have other ids.
    """
    tokenizer = Tokenizer.load(folder)
    if len(tokenizer) != config.vocab_size:
        raise InputError(f"The vocabulary in '{folder}' has {len(tokenizer):,} tokens, but the "
                         f"embeddings have {config.vocab_size:,}; take the one that was published "
                         "with the weights.")
    return tokenizer


def load_published(folder: Path) -> tuple[BertForMaskedLM, Tokenizer]:
    """BERT as Hugging Face publishes it: a folder with config.json, its words and its weights.

    Raises `InputError` if a file is missing or does not fit the others, if the model is no BERT
    with a masked-word head, or if the weights hold what such a model would not use.
    """
    config = published_shape(folder)
    tokenizer, model = read_words(folder, config), outline(config)
    weights = find_weights(folder, expected_bytes(model))
    there = old_names(weights.shapes)
    # its bias has two names; as in transformers, the decoder's own is the one that counts
    bias = DECODER_BIAS if DECODER_BIAS in there else BIAS
    wanted = {name: bias if name == "head.decoder.bias" else their_name(name, config.tied)
              for name in model.state_dict()}
    _check_names(there, wanted.values(), config, folder)
    copies = {DECODER, BIAS} & there.keys() if config.tied else set()
    found = _read(weights, model, {ours: there[name] for ours, name in wanted.items()}, folder)
    if copies:  # they alone are read once more, beside what is in the model
        said = {TABLE: found["encoder.embeddings.token.weight"], bias: found["head.decoder.bias"]}
        check_copies(said | weights.read(copies), folder)
    return build(config, found), tokenizer


def load_published_encoder(folder: Path) -> tuple[Encoder, Tokenizer]:
    """The encoder alone of such a folder, whatever heads its weights have or lack.

    Errors as in `load_published`.
    """
    config = published_shape(folder)
    tokenizer, whole = read_words(folder, config), outline(config)
    weights = find_weights(folder, expected_bytes(whole))
    there = old_names(weights.shapes)
    start = "" if TABLE not in there else "bert."
    wanted = {name: start + their_name(f"encoder.{name}").removeprefix("bert.")
              for name in whole.encoder.state_dict()}
    parts = (f"{start}embeddings.", f"{start}encoder.")
    _check_names([name for name in there if name.startswith(parts)], wanted.values(), config,
                 folder)
    found = _read(weights, whole.encoder, {ours: there[name] for ours, name in wanted.items()},
                  folder)
    encoder = Encoder(config)
    encoder.load_state_dict(found)
    return encoder.eval(), tokenizer


def _read(weights: Weights, model: nn.Module, places: dict[str, str],
          folder: Path) -> dict[str, Tensor]:
    """The tensors of a model's outline, each from its place, if their shapes fit."""
    check_shapes(shapes(model.state_dict()),
                 {ours: weights.shapes[place] for ours, place in places.items()},
                 f"The model in '{folder}'")
    found = weights.read(places.values())
    return {ours: found[place] for ours, place in places.items()}


def _check_names(there: Iterable[str], wanted: Iterable[str], config: BertConfig,
                 folder: Path) -> None:
    """`InputError` if a tensor is missing, or if one would not be used."""
    there, wanted = set(there), set(wanted)
    for name in sorted(wanted - there):
        alone = name.startswith("cls.") or name.removeprefix("bert.") in there
        remedy = "take a BERT that was saved with its masked-word head" if alone else (
            "get the folder again")
        raise InputError(f"The weights in '{folder}' have no '{name}'; {remedy}.")
    for name in sorted(there - wanted - {BIAS} - ({DECODER} if config.tied else set())):
        if not UNUSED.fullmatch(name):
            raise InputError(f"The weights in '{folder}' have '{name}', for which config.json "
                             f"(num_hidden_layers {config.n_layer}) has no place; take the one "
                             "that was published with them.")
