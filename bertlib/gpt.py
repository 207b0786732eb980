"""GPT: a BERT that may not look ahead, predicts the next token, and so can write.

`BertConfig.preset("gpt")` is its shape, `masking.NextToken` its puzzle; all else of learning is as
before. Here it writes. Sources: Radford et al. 2019 (GPT-2), section 2.3; Holtzman et al. 2020,
section 3 (top-p, top-k, temperature).

Example usage:
pretrain-bert --preset cpu --architecture gpt --start counts
python -m bertlib.gpt "The king"
python -m bertlib.gpt "The king" --model wiki/runs/run0 --temperature 0.8 --top-k 40 --tokens 60
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bertlib.bert import BertForMaskedLM
from bertlib.checkpoint import Checkpoints
from bertlib.huggingface import load
from bertlib.parameters import base_folder
from bertlib.plumbing.commands import Parser, run_command
from bertlib.plumbing.files import InputError, note, short
from bertlib.plumbing.runs import Identity, Unreadable, numbered_runs
from bertlib.predict import evaluation
from bertlib.settings import Limits
from bertlib.tokens import Tokenizer

TRAIN = "pretrain-bert --preset cpu --architecture gpt --start counts"
LIMITS = {
    "temperature": Limits(0.01, 100), "top_k": Limits(0, 10**9),
    "top_p": Limits(0, 1, open_low=True), "tokens": Limits(1, 10**9),
    "samples": Limits(1, 10**9), "seed": Limits(0, 2**63, open_high=True),
}


def next_logits(model: BertForMaskedLM, ids: Tensor, pasts: Sequence[list[Tensor]]) -> Tensor:
    """What comes after ids [B, T]: logits [B, V]. Only tokens that are new are computed.

    pasts: a list for each block, empty at first. It keeps the keys and values of ids: nobody looks
    ahead, so that they stay what they are, whatever is written after them.
    """
    encoder, start = model.encoder, sum(part.shape[-2] for part in pasts[0])
    bias = encoder.scores_bias(ids, None)  # [T, T], a row for each token that reads
    assert bias is not None  # it hides what comes later
    x = encoder.embeddings(ids[:, start:], first=start)  # [B, T - start, D]
    for block, past in zip(encoder.blocks, pasts, strict=True):
        x = block(x, bias[..., start:, :], past=past)
    return model.head(encoder.final_norm(x[:, -1])).float()  # [B, V]


def next_shares(logits: Tensor, temperature: float = 1.0, top_k: int = 0,
                top_p: float = 1.0) -> Tensor:
    """The probability that each token is drawn with: logits [.., V] -> [.., V].

    temperature: logits are divided by it; 0 takes the likeliest token. top_k: only so many tokens,
    the likeliest ones (more if the last of them are equal); 0: all. top_p: of these the fewest
    that have this share of the probability. Raises `InputError` for values beyond `LIMITS`.
    """
    check(temperature=temperature, top_k=top_k, top_p=top_p)
    if temperature == 0:
        return F.one_hot(logits.argmax(-1), logits.shape[-1]).float()
    shares = (logits / temperature).softmax(-1)
    if 0 < top_k < logits.shape[-1]:
        least = shares.topk(top_k).values[..., -1:]  # [.., 1]
        shares = shares.where(shares >= least, 0)
        shares = shares / shares.sum(-1, keepdim=True)
    if top_p < 1:
        best, order = shares.sort(descending=True)
        likelier = best.cumsum(-1) - best  # the share of all that are before it
        shares = shares.scatter(-1, order, best.where(likelier < top_p, 0))
    return shares / shares.sum(-1, keepdim=True)


@torch.no_grad()
def sample(model: BertForMaskedLM, ids: Tensor, n: int, temperature: float = 1.0, top_k: int = 0,
           top_p: float = 1.0, generator: torch.Generator | None = None,
           stop: int | None = None) -> Tensor:
    """Write up to `n` tokens after ids [T], each drawn by `next_shares`: returns [T + up to n].

    It ends after the token `stop`, such as [SEP], and where the context is full: the last place is
    left free, as that of a chunk's [SEP] is in training. The same `generator` (of the CPU) draws
    the same. Raises `InputError` if ids leave no room, if the model predicts hidden words, and as
    `next_shares`.
    """
    room = model.config.seq_len - 1 - len(ids)
    if not model.config.causal:
        raise InputError("A model that predicts hidden words cannot write; take a GPT.")
    if room < 1 or not len(ids):
        raise InputError(f"The text to go on with has {len(ids)} tokens; for this model it must "
                         f"have 1..{model.config.seq_len - 2}.")
    ids = ids.to(next(model.parameters()).device)
    pasts: list[list[Tensor]] = [[] for _ in model.encoder.blocks]
    with evaluation(model):
        for _ in range(min(n, room)):
            logits = next_logits(model, ids[None], pasts)[0]  # [V]
            shares = next_shares(logits.cpu(), temperature, top_k, top_p)
            drawn = torch.multinomial(shares, 1, generator=generator)  # [1]
            ids = torch.cat((ids, drawn.to(ids.device)))
            if drawn == stop:
                break
    return ids.cpu()


def check(**values: float) -> None:
    """`InputError` for the first of some values that is beyond its `LIMITS`."""
    for name, value in values.items():
        greedy = name == "temperature"  # 0: the likeliest token
        if not (LIMITS[name].hold(value) or greedy and value == 0):
            more = ", or 0" if greedy else ""
            raise InputError(f"{name} is {short(value)}; it {LIMITS[name]}{more}.")


def write(model: BertForMaskedLM, tokenizer: Tokenizer, text: str, n: int, **how) -> str:
    """Go on with a text, by up to `n` tokens and up to the end of a document; `how` as `sample`."""
    begun = torch.tensor(tokenizer.encode(text)[:-1])  # [CLS] and the text; the [SEP] would end it
    return tokenizer.decode(sample(model, begun, n, stop=tokenizer.special.sep, **how).tolist())


def newest_gpt(base: Path) -> Path:
    """The newest run below `base`/runs whose model predicts the next token and was saved.

    A run that is still learning counts. Raises `InputError` if there is none.
    """
    for folder in reversed(numbered_runs(base)):
        try:
            is_gpt = bool(Identity.read(folder).model.get("causal"))
        except Unreadable as error:
            note(f"'{folder}' is left alone: {error}")
            continue
        if is_gpt and Checkpoints(folder / "checkpoints").entries:
            return folder
    raise InputError(f"There is no GPT in '{base / 'runs'}' yet; train one with {TRAIN}, or pass "
                     "the folder of one as --model.")


def main(arguments: list[str] | None = None) -> None:
    """Write as the command line says."""
    parse = Parser(prog="bertlib.gpt", description=__doc__)
    parse.add_argument("text", nargs="?", default="", help="how it begins")
    parse.add_argument("--model", type=Path,
                       help="the folder of a GPT's run; without it, the newest in wiki/runs")
    parse.add_argument("--tokens", type=int, default=60, help="to write, at most")
    parse.add_argument("--temperature", type=float, default=1.0, help="0: the likeliest token")
    parse.add_argument("--top-k", type=int, default=0, help="draw from so many tokens; 0: all")
    parse.add_argument("--top-p", type=float, default=1.0, help="from those with this share")
    parse.add_argument("--samples", type=int, default=1, help="how many to write")
    parse.add_argument("--seed", type=int, default=1)
    given = parse.parse_args(arguments)
    how = dict(temperature=given.temperature, top_k=given.top_k, top_p=given.top_p)
    check(tokens=given.tokens, samples=given.samples, seed=given.seed, **how)
    if given.model is None:
        given.model = newest_gpt(base_folder())
        note(f"'{given.model}' writes, the newest GPT there; another one is chosen with --model")
    model, tokenizer = load(given.model, causal=True)
    generator = torch.Generator().manual_seed(given.seed)
    for _ in range(given.samples):
        print(write(model, tokenizer, given.text, given.tokens, **how, generator=generator))


if __name__ == "__main__":
    sys.exit(run_command(main))
