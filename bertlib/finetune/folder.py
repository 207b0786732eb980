"""A classifier as a folder: Hugging Face's own form for BERT as published, else bertlib's.

The first is read by `transformers.pipeline("text-classification", FOLDER)`, too. Both have
config.json, model.safetensors, the words, and training.json with hashes of weights and words.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from bertlib.bert import Encoder
from bertlib.finetune.classifier import Classifier
from bertlib.huggingface import Training, check_words, read_shape
from bertlib.huggingface.published import published_shape, read_config, read_words, their_name
from bertlib.huggingface.weights import WHOLE, check_hash, find_weights
from bertlib.huggingface.writing import TRAINING, is_published, their_config, write_folder
from bertlib.plumbing.files import InputError
from bertlib.plumbing.interrupts import held_back
from bertlib.plumbing.records import read_json
from bertlib.plumbing.states import check_shapes, expected_bytes, shapes
from bertlib.tokens import Tokenizer

REGRESSION, CLASSES = "regression", "single_label_classification"  # of transformers


def _names(model: Classifier, published: bool) -> dict[str, str]:
    """Our name of each parameter -> its name in the file."""
    theirs = {name: name for name in model.state_dict()}
    if published:
        for name in theirs:
            if name.startswith("encoder."):
                theirs[name] = their_name(name)
            elif name.startswith("pooler."):
                theirs[name] = name.replace("pooler.", "bert.pooler.dense.")
    return theirs


def save(model: Classifier, tokenizer: Tokenizer, folder: Path, facts: dict[str, Any]) -> None:
    """Write a classifier, its words, and `facts` of its training, weights as float32."""
    config, published = model.config, is_published(model.config)
    said = their_config(config) if published else {"model": asdict(config)}
    said |= {
        "architectures": ["BertForSequenceClassification" if published else "Classifier"],
        "problem_type": REGRESSION if model.regression else CLASSES,
        "id2label": {str(number): label for number, label in enumerate(model.labels)},
        "label2id": {label: number for number, label in enumerate(model.labels)},
    }
    names, state = _names(model, published), model.state_dict()
    weights = {names[name]: tensor.cpu().contiguous() for name, tensor in state.items()}
    Path(folder).mkdir(exist_ok=True)
    write_folder(weights, said, tokenizer, Path(folder), facts, config.seq_len)


def load(folder: Path) -> tuple[Classifier, Tokenizer]:
    """The classifier in a folder of either form, in evaluation mode, with its tokenizer.

    Raises `InputError` if the folder holds none, or if a file is damaged or does not fit the
    others.
    """
    folder = Path(folder)
    path, said = folder / "config.json", read_config(folder)
    published = "model_type" in said
    if not published and "model" not in said:
        raise InputError(f"'{path}' describes no model; pass the folder of a classifier.")
    config = published_shape(folder) if published else read_shape(said["model"], path)
    tokenizer, labels = read_words(folder, config), _labels(said, path)
    regression = said.get("problem_type") == REGRESSION

    def fresh() -> Classifier:
        return Classifier(Encoder(config), labels, tokenizer.special.sep, regression)

    if (folder / TRAINING).exists():
        told = read_json(folder / TRAINING, Training, "get the folder again")
        check_hash(folder / WHOLE, told["weights_sha256"], TRAINING)
        check_words(tokenizer, told["vocab_sha256"], told["rules"], config, folder)
    with held_back(), torch.device("meta"):  # no memory is taken before all shapes fit
        outline = fresh()
    weights, names = find_weights(folder, expected_bytes(outline)), _names(outline, published)
    there = {ours: weights.shapes[name] for ours, name in names.items() if name in weights.shapes}
    check_shapes(shapes(outline.state_dict()), there, f"The model in '{folder}'")
    found, model = weights.read(names.values()), fresh()
    model.load_state_dict({ours: found[name] for ours, name in names.items()})
    return model.eval(), tokenizer


def _labels(said: dict[str, Any], path: Path) -> list[str]:
    """The names of the classes, by their numbers."""
    two = {"0": "LABEL_0", "1": "LABEL_1"}  # transformers leaves them out
    is_one = "BertForSequenceClassification" in (said.get("architectures") or ())
    labels = said.get("id2label", two if is_one else None)
    if not isinstance(labels, dict) or set(labels) != {str(n) for n in range(len(labels))} or (
            not labels):
        raise InputError(f"'{path}' has no id2label that numbers the classes from 0 on; pass the "
                         "folder of a classifier.")
    return [str(labels[str(number)]) for number in range(len(labels))]
