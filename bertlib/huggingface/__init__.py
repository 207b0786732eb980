"""Models that travel: any folder that holds one is loaded here, and a run becomes one that ships.

    python -m bertlib.huggingface wiki/runs/run0 assets/model

Weights that ship are stored by `safetensors` (no code inside), hashed, and checked when read.
"""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypedDict

import msgspec
from safetensors.torch import save

from bertlib.bert import BertConfig, BertForMaskedLM, Encoder
from bertlib.checkpoint import Checkpoints
from bertlib.huggingface.published import (
    TIED,
    build,
    load_published,
    load_published_encoder,
    outline,
    read_config,
)
from bertlib.huggingface.weights import INDEX, PICKLED, WHOLE, Weights, check_hash
from bertlib.huggingface.writing import TRAINING, is_published, save_published
from bertlib.masking import objective
from bertlib.plumbing.files import (
    PROJECT,
    InputError,
    atomic_write,
    clear_leftovers,
    note,
    sha256,
    short,
)
from bertlib.plumbing.records import read_json, write_json
from bertlib.plumbing.runs import CARD as RUN
from bertlib.plumbing.runs import Identity
from bertlib.plumbing.states import check_shapes, expected_bytes, shapes
from bertlib.plumbing.vocab import RULES
from bertlib.plumbing.words import WHOLE as WORDS
from bertlib.tokens import Tokenizer


class Training(TypedDict):
    """What training.json says: how a model was trained, and what belongs to it."""

    run: dict[str, Any]
    weights_sha256: str
    vocab_sha256: str
    rules: dict[str, bool | None]


class Shipped(Training):
    """What config.json says of a model that ships, and that transformers does not know."""

    model: dict[str, Any]


MODEL = PROJECT / "assets" / "model"  # the trained model that comes with the course


def kind_of(folder: Path) -> str:
    """What a folder holds, by its files: "run", "shipped" or "published".

    Raises `InputError` if it is none of them.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"There is no folder '{folder}'; pass one that holds a model (nothing is "
                         "downloaded).")
    if (folder / RUN).exists():
        return "run"
    config = read_config(folder) if (folder / "config.json").exists() else {}
    if "model_type" in config:
        return "published"
    if "model" in config:
        return "shipped"
    raise InputError(
        f"'{folder}' holds no model: a run's folder has {RUN}, vocab.txt and checkpoints; one that "
        "ships has config.json (with 'model'), vocab.txt and model.safetensors; one of Hugging "
        "Face's has config.json (with 'model_type'), its words and its weights."
    )


def load(folder: Path = MODEL, best: bool = False,
         causal: bool = False) -> tuple[BertForMaskedLM, Tokenizer]:
    """The model in a folder of any kind, in evaluation mode, with its tokenizer.

    `best` takes a run's checkpoint with the lowest validation loss instead of its newest. Raises
    `InputError` if the folder is of no kind or damaged, if `best` is asked of another kind, or if
    the model predicts hidden words where one that predicts the next (`causal`) is wanted, or the
    other way round.
    """
    kind = kind_of(folder)
    if best and kind != "run":
        raise InputError(f"'{folder}' is no run's folder and holds one model only; leave out best.")
    model, tokenizer = (load_run(folder, best)[:2] if kind == "run" else
                        load_shipped(folder) if kind == "shipped" else load_checked(folder))
    if model.config.causal != causal:
        remedy = ("pass a run of pretrain-bert --architecture gpt" if causal else
                  "let it write with python -m bertlib.gpt")
        raise InputError(f"The model in '{folder}' predicts: {objective(not causal)}; {remedy}.")
    return model, tokenizer


def load_encoder(folder: Path = MODEL) -> tuple[Encoder, Tokenizer]:
    """As `load`, without the head; a published model needs to have none."""
    if kind_of(folder) == "published" and not (Path(folder) / TRAINING).exists():
        return load_published_encoder(folder)
    model, tokenizer = load(folder)
    return model.encoder, tokenizer


def read_shape(told: Any, path: Path) -> BertConfig:
    """The shape that a JSON file tells; `InputError` if it tells none."""
    try:
        if unknown := dict(told).keys() - {field.name for field in fields(BertConfig)}:
            raise ValueError(f"it has an unknown {short(min(unknown))}")
        return msgspec.convert(told, BertConfig)
    except (TypeError, ValueError) as error:
        reason = str(error).removesuffix(".")
        raise InputError(f"'{path}' describes no model of bertlib: {reason}.") from None


def check_words(tokenizer: Tokenizer, digest: str, rules: dict[str, Any], config: BertConfig,
                folder: Path) -> None:
    """`InputError` if a folder's vocabulary is not the one that its model was trained with."""
    if digest != tokenizer.sha256 or len(tokenizer) != config.vocab_size:
        raise InputError(f"The vocabulary in '{folder}' ({len(tokenizer):,} tokens) is not the "
                         f"model's ({config.vocab_size:,}); get the folder again.")
    if rules != tokenizer.rules.as_dict():
        raise InputError(f"The text for the model in '{folder}' was washed by other rules than "
                         f"{RULES} says; put them back: {json.dumps(rules)}")


def load_run(folder: Path, best: bool = False) -> tuple[BertForMaskedLM, Tokenizer, int]:
    """The model of a run's folder, its own vocabulary, and the step of the checkpoint.

    Raises `InputError` if something is missing, damaged or does not fit the rest.
    """
    folder = Path(folder)
    run, tokenizer = Identity.read(folder), Tokenizer.load(folder)
    config = read_shape(run.model, folder / RUN)
    check_words(tokenizer, run.vocab_sha256, run.rules, config, folder)
    own = outline(config)
    checkpoints = Checkpoints(folder / "checkpoints", max_bytes=expected_bytes(own))
    state = checkpoints.best_state() if best else checkpoints.newest()
    for sentence in checkpoints.notes:
        note(sentence)
    if state is None:
        raise InputError(f"'{folder}' holds no checkpoint yet; train first.")
    check_shapes(shapes(own.state_dict()), shapes(state["model"]), f"The checkpoint in '{folder}'")
    return build(config, state["model"]), tokenizer, state.get("step", 0)


def load_checked(folder: Path) -> tuple[BertForMaskedLM, Tokenizer]:
    """As `load_published`; where training.json tells hashes of weights and words, they must fit."""
    folder = Path(folder)
    if not (folder / TRAINING).exists():
        return load_published(folder)
    told = read_json(folder / TRAINING, Training, "get the folder again")
    check_hash(folder / WHOLE, told["weights_sha256"], TRAINING)
    model, tokenizer = load_published(folder)
    check_words(tokenizer, told["vocab_sha256"], told["rules"], model.config, folder)
    return model, tokenizer


def save_shipped(model: BertForMaskedLM, tokenizer: Tokenizer, folder: Path,
                 facts: dict[str, Any]) -> None:
    """Write weights (bfloat16), vocabulary and config.json, which carries `facts` of the run."""
    _make(Path(folder))
    state = {name: tensor.bfloat16().contiguous() for name, tensor in model.state_dict().items()
             if not (model.config.tied and name == TIED)}
    content, folder = save(state), Path(folder)
    with atomic_write(folder / WHOLE) as stream:
        stream.write(content)
    tokenizer.save(folder)
    write_json(folder / "config.json", {
        "model": asdict(model.config), "run": facts, "weights_sha256": sha256(content),
        "vocab_sha256": tokenizer.sha256, "rules": tokenizer.rules.as_dict(),
    })


def load_shipped(folder: Path) -> tuple[BertForMaskedLM, Tokenizer]:
    """A model that `save_shipped` wrote, in evaluation mode, with its tokenizer.

    Raises `InputError` if a file is missing, damaged or does not fit the others.
    """
    path = Path(folder) / "config.json"
    told, tokenizer = read_json(path, Shipped, "get the folder again"), Tokenizer.load(folder)
    config = read_shape(told["model"], path)
    check_words(tokenizer, told["vocab_sha256"], told["rules"], config, folder)
    own = dict(shapes(outline(config).state_dict()))
    if config.tied:
        del own[TIED]
    check_hash(Path(folder) / WHOLE, told["weights_sha256"], "config.json")
    weights = Weights([Path(folder) / WHOLE])
    check_shapes(own, weights.shapes, f"The model in '{folder}'")
    state = weights.read(own)
    if config.tied:
        state[TIED] = state["encoder.embeddings.token.weight"]
    return build(config, state), tokenizer


def _make(folder: Path) -> None:
    """The folder of a model to write; `InputError` if another one's files would speak first."""
    for name in (WORDS, INDEX, PICKLED, "added_tokens.json"):
        if (folder / name).exists():
            raise InputError(f"'{folder}' holds the {name} of another model; choose another folder "
                             "or remove it.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder, WHOLE, "config.json", TRAINING, "README.md")
    except OSError as error:
        raise InputError(f"Cannot make the folder '{folder}' ({error.strerror}); choose another "
                         "one.") from None


def export(run: Path, folder: Path) -> str:
    """Write a run's newest checkpoint as a folder that travels; returns what was done in a line.

    BERT as published is written so that transformers loads it, another model as one that ships.
    The facts are those of report.json if it tells of that step, else those of run.json.
    """
    if kind_of(run) != "run":
        raise InputError(f"'{run}' is no run's folder; pass one that holds {RUN}.")
    if (folder / RUN).exists():
        raise InputError(f"'{folder}' is a run's folder; choose another one for the model.")
    model, tokenizer, step = load_run(run)
    facts, source = {**asdict(Identity.read(run)), "steps": step}, RUN
    del facts["model"]  # config.json tells it
    if (run / "report.json").exists():
        report = read_json(run / "report.json", dict[str, Any], "remove it")
        if report.get("steps") == step:
            facts, source = report, "report.json"
    of = f"the model of '{run}' at step {step:,}, with the facts of {source}"
    if not is_published(model.config):
        save_shipped(model, tokenizer, folder, facts)
        return f"{folder}: {of}; it is no BERT as published, so that bertlib alone reads it"
    _make(folder)
    save_published(model, tokenizer, folder, facts)
    return f"{folder}: {of}; bertlib and transformers read it"
