"""What all tests share: a small world of text and data."""

import shutil

import pytest
import torch
from chromium import launched

from bertlib.data import load_dataset
from bertlib.masking import Masker
from bertlib.plumbing.commands import run_command
from bertlib.plumbing.files import PROJECT
from bertlib.prepare_mlm_dataset import PrepareConfig, prepare
from bertlib.tokens import Tokenizer

torch.set_num_threads(1)  # two wait for each other: on a busy machine that takes five times as long
VOCAB = PROJECT / "wiki" / "vocab" / "vocab.txt"
PROGRAMS = {"bench", "browser", "commands", "faults", "memory", "memory_models", "notebooks",
            "own_text", "page_engine", "page_offline", "page_words", "parameters", "pretrain",
            "ranks", "runlog"}  # slow: programs, memory


def pytest_collection_modifyitems(items):
    """So that `pytest tests -m "not programs"` runs the others, in a minute or two."""
    for item in items:
        if item.path.stem.removeprefix("test_") in PROGRAMS or item.path.suffix == ".ipynb":
            item.add_marker("programs")


def document(number: int, paragraphs: int = 6) -> str:
    """A document whose every paragraph holds the words `code` and its number."""
    text = f"code {number} the king went to the city and saw the river . " * 4
    return f" = Article {number} = \n\n" + f" {text}\n" * paragraphs + " = = Section = = \n text\n"


@pytest.fixture(scope="module", autouse=True)
def children_on_one_thread():
    """What a test starts is no more patient than the test itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield


@pytest.fixture(scope="module")
def browser():
    with launched() as chromium:
        yield chromium


@pytest.fixture(scope="session")
def tokenizer():
    return Tokenizer.load(VOCAB)


@pytest.fixture(scope="session")
def masker(tokenizer):
    return Masker(tokenizer)


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """A base folder, such as wiki/, with a vocabulary, a text and its datasets of 32 tokens."""
    folder = tmp_path_factory.mktemp("base")
    for name in ("input", "vocab", "datasets", "runs"):
        (folder / name).mkdir()
    (folder / "vocab" / "vocab.txt").write_bytes(VOCAB.read_bytes())
    text = folder / "input" / "text.txt"
    text.write_text("".join(document(n) for n in range(100, 200)), encoding="utf-8")
    prepare(PrepareConfig(text, "toy", folder / "datasets", folder / "vocab", max_len=32))
    return folder


@pytest.fixture
def own(base, tmp_path):
    """A base folder of the test's own, without runs."""
    shutil.copytree(base, tmp_path / "own", ignore=shutil.ignore_patterns("run[0-9]*"))
    return tmp_path / "own"


@pytest.fixture
def published(tmp_path):
    """A copy of assets/reference, to change: BERT as transformers saves it, in small."""
    for name in ("config.json", "vocab.txt", "model.safetensors"):
        shutil.copy(PROJECT / "assets" / "reference" / name, tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def train_path(base):
    return base / "datasets" / "train_toy_32_123.msgpack.gz"


@pytest.fixture
def dataset(train_path, tokenizer):
    return load_dataset(train_path, tokenizer)


@pytest.fixture
def refused(capsys):
    """Call a command that must refuse: exit status 2 and one sentence, which is returned."""
    def check(main, *arguments) -> str:
        capsys.readouterr()
        assert run_command(lambda: main([str(a) for a in arguments])) == 2
        message = capsys.readouterr().err.strip()
        assert message.startswith("error: ") and message.endswith((".", "?"))
        assert "\n" not in message
        return message
    return check


@pytest.fixture(scope="session")
def diagnosed():
    """Show a checker of an exercise a wrong answer: it must say "not yet" and name the mistake."""
    def check_it(check, answer, words: str) -> None:
        said = check(answer)
        assert said.startswith("not yet: ") and words in said, said
    return check_it


@pytest.fixture(scope="session")
def held():
    """The titles of the speeches that validate and that test."""
    from bertlib.finetune.periods import speeches
    found = speeches()
    return {split: [speech.title for speech in found if speech.split == split]
            for split in ("val", "test")}
