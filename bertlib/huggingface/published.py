"""BERT's published weights: a folder in Hugging Face's layout, read whole or refused by name.

The names are those of transformers, modeling_bert.py. What a file says that this course's model
does not do (another activation, a decoder, layers too many) is refused, never left out.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.plumbing.files import InputError, open_regular
from bertlib.plumbing.interrupts import held_back
from bertlib.plumbing.records import read_json
from bertlib.plumbing.states import check_shapes, shapes
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


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder; `InputError` if it is missing or no JSON object."""
    path = Path(folder) / "config.json"
    return read_json(path, dict[str, Any], "pass a model's folder", is_sealed=False)


class Weights:
    """A model.safetensors: the shapes of its tensors are known before any of them is read.

    Raises `InputError` if it cannot be read, is larger than a BERT, or if `digest`, its SHA-256,
    is another.
    """

    def __init__(self, folder: Path, digest: str | None = None):
        self.path = Path(folder) / "model.safetensors"
        try:
            with open_regular(self.path, MOST_BYTES) as stream:
                found = None
                if digest is not None:
                    found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise InputError(f"Cannot read the weights '{self.path}' ({error.strerror}).") from None
        if found != digest:
            raise InputError(f"The weights '{self.path}' are damaged: their SHA-256 differs from "
                             "config.json; get the folder again.")
        with self._file() as file:
            self.shapes = {name: torch.Size(file.get_slice(name).get_shape())
                           for name in file.keys()}  # noqa: SIM118 (it is no dictionary)

    def read(self, names: Iterable[str]) -> dict[str, Tensor]:
        """Some of the tensors, as float32."""
        with self._file() as file:
            return {name: file.get_tensor(name).float() for name in names}

    @contextmanager
    def _file(self) -> Iterator[Any]:
        try:
            with safe_open(self.path, "pt") as file:
                yield file
        except Exception as error:  # safetensors raises its own kinds
            name = type(error).__name__
            raise InputError(f"'{self.path}' is no safetensors file that can be read "
                             f"({name}).") from None


def outline(config: BertConfig) -> BertForMaskedLM:
    """A model without numbers, which takes no memory: to know the shapes of its tensors."""
    with held_back(), torch.device("meta"):  # Ctrl-C would leave PyTorch in a loop there
        return BertForMaskedLM(config)


def build(config: BertConfig, weights: dict[str, Tensor]) -> BertForMaskedLM:
    """A model with these weights, which fit its `outline`, in evaluation mode."""
    model = BertForMaskedLM(config)
    model.load_state_dict(weights)
    return model.eval()


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
    weights = Weights(folder)
    there = old_names(weights.shapes)
    # its bias has two names; as in transformers, the decoder's own is the one that counts
    bias = DECODER_BIAS if DECODER_BIAS in there else BIAS
    own = shapes(outline(config).state_dict())
    wanted = {name: bias if name == "head.decoder.bias" else their_name(name, config.tied)
              for name in own}
    _check_names(there, wanted.values(), config, folder)
    places = {ours: there[theirs] for ours, theirs in wanted.items()}
    check_shapes(own, {ours: weights.shapes[place] for ours, place in places.items()},
                 f"The model in '{folder}'")
    copies = {DECODER, BIAS} & there.keys() if config.tied else set()
    found = weights.read({*places.values(), *copies})
    if config.tied:
        check_copies(found, folder)
    return build(config, {ours: found[place] for ours, place in places.items()}), tokenizer


def _check_names(there: Iterable[str], wanted: Iterable[str], config: BertConfig,
                 folder: Path) -> None:
    """`InputError` if a tensor is missing, or if one would not be used."""
    there, wanted = set(there), set(wanted)
    for name in sorted(wanted - there):
        raise InputError(f"The weights in '{folder}' have no '{name}'; take a BERT that was "
                         "saved with its masked-word head.")
    for name in sorted(there - wanted - {BIAS} - ({DECODER} if config.tied else set())):
        if not UNUSED.fullmatch(name):
            raise InputError(f"The weights in '{folder}' have '{name}', for which config.json "
                             f"(num_hidden_layers {config.n_layer}) has no place; take the one "
                             "that was published with them.")
