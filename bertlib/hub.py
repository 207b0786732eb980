"""Models that travel: a trained one in a folder of its own, and BERT's published weights.

    python -m bertlib.hub wiki/runs/run0 assets/model

Weights are stored by `safetensors` (no code inside), hashed, and checked when they are read.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import load_weights
from bertlib.files import PROJECT, InputError, atomic_write, run_command, sha256, write_json
from bertlib.pretrain import load_model
from bertlib.tokens import Tokenizer, save_vocab

MODEL = PROJECT / "assets" / "model"  # the trained model that comes with the course
MOST_BYTES = 4 << 30  # of a weights file
TIED = "head.decoder.weight"  # stored once, as the token embeddings

# Hugging Face's names of our parameters (transformers, modeling_bert.py)
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
         "d_ff": "intermediate_size", "n_token_type": "type_vocab_size",
         "norm_eps": "layer_norm_eps"}


def their_name(name: str) -> str:
    """Hugging Face's name of one of our parameters."""
    if name == TIED:
        return "bert.embeddings.word_embeddings.weight"
    if name == "head.decoder.bias":
        return "cls.predictions.bias"
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, number, inside = stem.split(".", 3)
    return f"bert.encoder.layer.{number}.{IN_BLOCK[inside]}.{kind}"


def save_shipped(model: BertForMaskedLM, tokenizer: Tokenizer, folder: Path,
                 facts: dict[str, Any]) -> None:
    """Write weights (bfloat16), vocabulary and config.json, which carries `facts` of the run."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.bfloat16().contiguous() for name, tensor in model.state_dict().items()
             if not (model.config.tied and name == TIED)}
    content = save(state)
    with atomic_write(folder / "model.safetensors") as stream:
        stream.write(content)
    save_vocab(tokenizer.vocab, folder / "vocab.txt")
    write_json(folder / "config.json", {
        "model": asdict(model.config), "run": facts, "sha256": sha256(content),
        "vocab_sha256": tokenizer.sha256,
    })


def read_config(folder: Path) -> dict[str, Any]:
    """The config.json of a model folder; `InputError` if it is missing or no JSON object."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"Cannot read '{path}' as JSON; pass a model's folder.") from None
    if not isinstance(config, dict):
        raise InputError(f"'{path}' holds no JSON object; pass a model's folder.")
    return config


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


def load_shipped(folder: Path = MODEL) -> tuple[BertForMaskedLM, Tokenizer]:
    """A model that `save_shipped` wrote, in evaluation mode, with its tokenizer.

    Raises `InputError` if a file is missing, damaged or does not fit the others.
    """
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    if config.get("vocab_sha256") != tokenizer.sha256:
        raise InputError(f"The vocabulary in '{folder}' is not the model's; get the folder again.")
    try:
        shape = dict(config["model"])
        shape["distance_heads"] = tuple(map(tuple, shape.get("distance_heads", ())))
        model = BertForMaskedLM(BertConfig(**shape))
    except (KeyError, TypeError) as error:
        path = Path(folder) / "config.json"
        raise InputError(f"'{path}' describes no model of bertlib: {error}.") from None
    weights = read_weights(folder, config.get("sha256", ""))
    if model.config.tied:
        weights[TIED] = weights.get("encoder.embeddings.token.weight", torch.empty(0))
    load_weights(model, weights, f"The model in '{folder}'")
    return model.eval(), tokenizer


def load_published(folder: Path) -> tuple[BertForMaskedLM, Tokenizer]:
    """BERT as Hugging Face publishes it: a folder with config.json, vocab.txt, model.safetensors.

    Raises `InputError` if a file is missing or the model is no BERT with a masked-word head.
    """
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
        raise InputError(f"'{folder}' holds '{config.get('model_type')}' with activation "
                         f"'{config.get('hidden_act')}'; this course reads 'bert' with 'gelu'.")
    missing = [theirs for theirs in SIZES.values() if theirs not in config]
    if missing:
        raise InputError(f"'{folder}/config.json' has no {missing[0]}; get the file again.")
    model = BertForMaskedLM(BertConfig(**{our: config[theirs] for our, theirs in SIZES.items()}))
    found = {name.replace(".gamma", ".weight").replace(".beta", ".bias"): tensor  # 2018's names
             for name, tensor in read_weights(folder).items()}
    wanted = {name: their_name(name) for name in model.state_dict()}
    for name in wanted.values():
        if name not in found:
            raise InputError(f"The weights in '{folder}' have no '{name}'; take a BERT that was "
                             "saved with its masked-word head.")
    weights = {name: found[theirs] for name, theirs in wanted.items()}
    load_weights(model, weights, f"The model in '{folder}'")
    return model.eval(), tokenizer


def main(arguments: list[str] | None = None) -> None:
    """Turn a run's newest checkpoint into a folder that travels."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        raise InputError("Pass two folders: a run and where to write, such as wiki/runs/run0 "
                         "assets/model.")
    run, folder = map(Path, given)
    tokenizer = Tokenizer.load(run.parents[1] / "vocab")
    try:
        facts = json.loads((run / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"There is no report.json in '{run}'; let the run finish first.") from None
    save_shipped(load_model(run, len(tokenizer)), tokenizer, folder, facts)


if __name__ == "__main__":
    sys.exit(run_command(main))
