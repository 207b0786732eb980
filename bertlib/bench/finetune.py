"""What pretraining is worth to a small task: runs that differ in a single thing, at equal steps.

Example usage:
python -m bertlib.bench finetune periods --seed 1 --out assets/09_finetune/periods.jsonl
python -m bertlib.bench finetune films --folder movies --rows pretrained --out films.jsonl

Every row is a run of its own; it is appended to the output as one line of JSON with all its
conditions. Rows that differ only in how they begin take the same examples, in the same number of
steps. Which weights are kept is chosen on sentences to validate on; the score is that of others.
"""

import random
import tempfile
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypedDict

import torch

from bertlib.bert import BertForMaskedLM
from bertlib.data import EMBEDDED, ensure_datasets, in_order, load_dataset
from bertlib.finetune import Tuning, load, tune
from bertlib.finetune.attribution import most_wrong
from bertlib.finetune.pairs import pairs
from bertlib.finetune.periods import periods
from bertlib.huggingface import MODEL
from bertlib.huggingface import load as load_pretrained
from bertlib.masking import Masker
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.device import machine_name
from bertlib.plumbing.files import PROJECT, InputError, check_output_folder, nearest
from bertlib.plumbing.metrics import confusion, of_classes
from bertlib.plumbing.records import add_record, read_records
from bertlib.plumbing.tables import Row, class_names, class_numbers, read_rows
from bertlib.scoring import evaluate

EPOCHS = {100: 20, 300: 12, 1_000: 6, 0: 2}  # by how many examples there are; 0: all
VALIDATING = 400  # rows that choose the weights to keep
RANDOM: dict[str, Any] = dict(from_scratch=True, layer_decay=1.0)
WORDS, MAJORITY = "bag of words", "majority"


@dataclass(frozen=True)
class Run:
    """A row of results: its name, its task, so many examples (0: all), changes of `Tuning`.

    more: also the most wrong sentences, and the masked-word head after tuning.
    """

    name: str
    task: str = "periods"
    examples: int = 0
    changes: dict[str, Any] = field(default_factory=dict)
    more: bool = False

    @property
    def title(self) -> str:
        """What the command calls it."""
        return f"{self.name}, {self.examples or 'all'}"


class Result(TypedDict):
    """What every line of results says, and much besides."""

    group: str
    name: str
    task: str
    examples: int
    seed: int
    test: dict[str, Any]


def ways(task: str, sizes: tuple[int, ...]) -> tuple[Run, ...]:
    """The four ways to answer, with each number of examples."""
    return tuple(run for size in sizes for run in (
        Run(MAJORITY, task, size), Run(WORDS, task, size),
        Run("random weights", task, size, RANDOM),
        Run("pretrained", task, size, more=size == 0 and task == "periods")))


GROUPS: dict[str, tuple[Run, ...]] = {
    "rates": tuple(Run(f"{name} at {rate:g}", "periods", 1_000, changes | dict(learning_rate=rate))
                   for rate in (1.5e-4, 4.5e-4, 1.35e-3)
                   for name, changes in (("pretrained", {}), ("random weights", RANDOM))),
    "periods": ways("periods", tuple(EPOCHS)),
    "frozen": tuple(Run(f"{count} blocks frozen", "periods", 1_000, dict(freeze=count))
                    for count in (1, 2, 3, 4)),
    "pairs": tuple(Run(name, task, 1_000, changes) for task in ("next", "order")
                   for name, changes in ((WORDS, {}), ("random weights", RANDOM),
                                         ("pretrained", {}))),
    "films": ways("films", (0,)),
}


@cache
def all_rows(task: str, folder: Path) -> dict[str, list[Row]]:
    """The rows of a task in each split."""
    if task == "films":
        return {split: read_rows(folder / f"{split}.csv", ["text"], "label")
                for split in ("train", "val", "test")}
    return periods() if task == "periods" else pairs(task)


def rows_of(run: Run, seed: int, folder: Path) -> dict[str, list[Row]]:
    """The rows of each split; the seed draws which examples are learned from."""
    rows = all_rows(run.task, folder)
    some = random.Random(seed).sample(rows["train"], run.examples or len(rows["train"]))
    return {"train": some, "val": rows["val"][:VALIDATING], "test": rows["test"]}


def bag_of_words(rows: dict[str, list[Row]]) -> tuple[list[str], dict[str, Any]]:
    """Logistic regression on words and pairs of words: (guesses, what validation chose)."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise InputError("The bag of words needs scikit-learn; pip install -e '.[test]' brings "
                         "it.") from None
    texts = {split: [" ".join(row.texts) for row in its] for split, its in rows.items()}
    labels = {split: [row.label for row in its] for split, its in rows.items()}
    best: tuple[float, list[str], dict[str, Any]] = (-1.0, [], {})
    for most in (1, 2):
        words = TfidfVectorizer(ngram_range=(1, most), sublinear_tf=True)
        seen = words.fit_transform(texts["train"])
        for strength in (0.3, 1.0, 3.0, 10.0, 30.0):
            model = LogisticRegression(C=strength, max_iter=2_000).fit(seen, labels["train"])
            right = model.score(words.transform(texts["val"]), labels["val"])
            if right > best[0]:
                guesses = model.predict(words.transform(texts["test"])).tolist()
                best = (right, guesses, {"C": strength, "ngrams": most})
    return best[1], best[2]


def count_words(run: Run, rows: dict[str, list[Row]]) -> dict[str, Any]:
    """The result of a way that is no network."""
    names = class_names(rows["train"])
    labels = [row.label for row in rows["train"]]
    if run.name == WORDS:
        guesses, settings = bag_of_words(rows)
    else:
        guesses, settings = [max(names, key=labels.count)] * len(rows["test"]), {}
    truth, said = (torch.tensor(class_numbers(its, names)) for its in (
        rows["test"], [row._replace(label=guess) for row, guess in
                       zip(rows["test"], guesses, strict=True)]))
    return {"labels": names, "test": of_classes(confusion(truth, said, len(names))),
            "settings": settings, "machine": machine_name(torch.device("cpu"))}


def masked_words(folder: Path, base: Path) -> dict[str, float]:
    """How often the head of pretraining is right before and after tuning, on frozen puzzles."""
    model, tokenizer = load_pretrained(MODEL)
    val = load_dataset(ensure_datasets(base, EMBEDDED, model.config.seq_len).val, tokenizer)

    def right(one: BertForMaskedLM) -> float:
        puzzles = in_order(val, Masker(tokenizer), 32, chunks=64)
        return evaluate(one, puzzles, torch.device("cpu"), torch.float32).accuracy

    before = right(model)
    model.encoder.load_state_dict(load(folder)[0].encoder.state_dict())
    return {"before": before, "after": right(model)}


def tune_once(run: Run, rows: dict[str, list[Row]], seed: int) -> dict[str, Any]:
    """The result of a network, trained in a temporary folder."""
    same = dict(epochs=EPOCHS[run.examples], looks=1, patience=0, seed=seed)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "model"
        report = tune(MODEL, rows["train"], rows["val"], out, Tuning(**same | run.changes),
                      rows["test"])
        if report is None:
            raise KeyboardInterrupt
        if run.more:
            report["masked_words"] = masked_words(out, PROJECT / "wiki")
            if seed == 1:
                report["wrong"] = [one._asdict() for one in
                                   most_wrong(*load(out), rows["test"], 6)]
    return {name: value for name, value in report.items() if name not in ("start", "cut")}


def read_results(path: Path) -> list[dict[str, Any]]:
    """The results in a file that this command wrote, in their order."""
    return read_records(path, Result)


def choose(group: str, names: list[str] | None) -> list[Run]:
    """The rows of `group`, or those of them whose name, or name and size, is given."""
    if group not in GROUPS:
        raise InputError(f"There is no group '{group}'. {nearest(group, GROUPS)}")
    known = {run.title for run in GROUPS[group]} | {run.name for run in GROUPS[group]}
    for name in names or ():
        if name not in known:
            raise InputError(f"Group '{group}' has no row '{name}'. {nearest(name, known)}")
    return [run for run in GROUPS[group] if not names or {run.title, run.name} & set(names)]


def main(arguments: list[str] | None = None) -> None:
    """Run the rows that the command line names and append their results to a file."""
    parse = Parser(prog="finetune", description=__doc__)
    parse.add_argument("group", help=", ".join(GROUPS))
    parse.add_argument("--rows", nargs="+", help="of the group; all if not given")
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--folder", type=Path, default=Path("movies"), help="tables of the films")
    parse.add_argument("--out", type=Path, required=True, help="results are appended here")
    options = parse.parse_args(arguments)
    runs = choose(options.group, options.rows)
    check_output_folder(options.out.parent)
    for run in runs:
        rows = rows_of(run, options.seed, options.folder)
        result = (count_words(run, rows) if run.name in (WORDS, MAJORITY)
                  else tune_once(run, rows, options.seed))
        told = {"group": options.group, "name": run.name, "task": run.task,
                "examples": run.examples or len(rows["train"]), "seed": options.seed}
        add_record(options.out, told | result)
        print(f"{run.task:8} {run.title:28} seed {options.seed} test accuracy "
              f"{result['test']['accuracy']:.1%}", flush=True)
