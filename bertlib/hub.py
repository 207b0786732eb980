"""Models that travel: any folder that holds one is loaded here, and a run becomes one that ships.

    python -m bertlib.hub wiki/runs/run0 assets/model

Weights that ship are stored by `safetensors` (no code inside), hashed, and checked when read.
"""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.checkpoint import Checkpoints, load_weights
from bertlib.files import PROJECT, InputError, atomic_write, run_command, sha256, write_json
from bertlib.published import TIED, load_published, read_config, read_object, read_weights
from bertlib.runs import CARD as RUN
from bertlib.runs import Identity
from bertlib.tokens import Tokenizer

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
        "bertlib.hub wrote has config.json (with 'model'), vocab.txt and model.safetensors; one "
        "of Hugging Face's has these, too (with 'model_type')."
    )


def load(folder: Path = MODEL, best: bool = False) -> tuple[BertForMaskedLM, Tokenizer]:
    """The model in a folder of any kind, in evaluation mode, with its tokenizer.

    `best` takes a run's checkpoint with the lowest validation loss instead of its newest. Raises
    `InputError` if the folder is of no kind or damaged, or if `best` is asked of another kind.
    """
    kind = kind_of(folder)
    if kind == "run":
        return load_run(folder, best)[:2]
    if best:
        raise InputError(f"'{folder}' is no run's folder and holds one model only; leave out best.")
    return {"shipped": load_shipped, "published": load_published}[kind](folder)


def make_model(shape: Any, path: Path) -> BertForMaskedLM:
    """A fresh model of the shape that a JSON file tells; `InputError` if it tells none."""
    try:
        shape = dict(shape)
        shape["distance_heads"] = tuple(map(tuple, shape.get("distance_heads", ())))
        return BertForMaskedLM(BertConfig(**shape))
    except (TypeError, ValueError) as error:
        reason = str(error).removesuffix(".")
        raise InputError(f"'{path}' describes no model of bertlib: {reason}.") from None


def check_words(tokenizer: Tokenizer, digest: Any, model: BertForMaskedLM, folder: Path) -> None:
    """`InputError` if a folder's vocabulary is not the one that its model was trained with."""
    if digest != tokenizer.sha256 or len(tokenizer) != model.config.vocab_size:
        raise InputError(f"The vocabulary in '{folder}' ({len(tokenizer):,} tokens) is not the "
                         f"model's ({model.config.vocab_size:,}); get the folder again.")


def load_run(folder: Path, best: bool = False) -> tuple[BertForMaskedLM, Tokenizer, int]:
    """The model of a run's folder, its own vocabulary, and the step of the checkpoint.

    Raises `InputError` if something is missing, damaged or does not fit the rest.
    """
    folder = Path(folder)
    run, tokenizer = Identity.read(folder), Tokenizer.load(folder)
    model = make_model(run.model, folder / RUN)
    check_words(tokenizer, run.vocab_sha256, model, folder)
    checkpoints = Checkpoints(folder / "checkpoints")
    state = checkpoints.best_state() if best else checkpoints.newest()
    if state is None:
        raise InputError(f"'{folder}' holds no checkpoint yet; train first.")
    load_weights(model, state["model"], f"The checkpoint in '{folder}'")
    return model.eval(), tokenizer, state["step"]


def save_shipped(model: BertForMaskedLM, tokenizer: Tokenizer, folder: Path,
                 facts: dict[str, Any]) -> None:
    """Write weights (bfloat16), vocabulary and config.json, which carries `facts` of the run."""
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"Cannot make the folder '{folder}' ({error.strerror}); choose another "
                         "one.") from None
    state = {name: tensor.bfloat16().contiguous() for name, tensor in model.state_dict().items()
             if not (model.config.tied and name == TIED)}
    content = save(state)
    with atomic_write(folder / "model.safetensors") as stream:
        stream.write(content)
    tokenizer.save(folder)
    write_json(folder / "config.json", {
        "model": asdict(model.config), "run": facts, "sha256": sha256(content),
        "vocab_sha256": tokenizer.sha256,
    })


def load_shipped(folder: Path = MODEL) -> tuple[BertForMaskedLM, Tokenizer]:
    """A model that `save_shipped` wrote, in evaluation mode, with its tokenizer.

    Raises `InputError` if a file is missing, damaged or does not fit the others.
    """
    config, tokenizer = read_config(folder), Tokenizer.load(folder)
    model = make_model(config.get("model"), Path(folder) / "config.json")
    check_words(tokenizer, config.get("vocab_sha256"), model, folder)
    weights = read_weights(folder, config.get("sha256", ""))
    if model.config.tied:
        weights[TIED] = weights.get("encoder.embeddings.token.weight", torch.empty(0))
    load_weights(model, weights, f"The model in '{folder}'")
    return model.eval(), tokenizer


def export(run: Path, folder: Path) -> str:
    """Write a run's newest checkpoint as a shipped model; returns what was written in a line.

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
        report = read_object(run / "report.json")
        if report.get("steps") == step:
            facts, source = report, "report.json"
    save_shipped(model, tokenizer, folder, facts)
    return f"{folder}: the model of '{run}' at step {step:,}, with the facts of {source}"


def main(arguments: list[str] | None = None) -> None:
    """Turn a run's newest checkpoint into a folder that travels."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 2:
        raise InputError("Pass two folders: a run and where to write, such as wiki/runs/run0 "
                         "assets/model.")
    print(export(*map(Path, given)))


if __name__ == "__main__":
    sys.exit(run_command(main))
