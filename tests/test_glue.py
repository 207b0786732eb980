"""GLUE's own files of SST-2 and CoLA become tables; other files are refused."""

import pytest

from bertlib.finetune.glue import main
from bertlib.plumbing.tables import read_rows

SST2 = "sentence\tlabel\na \"fine film \t1\ndull \t0\n"
COLA = 'gj04\t1\t\tShe said "so.\ngj04\t0\t*\tShe so said.\n'


def folder(path, train: str, dev: str):
    path.mkdir()
    (path / "train.tsv").write_text(train)
    (path / "dev.tsv").write_text(dev)
    return path


@pytest.mark.parametrize(("text", "rows"), [
    (SST2, [('a "fine film', "positive"), ("dull", "negative")]),
    (COLA, [('She said "so.', "acceptable"), ("She so said.", "unacceptable")])])
def test_both_forms_are_read(tmp_path, capsys, text, rows):
    main([str(folder(tmp_path / "in", text, text + "\n")), str(tmp_path / "out")])
    assert "val.csv: 2 sentences" in capsys.readouterr().out
    for split in ("train", "val"):
        found = read_rows(tmp_path / "out" / f"{split}.csv", ["text"], "label")
        assert [(row.texts[0], row.label) for row in found] == rows


@pytest.mark.parametrize(("text", "words"), [
    ("index\tsentence\n0\tfine\n", "line 1 has 2 fields"),
    (SST2 + "ok\t2\n", "label '2'"), (COLA + "x\t1\t\t \n", "text is not empty"),
    (COLA + "x\t1\n", "line 3 has 2 fields"), ("", "holds no rows"),
    ("sentence\tlabel\n", "holds no rows")])
def test_other_files_are_refused_and_nothing_is_written(tmp_path, refused, text, words):
    assert words in refused(main, folder(tmp_path / "in", SST2, text), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert "There is no file" in refused(main, tmp_path / "none", tmp_path / "out")
