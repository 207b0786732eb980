"""The base folder: where texts, vocabulary, datasets and runs lie, and which run is next.

Its layout is that of `wiki`: input, vocab, datasets, and runs with run0, run1, ...
"""

import json
import shutil
from pathlib import Path

from bertlib.files import InputError, atomic_write
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.settings import Settings

DATA_SEED = 123


def embedded_corpus(base: Path) -> Path:
    """All .xz texts of `base`/input as one file in `base`/datasets, made if need be.

    Compressed streams may simply be joined: the joined file unpacks to the joined texts.
    """
    parts = sorted((base / "input").glob("*.xz"))
    if not parts:
        raise InputError(f"There is no .xz text in '{base / 'input'}'; put some there.")
    joined = base / "datasets" / "english.txt.xz"
    joined.parent.mkdir(parents=True, exist_ok=True)
    if not joined.exists() or joined.stat().st_size != sum(p.stat().st_size for p in parts):
        with atomic_write(joined) as stream:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, stream)
    return joined


def ensure_datasets(base: Path, label: str, max_len: int, source: Path | None = None,
                    progress: bool = False) -> str:
    """The pattern of the training files of `label`, which are made from `source` if missing."""
    folder = base / "datasets"
    pattern = str(folder / f"train_{label}_{max_len}_*.msgpack.gz")
    if not list(folder.glob(Path(pattern).name)):
        source = source or embedded_corpus(base)
        config = PrepareConfig(source, label, folder, base / "vocab", max_len, DATA_SEED)
        prepare(config, progress)
    return pattern


def run_number(folder: Path) -> int:
    """N of a folder named runN; -1 for others."""
    number = folder.name.removeprefix("run")
    return int(number) if number.isdigit() else -1


def choose_run(base: Path, settings: Settings, resume: str = "auto") -> Path:
    """The run folder to use below `base`/runs.

    "auto" goes on with the latest run if it has the same settings and did not finish, and else
    begins the next number; "never" begins the next number; "run3" goes on with that one.
    """
    folder = base / "runs"
    runs = sorted((p for p in folder.glob("run*") if run_number(p) >= 0), key=run_number)
    if resume not in ("auto", "never"):
        if not (folder / resume / "settings.json").exists():
            raise InputError(f"There is no run '{folder / resume}' to resume; pass auto or never.")
        return folder / resume
    if resume == "auto" and runs and not (runs[-1] / "report.json").exists():
        path = runs[-1] / "settings.json"
        if path.exists() and json.loads(path.read_text()) == settings.as_dict():
            return runs[-1]
    return folder / f"run{run_number(runs[-1]) + 1 if runs else 0}"
