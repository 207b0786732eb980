"""BERT's published weights: a folder in Hugging Face's layout, read whole or refused by name.

The names are those of transformers, modeling_bert.py. What a file says that this course's model
does not do (another activation, a decoder, layers too many) is refused, never left out.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import load_weights
from bertlib.files import InputError, sha256
from bertlib.tokens import Tokenizer

MOST_BYTES = 4 << 30  # of a weights file
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
READ = {  # what config.json must say, if it says anything; its kind must be said
    "model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute",
    "is_decoder": False, "add_cross_attention": False,
}
UNUSED = re.compile(  # by the prediction of hidden words
    r"bert\.embeddings\.(position|token_type)_ids|bert\.pooler\..*|cls\.seq_relationship\..*")


def their_name(name: str, tied: bool = True) -> str:
    """Hugging Face's name of one of our parameters."""
    if name == TIED:
        return TABLE if tied else DECODER
    if name == "head.decoder.bias":
        return BIAS
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, number, inside = stem.split(".", 3)
    return f"bert.encoder.layer.{number}.{IN_BLOCK[inside]}.{kind}"


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model's folder; `InputError` if there is none."""
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"Cannot read '{path}' as JSON; pass a model's folder.") from None
    if not isinstance(values, dict):
        raise InputError(f"'{path}' holds no JSON object; pass a model's folder.")
    return values


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder; `InputError` if it is missing or no JSON object."""
    return read_object(Path(folder) / "config.json")


def read_weights(folder: Path, digest: str | None = None) -> dict[str, Tensor]:
    """The tensors of `folder`/model.safetensors as float32, checked against their SHA-256."""
    path = Path(folder) / "model.safetensors"
    try:
        if path.stat().st_size > MOST_BYTES:
            raise InputError(f"'{path}' is larger than {MOST_BYTES >> 30} GB; it is no BERT.")
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read the weights '{path}' ({error.strerror}).") from None
    if digest is not None and sha256(content) != digest:
        raise InputError(f"The weights '{path}' are damaged: their SHA-256 differs from "
                         "config.json; get the folder again.")
    try:
        return {name: tensor.float() for name, tensor in load(content).items()}
    except Exception as error:  # safetensors raises its own kinds
        name = type(error).__name__
        raise InputError(f"'{path}' is no safetensors file that can be read ({name}).") from None


def published_shape(folder: Path) -> BertConfig:
    """The shape that a published config.json describes; what we cannot compute is refused."""
    config, path = read_config(folder), Path(folder) / "config.json"
    for name, wanted in READ.items():
        if (value := config.get(name, wanted if name != "model_type" else None)) != wanted:
            raise InputError(f"'{path}' says {name} is {value!r}; this course reads {wanted!r} "
                             "only.")
    shape = {}
    for ours, theirs in SIZES.items():
        if theirs not in config:
            raise InputError(f"'{path}' has no {theirs}; get the file again.")
        if type(config[theirs]) is not int:
            raise InputError(f"'{path}' says {theirs} is {config[theirs]!r}; it must be a number.")
        shape[ours] = config[theirs]
    eps, tied = config.get("layer_norm_eps", 1e-12), config.get("tie_word_embeddings", True)
    if not isinstance(eps, float) or not isinstance(tied, bool):
        raise InputError(f"'{path}' says layer_norm_eps is {eps!r} and tie_word_embeddings is "
                         f"{tied!r}; they must be a number such as 1e-12, and true or false.")
    return BertConfig(**shape, norm_eps=eps, tied=tied)


def one_decoder(found: dict[str, Tensor], tied: bool, folder: Path) -> dict[str, Tensor]:
    """`found` with the decoder once: without the copies that some versions of the files hold.

    The bias has two names. As in transformers, the decoder's is the one that counts.
    """
    found = dict(found)
    copies = {DECODER: TABLE, DECODER_BIAS: BIAS} if tied else {}
    for copy, name in copies.items():
        if copy in found and name in found and not torch.equal(found[copy], found[name]):
            raise InputError(f"The weights in '{folder}' have a '{copy}' that differs from "
                             f"'{name}', but config.json ties them; if they were trained apart, "
                             "set tie_word_embeddings to false there.")
    if tied:
        found.pop(DECODER, None)
    if DECODER_BIAS in found:
        found[BIAS] = found.pop(DECODER_BIAS)
    return found


def load_published(folder: Path) -> tuple[BertForMaskedLM, Tokenizer]:
    """BERT as Hugging Face publishes it: a folder with config.json, vocab.txt, model.safetensors.

    Raises `InputError` if a file is missing or does not fit the others, if the model is no BERT
    with a masked-word head, or if the weights hold what such a model would not use.
    """
    config, tokenizer = published_shape(folder), Tokenizer.load(folder)
    if len(tokenizer) != config.vocab_size:
        raise InputError(f"The vocabulary in '{folder}' has {len(tokenizer):,} tokens, but the "
                         f"embeddings have {config.vocab_size:,}; take the vocab.txt that was "
                         "published with the weights.")
    model = BertForMaskedLM(config)
    found = {name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor  # 2018's names
             for name, tensor in read_weights(folder).items()}
    found = one_decoder(found, config.tied, folder)
    wanted = {name: their_name(name, config.tied) for name in model.state_dict()}
    for name in wanted.values():
        if name not in found:
            raise InputError(f"The weights in '{folder}' have no '{name}'; take a BERT that was "
                             "saved with its masked-word head.")
    for name in sorted(found.keys() - set(wanted.values())):
        if not UNUSED.fullmatch(name):
            raise InputError(f"The weights in '{folder}' have '{name}', for which config.json "
                             f"(num_hidden_layers {config.n_layer}) has no place; take the one "
                             "that was published with them.")
    weights = {name: found[theirs] for name, theirs in wanted.items()}
    load_weights(model, weights, f"The model in '{folder}'")
    return model.eval(), tokenizer
