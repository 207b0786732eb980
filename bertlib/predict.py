"""What a model guesses for hidden words, and how probable it finds the true ones.

Example usage, with one text or with a file of one text a line (- for stdin):
python -m bertlib.predict "the capital of france is [MASK] ."
python -m bertlib.predict --file questions.txt --model wiki/runs/run0 --top 3 > answers.jsonl
"""

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset
from bertlib.huggingface import MODEL, load
from bertlib.masking import Masked, Masker
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import InputError, short
from bertlib.plumbing.page import Guess, Hole, Page, load_page, percent, read_questions, save_page
from bertlib.tokens import Tokenizer

__all__ = ["Guess", "Hole", "Page", "load_page", "save_page"]  # offered here, too

TOKENS_AT_ONCE = 2048  # of questions that go through the model together


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Dropout off; the model is left in the mode it was in, whatever happens."""
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


def in_evaluation(model: BertForMaskedLM, ids: Tensor, positions: Tensor,
                  attention_mask: Tensor | None = None) -> Tensor:
    """Logits [K, V] with dropout off; the model is left in the mode it was in."""
    device = next(model.parameters()).device
    if attention_mask is not None:
        attention_mask = attention_mask.to(device)
    with evaluation(model):
        out = model(ids.to(device), positions.to(device), attention_mask=attention_mask)
    return out.logits.cpu()


def check_top(top: int, tokenizer: Tokenizer) -> None:
    """`InputError` if there are not `top` words to guess."""
    if not 1 <= top <= len(tokenizer):
        raise InputError(f"top is {top}; it must lie in 1..{len(tokenizer)}, the size of the "
                         "vocabulary.")


@torch.no_grad()
def guess_page(model: BertForMaskedLM, tokenizer: Tokenizer, puzzle: Masked,
               top: int = 5) -> Page:
    """What a model says at the holes of one sequence, `puzzle` as a batch of 1, truths known.

    A label of -1 means that nobody knows the truth. Raises `InputError` if `top` is out of range.
    """
    check_top(top, tokenizer)
    tokens = tokenizer.tokens(puzzle.input_ids[0].tolist())
    if not len(puzzle.positions):
        return Page(tuple(tokens), ())
    logits = in_evaluation(model, puzzle.input_ids, puzzle.positions, puzzle.attention_mask)
    shares = logits.softmax(-1)  # [K, V]
    best = shares.topk(top)
    holes = []
    for row, (place, label) in enumerate(zip(puzzle.positions.tolist(), puzzle.labels.tolist(),
                                             strict=True)):
        words = tokenizer.tokens(best.indices[row].tolist())
        guesses = tuple(map(Guess, words, best.values[row].tolist()))
        if label < 0:
            holes.append(Hole(place, guesses))
            continue
        tokens[place], share = tokenizer.vocab[label], float(shares[row, label])
        rank = 1 + int((shares[row] > share).sum())
        holes.append(Hole(place, guesses, tokens[place], rank, share))
    return Page(tuple(tokens), tuple(holes))


def guess_hidden(model: BertForMaskedLM, tokenizer: Tokenizer, ids: Sequence[int],
                 places: Sequence[int], top: int = 5) -> Page:
    """What a model says of one text [T] with the tokens at `places` hidden.

    A [MASK] among `ids` has no known truth. Raises `InputError` if `top` is out of range.
    """
    mask, asked = tokenizer.special.mask, torch.tensor([list(ids)])
    positions = torch.tensor(sorted(places), dtype=torch.long)  # [K]
    labels = asked[0, positions]
    asked[0, positions] = mask
    return guess_page(model, tokenizer, Masked(asked, positions, labels.masked_fill(
        labels == mask, -1)), top)


def question(model: BertForMaskedLM, tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text.

    Raises `InputError` if it has no [MASK] or more tokens than the model takes, if it cannot be
    encoded, or if the model predicts no hidden words.
    """
    if model.config.causal:
        raise InputError("This model predicts the next token and no hidden words; let it write "
                         "with bertlib.gpt.")
    ids, max_tokens = tokenizer.encode(text), model.config.seq_len
    if tokenizer.special.mask not in ids:
        raise InputError(f"The text {short(text, 60)} has no [MASK]; put one where to guess.")
    if len(ids) > max_tokens:
        raise InputError(f"The text {short(text, 60)} has {len(ids)} tokens, the model takes at "
                         f"most {max_tokens}; shorten it.")
    return ids


@torch.no_grad()
def answers(model: BertForMaskedLM, tokenizer: Tokenizer, questions: Sequence[list[int]],
            top: int = 5) -> list[list[list[Guess]]]:
    """For each question the `top` guesses at each [MASK], best first, in the questions' order.

    Questions of about one length go through the model together, the shorter ones padded.
    """
    check_top(top, tokenizer)
    special = tokenizer.special
    found: list[list[list[Guess]]] = [[] for _ in questions]
    order = sorted(range(len(questions)), key=lambda number: len(questions[number]))
    while order:
        longest = len(questions[order[-1]])
        count = max(1, TOKENS_AT_ONCE // longest)
        batch, order = order[-count:], order[:-count]
        ids = torch.full((len(batch), longest), special.pad)  # [B, T]
        for row, number in zip(ids, batch, strict=True):
            row[: len(questions[number])] = torch.tensor(questions[number])
        lengths = torch.tensor([len(questions[number]) for number in batch])
        real = torch.arange(longest) < lengths[:, None]  # [B, T]
        positions = (ids == special.mask).flatten().nonzero().flatten()  # [K]
        logits = in_evaluation(model, ids, positions, None if real.all() else real)  # [K, V]
        best = logits.softmax(-1).topk(top)
        for place, shares, words in zip(positions.tolist(), *map(Tensor.tolist, best), strict=True):
            guesses = list(map(Guess, tokenizer.tokens(words), shares))
            found[batch[place // longest]].append(guesses)
    return found


def fill(model: BertForMaskedLM, tokenizer: Tokenizer, text: str, top: int = 5):
    """The `top` guesses for each [MASK] in `text`, best first: one list of `Guess` a mask.

    Raises `InputError` as `question` does, and if `top` is out of range.
    """
    return answers(model, tokenizer, [question(model, tokenizer, text)], top)[0]


@torch.no_grad()
def word_shares(model: BertForMaskedLM, tokenizer: Tokenizer, ids: Tensor) -> Tensor:
    """The probability of each true token when it alone is hidden: ids [T] -> [T].

    Specials have 1, and a [MASK], behind which nobody knows a word, has NaN. The puzzles go
    through the model many at a time. The sum of the logarithms is the pseudo-log-likelihood of
    Salazar et al. 2020, section 2.
    """
    special = tokenizer.special
    ordinary = ~torch.isin(ids, torch.tensor([special.cls, special.sep, special.pad, special.mask]))
    places = ordinary.nonzero().flatten()
    shares = torch.ones(len(ids))
    shares[ids == special.mask] = torch.nan
    for some in places.split(max(1, TOKENS_AT_ONCE // len(ids))):
        batch = ids.repeat(len(some), 1)  # [n, T]
        rows = torch.arange(len(some))
        batch[rows, some] = special.mask
        logits = in_evaluation(model, batch, rows * len(ids) + some)  # [n, V]
        shares[some] = logits.softmax(-1)[rows, ids[some]]
    return shares


@torch.no_grad()
def attention_maps(model: BertForMaskedLM, ids: Tensor) -> Tensor:
    """What every head of a model reads: ids [B, T] -> weights [n_layer, B, H, T, T].

    Dropout is off; the model is left in the mode it was in.
    """
    encoder, states, maps = model.encoder, list[Tensor](), list[Tensor]()
    ids = ids.to(next(model.parameters()).device)
    with evaluation(model):
        encoder(ids, layers=states)  # the state before each block, and the last
        bias = encoder.scores_bias(ids, None)
        for block, x in zip(encoder.blocks, states[:-1], strict=True):
            seen = block.attention_norm(x) if block.pre_norm else x
            maps.append(block.attention.weights(seen, bias))
    return torch.stack(maps).cpu()


def guess_chunk(model: BertForMaskedLM, data: Dataset, number: int, masker: Masker,
                tokenizer: Tokenizer, top: int = 5) -> Page:
    """The model's guesses at the frozen masks of one chunk of a dataset."""
    return guess_page(model, tokenizer, data.frozen(slice(number, number + 1), masker), top)


def answer_file(model: BertForMaskedLM, tokenizer: Tokenizer, path: Path, top: int) -> None:
    """Print a JSON line for each line of a file, and the speed on stderr; all or nothing."""
    texts, questions, begin = read_questions(path), [], time.perf_counter()
    for place, text in texts.items():
        try:
            questions.append(question(model, tokenizer, text))
        except InputError as error:
            raise InputError(f"{place}: {error}") from None
    found = answers(model, tokenizer, questions, top)
    seconds = time.perf_counter() - begin
    for text, holes in zip(texts.values(), found, strict=True):
        plain = [[{"token": token, "probability": round(share, 6)} for token, share in guesses]
                 for guesses in holes]
        print(json.dumps({"text": text, "guesses": plain}))
    print(f"{len(texts):,} sentences in {seconds:.2f} s: {len(texts) / seconds:,.0f} sentences/s",
          file=sys.stderr)


def main(arguments: list[str] | None = None) -> None:
    """Answer one text, or a file of texts, as the command line says."""
    parse = Parser(prog="bertlib.predict", description=__doc__)
    parse.add_argument("text", nargs="?", help="a text with [MASK] where to guess")
    parse.add_argument("--file", type=Path, help="one text a line; the answers are JSON lines")
    parse.add_argument("--model", type=Path, default=MODEL, help="a folder that holds a model")
    parse.add_argument("--top", type=int, default=5, help="how many guesses for each [MASK]")
    given = parse.parse_args(arguments)
    if (given.text is None) == (given.file is None):
        raise InputError("Pass either one text in quotes or --file with one text a line.")
    model, tokenizer = load(given.model)
    check_top(given.top, tokenizer)
    if given.file is not None:
        return answer_file(model, tokenizer, given.file, given.top)
    for number, guesses in enumerate(fill(model, tokenizer, given.text, given.top), 1):
        print(f"[MASK] {number}")
        for token, share in guesses:
            print(f"  {token:16} {percent(share):>10}")
    return None


if __name__ == "__main__":
    sys.exit(run_command(main))
