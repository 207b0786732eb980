"""Prepare MLM dataset for pre-training of a BERT model.

Example usage:
python -m bertlib.prepare_mlm_dataset -i wiki.train.tokens -l wiki -o wiki/datasets
                                      -m 128 -v wiki/vocab

This will generate the following files:
    wiki/datasets/train_wiki_128_123.msgpack.gz
    wiki/datasets/val_wiki_128_123.msgpack.gz
    wiki/datasets/test_wiki_128_123.msgpack.gz
where wiki is the label, 128 is the max length, and 123 is the random seed.
"""

import argparse
import random
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from bertlib.corpus import UNKNOWN, Corpus
from bertlib.masking import MaskingConfig
from bertlib.packing import SplitWriter
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.dataset_folder import dataset_path
from bertlib.plumbing.dataset_header import LONGEST, SHORTEST, SPLITS, Header, Origin
from bertlib.plumbing.files import InputError, atomic_write, check_output_folder, clear_leftovers
from bertlib.plumbing.texts import PARTED, text_sha256
from bertlib.tokens import Tokenizer

BATCH_CHARACTERS = 1_000_000  # text that is encoded at once: enough to keep all cores busy
PARAGRAPH = 50  # characters; an encoding takes at least the memory of so many
MUCH_UNKNOWN = 0.05  # share of [UNK] above which the vocabulary does not suit the text

Mark = tuple[int, int, bool]  # of a paragraph: its split, its characters, whether a unit ends


@dataclass(frozen=True)
class PrepareConfig:
    """One preparation: what to read, how to cut and mask it, where to write.

    documents: what parts them, as in `texts`. unit: what is dealt out, as in `corpus`.
    """

    input: Path
    label: str
    output: Path
    vocab: Path
    max_len: int = 128
    seed: int = 123
    segment: Literal["token", "text"] = "token"
    documents: str = "titles"
    unit: str = ""
    masking: MaskingConfig = MaskingConfig()

    def __post_init__(self):
        if not re.fullmatch(r"[\w.-]+", self.label) or self.label.startswith("."):
            raise InputError(
                f"The label '{self.label}' becomes part of a file name; use letters, digits, "
                "'_', '-' and '.' only."
            )
        if not SHORTEST <= self.max_len <= LONGEST:
            raise InputError(f"max-len is {self.max_len}; it must lie in {SHORTEST}..{LONGEST}.")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"The seed is {self.seed}; it must lie in 0..{2**32 - 1}.")
        if self.segment not in ("token", "text"):
            raise InputError(f"The segment mode is '{self.segment}'; use 'token' or 'text'.")

    def path(self, split: str) -> Path:
        """Where a split goes, such as wiki/datasets/train_wiki_128_123.msgpack.gz."""
        return dataset_path(Path(self.output), split, self.label, self.max_len, self.seed)

    def origin(self, corpus: Corpus, tokenizer: Tokenizer) -> Origin:
        """What the files will tell of where they come from."""
        name = corpus.path.name.encode(errors="replace").decode()  # on Linux, any bytes are a name
        return Origin(
            source=name, source_sha256=text_sha256(corpus.path), parted=corpus.parted,
            unit=corpus.unit, wikitext=corpus.wikitext, vocab_size=len(tokenizer),
            vocab_sha256=tokenizer.sha256, lowercase=tokenizer.lowercase,
            strip_accents=tokenizer.strip_accents, special_ids=tokenizer.special,
            segment=self.segment, split_chinese=tokenizer.rules.split_chinese,
        )


def batches(corpus: Corpus, unknown: str) -> Iterator[tuple[list[str], list[Mark]]]:
    """Paragraphs to encode at once, each with its mark.

    In word-level WikiText `unknown`, a sign that is read as [UNK], takes the place of <unk>.
    """
    texts, marks, size = [], [], 0
    for split, text, ends in corpus.paragraphs():
        marks.append((split, len(text), ends))
        texts.append(text.replace(UNKNOWN, unknown) if corpus.wikitext else text)
        size += len(text) + PARAGRAPH
        if size > BATCH_CHARACTERS:
            yield texts, marks
            texts, marks, size = [], [], 0
    yield texts, marks


def prepare(config: PrepareConfig, progress: bool = False) -> dict[str, Header]:
    """Write the three files of `config`; returns their headers by split.

    Streams: batches are encoded on all cores while those before are masked and compressed.
    Raises `InputError` for bad input; then no file is written and older ones are left alone.
    """
    tokenizer = Tokenizer.load(config.vocab)
    check_output_folder(config.output)
    clear_leftovers(config.output, *(f"{config.path(split).name}*" for split in SPLITS))
    corpus = Corpus(config.input, config.documents, config.unit)
    origin = config.origin(corpus, tokenizer)
    with ExitStack() as stack:
        stack.enter_context(one_thread())
        writers = []
        for split in SPLITS:
            writers.append(SplitWriter(split, tokenizer, origin, config.masking, config.max_len,
                                       config.seed, config.output))
            stack.callback(writers[-1].close)
        bar = stack.enter_context(
            tqdm(total=corpus.characters, unit=" characters", unit_scale=True,
                 disable=None if progress else True)  # None: shown on a terminal only
        )
        for encodings, marks in tokenizer.encode_stream(batches(corpus, tokenizer.unknown_sign)):
            bar.update(_write(writers, encodings, marks))
        for writer in writers:
            writer.flush()
            if writer.count == 0:
                raise InputError(
                    f"The input '{config.input}' is too short: the {writer.split} split got no "
                    f"chunk of {config.max_len} tokens; pass more text or a smaller max-len."
                )
            if writer.n_hidden == 0:
                raise InputError(f"The {writer.split} split of '{config.input}' holds no word that "
                                 f"the vocabulary knows; {learn_own(config)}.")
        with ExitStack() as files:  # all are whole on the disk before the first takes its place
            streams = [files.enter_context(atomic_write(config.path(split))) for split in SPLITS]
            for writer, stream in zip(writers, streams, strict=True):
                writer.finish(stream)
        return {writer.split: writer.header() for writer in writers}


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: its idle threads would spin on cores that the tokenizer needs."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write(writers: list[SplitWriter], encodings: list, marks: list[Mark]) -> int:
    """Hand each text to its split; returns the number of characters."""
    texts: list[list[tuple[list[int], bool]]] = [[] for _ in writers]
    for encoding, (split, _, ends) in zip(encodings, marks, strict=True):
        texts[split].append((encoding.ids, ends))
    for writer, its in zip(writers, texts, strict=True):
        writer.add(its)
    return sum(characters for _, characters, _ in marks)


def told(config: PrepareConfig, headers: dict[str, Header]) -> Iterator[str]:
    """What a reader should know of the files, line by line."""
    origin = headers["train"].origin
    yield f"vocabulary: {Tokenizer.load(config.vocab).verdict()}"
    yield f"split: whole {origin.unit}" if origin.unit == "documents" else (
        f"split: contiguous {origin.unit}, so that a document may stand in two splits")
    if origin.wikitext:
        yield f"WikiText's marks: '@-@' and the like are joined, '{UNKNOWN}' is [UNK]"
    for split, header in headers.items():
        padding = 1 - header.n_tokens / (header.count * header.max_len)
        yield (f"{config.path(split)}: {header.count:,} chunks, {padding:.1%} padding, "
               f"{header.n_unknown / header.n_tokens:.1%} [UNK], {header.n_lost:,} tokens at the "
               "end left out")
    unknown = headers["train"].n_unknown / headers["train"].n_tokens
    if unknown > MUCH_UNKNOWN:
        yield (f"warning: {unknown:.0%} of the tokens are [UNK], since the vocabulary does not "
               f"know this text; {learn_own(config)}")


def learn_own(config: PrepareConfig) -> str:
    """What to do where the vocabulary does not know the text."""
    return ("train one of its own with python -m bertlib.tokens -i "
            f"{config.input} -o FOLDER --size 8192, and pass -v FOLDER")


def parser() -> argparse.ArgumentParser:
    """The command's options."""
    parse = Parser(prog="prepare_mlm_dataset", description=__doc__)
    add = parse.add_argument
    add("-i", "--input", required=True, type=Path,
        help="The input text file to be processed, or a folder of them.")
    add("-l", "--label", required=True, help="The label to be used for the dataset.")
    add("-o", "--output", required=True, type=Path, help="The output directory for the dataset.")
    add("-m", "--max-len", required=True, type=int, help="The maximum length of the tokens.")
    add("-v", "--vocab", required=True, type=Path,
        help="The directory containing the vocabulary files.")
    add("-s", "--seed", type=int, help="The random seed to be used (drawn if missing).")
    add("--segment", default="token", metavar="{token,text}",
        help="Documents run on in full chunks (default), or each has chunks of its own, padded.")
    add("--documents", default="titles", metavar=f"{{{','.join(PARTED)}}}",
        help="What parts documents: titles as in WikiText (default), blank lines, or line ends.")
    return parse


def main(arguments: list[str] | None = None) -> None:
    """Prepare as the command line says and print what was written."""
    options = parser().parse_args(arguments)
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1000)
        print(f"seed: {options.seed} (drawn; pass -s {options.seed} to get the same files)")
    config = PrepareConfig(**vars(options))
    for line in told(config, prepare(config, progress=True)):
        print(line)


def command() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(main))


if __name__ == "__main__":
    command()
