"""What a learner built is taken from the notebook's file, or the solution if it is not right."""

import nbformat
import pytest
import torch

from bertlib.bert import BertConfig
from bertlib.checks.own import built
from bertlib.plumbing.files import InputError

RIGHT = "return x * (1 + torch.erf(x / math.sqrt(2))) / 2"
STUB = "from bertlib.checks.blocks import check_gelu\n\ndef gelu(x):\n    {}\n\ncheck_gelu(gelu)"


@pytest.fixture
def notebook(tmp_path):
    """Write a notebook with one exercise, whose answer has this body."""
    def write(body: str, solution: str = RIGHT, more: str = ""):
        cells = [("import math\nimport torch\nprint('not run')\nraise SystemExit", []),
                 ("%pip no Python", []), (STUB.format(body), ["exercise"]),
                 (STUB.format(solution), ["solution"]), (f"import os\n{more}", [])]
        nbformat.write(nbformat.v4.new_notebook(cells=[
            nbformat.v4.new_code_cell(source, metadata={"tags": tags}) for source, tags in cells]),
            tmp_path / "mine.ipynb")
        return tmp_path
    return write


@pytest.mark.parametrize("body, whose", [
    (f"{RIGHT}  # own", "yours"), ("return torch.relu(x)", "the solution"),
    ("return undefined", "the solution"), ("return (", "the solution"),
    ("while True:\n        pass", "the solution")])
def test_an_answer_counts_only_if_its_checker_says_right(notebook, body, whose, capsys):
    names, found = built("mine", notebook(body))
    assert found == {"gelu": whose} and "os" in names
    x = torch.linspace(-2, 2, 9)
    assert torch.allclose(names["gelu"](x), torch.nn.functional.gelu(x), atol=1e-6)
    assert not capsys.readouterr().out


def test_the_model_of_lesson_05_is_built_of_its_own_parts():
    names, whose = built("05_mlm_head")
    assert {"Embeddings", "Encoder", "MLMHead", "BertForMaskedLM"} <= set(whose)
    model = names["BertForMaskedLM"](BertConfig.preset("tiny", vocab_size=20))
    assert type(model.encoder) is names["Encoder"] and model.encoder.__module__ == "05_mlm_head"
    assert type(model.encoder.embeddings) is names["Embeddings"]


def test_a_notebook_that_is_missing_is_refused(tmp_path):
    with pytest.raises(InputError, match="There is no notebook 'none.ipynb'"):
        built("none", tmp_path)
