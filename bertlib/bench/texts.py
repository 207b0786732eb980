"""How a trained GPT writes, beside people: repetition, surprise, and what keeping keys saves.

Example usage:
python -m bertlib.bench texts --model wiki/runs/run0 --out assets/10_gpt
"""

import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.data import Dataset, ensure_datasets, load_dataset
from bertlib.gpt import newest_gpt, next_shares, sample
from bertlib.huggingface import load
from bertlib.masking import NextToken
from bertlib.parameters import RULE, base_folder
from bertlib.plumbing.commands import Parser
from bertlib.plumbing.device import machine_name
from bertlib.plumbing.files import atomic_write, check_output_folder
from bertlib.plumbing.records import read_json, write_json
from bertlib.plumbing.runs import Identity
from bertlib.tokens import Tokenizer

HOW: dict[str, dict[str, float]] = {  # ways to draw, by their names in the lesson
    "temperature 0": dict(temperature=0.0), "temperature 0.5": dict(temperature=0.5),
    "temperature 0.8": dict(temperature=0.8), "temperature 1": {},
    "temperature 2": dict(temperature=2.0), "top-k 40": dict(top_k=40),
    "top-p 0.9": dict(top_p=0.9),
}
NEXT = ("the king", "the united")  # an open question and a closed one: what comes next?
PROMPTS = ("The king", "She was very", "The river flows", "We must protect")
LENGTH, AGAIN = 60, 6  # tokens of a text after its prompt; texts for each prompt and way
RUN = 4  # tokens of a run that counts as said before
PLACES = ((1, 4), (5, 16), (17, 64), (65, 126))  # of a token in its chunk


def repeated(ids: Sequence[int], begin: int) -> float:
    """The share of runs of `RUN` tokens, ending at `begin` or later, that stood there before."""
    runs = [tuple(ids[n - RUN + 1:n + 1]) for n in range(RUN - 1, len(ids))]
    ends = range(max(begin - RUN + 1, 0), len(runs))
    return sum(runs[n] in runs[:n] for n in ends) / max(1, len(ends))


@torch.no_grad()
def surprises(model: BertForMaskedLM, ids: Tensor) -> Tensor:
    """-ln of what the model gave to each token but the first: ids [B, T] -> [B, T - 1]."""
    logits = model(ids[:, :-1]).logits  # [B, T - 1, V]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(),
                           reduction="none").view(len(ids), -1)


def judge(model: BertForMaskedLM, rows: Sequence[tuple[Tensor, int]]) -> dict[str, float]:
    """Mean surprise (nats a token) and repetition of texts [T], each from its token `begin` on."""
    return {
        "count": len(rows),
        "surprise": statistics.mean(surprises(model, ids[None])[0, begin - 1:].mean().item()
                                    for ids, begin in rows),
        "repeated": statistics.mean(repeated(ids.tolist(), begin) for ids, begin in rows),
    }


def people(val: Dataset, begin: int) -> list[tuple[Tensor, int]]:
    """Texts of people, as long as the written ones: the beginnings of some validation chunks."""
    count = len(PROMPTS) * AGAIN
    chunks = val.chunks(slice(None))[::max(1, len(val) // count)]
    return [(ids[:begin + LENGTH], begin) for ids in chunks[:count]]


def written(model: BertForMaskedLM, tokenizer: Tokenizer) -> dict[str, Any]:
    """For each way to draw: the first text of each prompt, and the figures of all its texts."""
    ways = {}
    for name, how in HOW.items():
        rows: list[tuple[Tensor, int]] = []
        texts: dict[str, str] = {}
        for prompt in PROMPTS:
            begun = torch.tensor(tokenizer.encode(prompt)[:-1])  # [T], without the [SEP]
            generator = torch.Generator().manual_seed(1)
            for _ in range(1 if how.get("temperature") == 0 else AGAIN):
                ids = sample(model, begun, LENGTH, generator=generator,
                             stop=tokenizer.special.sep, **how)  # type: ignore[arg-type]
                texts.setdefault(prompt, tokenizer.decode(ids.tolist()))
                rows.append((ids, len(begun)))
        ways[name] = {"texts": texts, **judge(model, rows)}
    return ways


@torch.no_grad()
def by_place(model: BertForMaskedLM, val: Dataset, tokenizer: Tokenizer) -> list[list[float]]:
    """[first place, last place, mean loss] of the tokens there, in the chunks that validate."""
    asked = NextToken(tokenizer).maskable
    sums = torch.zeros(2, val.ids.shape[1] - 1, dtype=torch.float64)  # nats, tokens
    for start in range(0, len(val), 64):
        ids = val.chunks(slice(start, start + 64))  # [B, T]
        counts = asked[ids[:, 1:]]  # [B, T - 1]
        sums += torch.stack(((surprises(model, ids) * counts).sum(0), counts.sum(0)))
    return [[low, high, float(sums[0, low - 1:high].sum() / sums[1, low - 1:high].sum())]
            for low, high in PLACES if high < val.ids.shape[1]]


@torch.no_grad()
def time_cache(model: BertForMaskedLM, ids: Tensor, n: int, rounds: int = 3) -> dict[str, float]:
    """Seconds to write `n` tokens after ids [T], keys and values kept or computed anew."""
    kept, anew = [], []
    for _ in range(rounds):
        start = time.perf_counter()
        sample(model, ids, n, temperature=0.0)
        kept.append(time.perf_counter() - start)
        start, text = time.perf_counter(), ids
        for _ in range(n):
            last = torch.tensor([len(text) - 1])  # nothing else goes through the head
            shares = next_shares(model(text[None], positions=last).logits[0], 0.0)  # [V]
            text = torch.cat((text, torch.multinomial(shares, 1)))
        anew.append(time.perf_counter() - start)
    return {"tokens": n, "kept": statistics.median(kept), "anew": statistics.median(anew)}


def bench_texts(arguments: list[str]) -> None:
    """Let a trained GPT write, and measure how its texts differ from those of people."""
    parse = Parser(prog="bench texts", description=bench_texts.__doc__)
    parse.add_argument("--model", type=Path, help="a GPT's run (default: the newest)")
    parse.add_argument("--base", help=f"the base folder; {RULE} (default: the course's wiki/)")
    parse.add_argument("--out", type=Path, required=True,
                       help="the folder for texts.json and next.safetensors")
    given = parse.parse_args(arguments)
    check_output_folder(given.out)
    base = base_folder(given.base)
    folder = given.model or newest_gpt(base)
    model, tokenizer = load(folder, causal=True)
    report = read_json(folder / "report.json", dict[str, Any], "take a run that ended")
    label = Identity.read(folder).label
    val = load_dataset(ensure_datasets(base, label, model.config.seq_len).val, tokenizer)
    begun = torch.tensor(tokenizer.encode(PROMPTS[0])[:-1])
    facts: dict[str, Any] = {
        "run": report, "machine": machine_name(torch.device("cpu")),
        "threads": torch.get_num_threads(), "length": LENGTH, "seed": 1,
        "by_place": by_place(model, val, tokenizer),
        "cache": time_cache(model, begun, model.config.seq_len - 1 - len(begun)),
        "people": judge(model, people(val, len(begun))), "ways": written(model, tokenizer),
    }
    write_json(given.out / "texts.json", facts)
    with torch.no_grad(), atomic_write(given.out / "next.safetensors") as stream:
        begun = torch.tensor([tokenizer.encode(prompt)[:-1] for prompt in NEXT])  # [2, T]
        stream.write(save(dict(zip(NEXT, model(begun).logits[:, -1].clone(), strict=True))))
    for name, way in {"people": facts["people"], **facts["ways"]}.items():
        print(f"{name:16} surprise {way['surprise']:.2f} nats, repeated {way['repeated']:.1%}")
