"""GPT-2's published weights, as transformers saves them, in this course's model.

The names are those of transformers, modeling_gpt2.py. Source: Radford et al. 2019, section 2.3.
"""

import re
from pathlib import Path

import torch

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.huggingface.published import TIED, build, outline, read_config, shape_fields
from bertlib.huggingface.weights import find_weights
from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.states import check_shapes, expected_bytes, shapes

READ = {"model_type": "gpt2", "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
        "reorder_and_upcast_attn": False, "add_cross_attention": False}
SIZES = {"vocab_size": "vocab_size", "seq_len": "n_positions", "d_model": "n_embd",
         "n_head": "n_head", "n_layer": "n_layer"}
DROPOUT = {"dropout": "resid_pdrop", "attention_dropout": "attn_pdrop"}
ACTIVATIONS = {"gelu_new": "gelu_new", "gelu_pytorch_tanh": "gelu_new", "gelu": "gelu"}
TABLE, HEAD = "encoder.embeddings.token.weight", "lm_head.weight"
OUTSIDE = {"wte.weight": TABLE, "wpe.weight": "encoder.embeddings.position.weight",
           "ln_f.weight": "encoder.final_norm.weight", "ln_f.bias": "encoder.final_norm.bias"}
IN_BLOCK = {  # their layer -> ours, which lie in it side by side
    "ln_1": ["attention_norm"], "ln_2": ["ffn_norm"], "attn.c_proj": ["attention.output"],
    "attn.c_attn": ["attention.query", "attention.key", "attention.value"],
    "mlp.c_fc": ["feed_forward.up"], "mlp.c_proj": ["feed_forward.down"],
}
UNUSED = re.compile(r"(transformer\.)?h\.\d+\.attn\.(masked_)?bias")  # masks, in old files


def gpt2_shape(folder: Path) -> BertConfig:
    """The shape that GPT-2's config.json describes; what we cannot compute is refused."""
    shape = shape_fields(folder, READ, SIZES, DROPOUT, "layer_norm_epsilon", 1e-5)
    config, path = read_config(folder), Path(folder) / "config.json"
    width, bend = config.get("n_inner"), config.get("activation_function", "gelu_new")
    if width is not None and type(width) is not int:
        raise InputError(f"'{path}' says n_inner is {short(width)}; it must be a number or null.")
    if not isinstance(bend, str) or bend not in ACTIVATIONS:
        raise InputError(f"'{path}' says activation_function is {short(bend)}; only "
                         f"{', '.join(ACTIVATIONS)} are read here.")
    return BertConfig.preset("gpt", **shape, d_ff=width or 0, activation=ACTIVATIONS[bend])


def their_places(config: BertConfig) -> dict[str, list[str]]:
    """GPT-2's name of each tensor -> what lies in it, by our names."""
    places = {theirs: [ours] for theirs, ours in OUTSIDE.items()}
    for number in range(config.n_layer):
        for theirs, ours in IN_BLOCK.items():
            for kind in ("weight", "bias"):
                places[f"h.{number}.{theirs}.{kind}"] = [
                    f"encoder.blocks.{number}.{name}.{kind}" for name in ours]
    return places if config.tied else places | {HEAD: [TIED]}


def load_gpt2(folder: Path) -> BertForMaskedLM:
    """GPT-2 as transformers saves it: a folder with config.json and weights, in evaluation mode.

    In its blocks all matrices are transposed, and queries, keys and values are one. Its decoder has
    no bias; ours is 0. Raises `InputError` if it is another model, or if the weights do not fit.
    """
    config = gpt2_shape(folder)
    model, places = outline(config), their_places(config)
    weights = find_weights(folder, expected_bytes(model))
    there = {name.removeprefix("transformer."): name for name in weights.shapes
             if not UNUSED.fullmatch(name)}
    copy = there.pop(HEAD, None) if config.tied else None
    for name in sorted(there.keys() ^ places.keys()):
        only = "the weights have" if name in there else "config.json has a place for"
        raise InputError(f"In '{folder}' only {only} '{name}'; take a GPT-2 with its language "
                         "model's head, and the config.json that was saved with it.")
    own = shapes(model.state_dict())
    check_shapes({theirs: _their_shape(theirs, [own[name] for name in ours])
                  for theirs, ours in places.items()},
                 {theirs: weights.shapes[name] for theirs, name in there.items()},
                 f"The model in '{folder}'")
    found = weights.read([*there.values(), *([copy] if copy else [])])
    state = {"head.decoder.bias": torch.zeros(config.vocab_size)}
    for theirs, ours in places.items():
        tensor = found[there[theirs]]
        tensor = tensor.t() if theirs.startswith("h.") else tensor  # [out, in]
        state |= zip(ours, tensor.chunk(len(ours)), strict=True)
    if config.tied:
        state[TIED] = state[TABLE]
    if copy and not torch.equal(found[copy], state[TIED]):
        raise InputError(f"In '{folder}' the weights have a '{HEAD}' of its own, but config.json "
                         "ties it; if it was trained apart, set tie_word_embeddings to false.")
    return build(config, state)


def _their_shape(name: str, ours: list[torch.Size]) -> torch.Size:
    """Of the tensor that holds some of ours one below the other; in blocks it is transposed."""
    shape = [sum(size[0] for size in ours), *ours[0][1:]]
    return torch.Size(shape[::-1] if name.startswith("h.") else shape)
