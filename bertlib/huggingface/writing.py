"""A model as a folder that transformers loads: its own names, its own config, and a model card.

`training.json` beside them is this course's: the facts of the run, and the hashes of weights and
words, which `load` checks.
"""

from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.huggingface.published import BIAS, DECODER_BIAS, SIZES, TIED, their_name
from bertlib.huggingface.weights import WHOLE
from bertlib.plumbing.files import atomic_write, sha256
from bertlib.plumbing.records import write_json
from bertlib.tokens import Tokenizer

TRAINING = "training.json"
KIND = ("causal", "norm", "position", "embedding_norm", "activation", "head_transform", "bias",
        "qk_norm")
ROWS = {  # of the card: a fact's name -> its words and how it is written
    "source": ("text", "{}"), "train_tokens": ("tokens in the training split", "{:,}"),
    "tokens": ("tokens seen", "{:,}"), "steps": ("steps", "{:,}"),
    "minutes": ("minutes of training", "{:.1f}"), "seed": ("seed", "{}"),
    "machine": ("machine", "{}"), "precision": ("precision", "{}"),
    "val_loss": ("loss on hidden words of held-out {held_out} (nats)", "{:.3f}"),
    "val_accuracy": ("right first guesses there", "{:.1%}"),
    "masked_words": ("hidden words scored", "{:,}"),
    "unigram_loss": ("for comparison: loss of word frequencies", "{:.3f}"),
    "both_loss": ("for comparison: loss of counting both neighbours", "{:.3f}"),
    "both_accuracy": ("for comparison: right guesses of counting both neighbours", "{:.1%}"),
    "six_loss": ("for comparison: loss of counting three words on each side", "{:.3f}"),
    "six_accuracy": ("for comparison: right guesses of counting them", "{:.1%}"),
}


def is_published(config: BertConfig) -> bool:
    """Whether a model is BERT as published, so that transformers can compute it."""
    return config.n_token_type > 0 and all(
        getattr(config, name) == getattr(BertConfig, name) for name in KIND)


def their_config(config: BertConfig) -> dict[str, Any]:
    """What transformers' config.json says of a model; weights are computed with in float32."""
    return {
        "architectures": ["BertForMaskedLM"], "model_type": "bert", "dtype": "float32",
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "hidden_act": "gelu", "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.init_std, "tie_word_embeddings": config.tied,
    }


def save_published(model: BertForMaskedLM, tokenizer: Tokenizer, folder: Path,
                   facts: dict[str, Any]) -> None:
    """Write weights (bfloat16), words, config.json, training.json with `facts`, and the card."""
    config = model.config
    weights = {their_name(name, config.tied): tensor.bfloat16().contiguous()
               for name, tensor in model.state_dict().items() if not (config.tied and name == TIED)}
    if not config.tied:  # a copy that transformers looks for, and does not use
        weights[BIAS] = weights[DECODER_BIAS].clone()
    write_folder(weights, their_config(config), tokenizer, folder, facts, config.seq_len)
    with atomic_write(folder / "README.md") as stream:
        stream.write(card(model, tokenizer, facts, folder.name).encode())


def write_folder(weights: dict[str, Tensor], said: dict[str, Any], tokenizer: Tokenizer,
                 folder: Path, facts: dict[str, Any], max_tokens: int) -> None:
    """Write weights as they are, words, `said` as config.json, and training.json with `facts`."""
    content = save(weights, metadata={"format": "pt"})
    with atomic_write(folder / WHOLE) as stream:
        stream.write(content)
    tokenizer.save(folder, max_tokens)
    said = said | {"pad_token_id": tokenizer.special.pad}
    write_json(folder / "config.json", said, is_sealed=False)
    write_json(folder / TRAINING, {
        "run": facts, "weights_sha256": sha256(content), "vocab_sha256": tokenizer.sha256,
        "rules": tokenizer.rules.as_dict(),
    })


def card(model: BertForMaskedLM, tokenizer: Tokenizer, facts: dict[str, Any], name: str) -> str:
    """A model card in Markdown, from what the run's own report says."""
    config, told = model.config, {"held_out": "documents", **facts}
    origin = facts.get("origin", "pretrained from nothing")
    rows = [f"| {words.format(**told)} | {form.format(facts[key])} |"
            for key, (words, form) in ROWS.items() if facts.get(key) is not None]
    verdict = "" if "val_loss" in facts else (
        "\nIts run has not ended, or has no report: nobody has scored these weights.\n")
    case = "lower case" if tokenizer.lowercase else "upper and lower case"
    return f"""---
library_name: transformers
pipeline_tag: fill-mask
tags: [bert, bert-from-scratch]
---

# {name}

BERT (Devlin et al. 2018) with its masked-word head, {origin}: {config.n_layer} \
layers, width {config.d_model}, {config.n_head} heads, {model.n_parameters():,} parameters, \
{len(tokenizer):,} tokens ({case}), at most {config.seq_len} of them at a time.

```python
from transformers import pipeline

print(pipeline("fill-mask", model="{name}")("the [MASK] of the year ."))
```

| | |
|---|---|
{chr(10).join(rows)}
{verdict}
It knows what its text says, and nothing else; what the text said of people comes back in its \
guesses. Made with the course *BERT from scratch*, which reads it with `bertlib.load`.
"""
