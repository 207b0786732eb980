"""`python tests/parity_gpt2.py` writes assets/10_gpt/reference anew: a tiny GPT-2 of transformers.

Beside its random weights lie what it computed of two rows of ids and what it goes on to write, so
that notebook 10 can compare without `transformers`.
"""

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from bertlib.plumbing.files import PROJECT

REFERENCE = PROJECT / "assets" / "10_gpt" / "reference"
V, T = 97, 24


def their_model(folder: Path, **changes) -> GPT2LMHeadModel:
    """A small GPT-2 of theirs in which every number matters, saved in `folder`."""
    torch.manual_seed(0)
    theirs = GPT2LMHeadModel(GPT2Config(**dict(
        vocab_size=V, n_positions=T, n_embd=32, n_layer=2, n_head=4, bos_token_id=0,
        eos_token_id=0) | changes)).eval()
    for parameter in theirs.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    theirs.save_pretrained(folder)
    return theirs


@torch.no_grad()
def computed(theirs: GPT2LMHeadModel) -> dict[str, torch.Tensor]:
    """Ids [B, T], their logits [B, T, V], the loss, and the likeliest text after three ids."""
    ids = torch.randint(1, V, (2, 12), generator=torch.Generator().manual_seed(1))
    out, begun = theirs(ids, labels=ids), ids[:1, :3]
    text = theirs.generate(begun, attention_mask=torch.ones_like(begun), do_sample=False,
                           max_new_tokens=12)[0]
    return {"input_ids": ids, "logits": out.logits.contiguous(), "loss": out.loss, "written": text}


if __name__ == "__main__":
    save_file(computed(their_model(REFERENCE)), REFERENCE / "expected.safetensors")
    (REFERENCE / "generation_config.json").unlink(missing_ok=True)
