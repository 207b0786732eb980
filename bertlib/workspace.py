"""The base folder, such as `wiki`: input, vocab, datasets, and runs with run0, run1, ..."""

from pathlib import Path

from bertlib.data import SplitFiles, find_datasets
from bertlib.dataset_file import read_header
from bertlib.files import InputError
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.texts import text_files, text_sha256
from bertlib.tokens import Tokenizer

EMBEDDED = "english"  # the label of what is made from the texts in `input`, and nothing else
DATA_SEED = 123
# The course's own text is still dealt out in the way in which its stored results were made.
COURSE_SHA256 = "50f1227bb846cb061cb1bc831bccd3cbf53f09618bff2a3cfff1f0909390a89a"


def ensure_datasets(base: Path, label: str, max_len: int, progress: bool = False) -> SplitFiles:
    """The dataset files of `label` in `base`/datasets, chunks of `max_len` tokens.

    Those of `english` are made from the texts in `base`/input where they are missing, and anew
    where text or vocabulary changed. Other labels are only found: `InputError` if they are not.
    """
    folder, source = base / "datasets", base / "input"
    if label == EMBEDDED and _has_text(source):
        text = text_sha256(source)
        if _is_stale(base, max_len, text):
            folder.mkdir(exist_ok=True)
            unit = "pieces" if text == COURSE_SHA256 else ""
            prepare(PrepareConfig(source, label, folder, base / "vocab", max_len, DATA_SEED,
                                  unit=unit), progress)
    return find_datasets(folder, label, max_len)


def _has_text(folder: Path) -> bool:
    """Whether there is something to make datasets from; else those that are there count."""
    try:
        return folder.is_dir() and bool(text_files(folder))
    except InputError:
        return False


def _is_stale(base: Path, max_len: int, text: str) -> bool:
    """Whether the embedded datasets are missing, or made from another text or vocabulary."""
    try:
        origin = read_header(find_datasets(base / "datasets", EMBEDDED, max_len).train[0]).origin
    except InputError:
        return True
    now = text, Tokenizer.load(base / "vocab").sha256
    return now != (origin.source_sha256, origin.vocab_sha256)
