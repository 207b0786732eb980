"""Hugging Face's BertForMaskedLM beside ours: the same random weights in both, for the tests.

`python tests/parity.py` writes assets/reference anew: a tiny BERT in Hugging Face's layout and
what each of its parts gives, so that the notebooks can compare without `transformers`.
"""

import torch
from safetensors.torch import save_file
from transformers import BertConfig as TheirConfig
from transformers import BertForMaskedLM as TheirModel

from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.huggingface.published import their_name
from bertlib.plumbing.files import PROJECT
from bertlib.plumbing.vocab import SPECIAL_TOKENS, save_vocab

REFERENCE = PROJECT / "assets" / "reference"


def their_model(vocab_size: int, seq_len: int, width: int = 64, layers: int = 3) -> TheirModel:
    """A small BERT of theirs with random weights that are large enough to matter."""
    torch.manual_seed(0)
    theirs = TheirModel(TheirConfig(
        vocab_size=vocab_size, hidden_size=width, num_hidden_layers=layers,
        num_attention_heads=4, intermediate_size=4 * width, max_position_embeddings=seq_len,
        pad_token_id=0, initializer_range=0.2,
    )).eval()
    torch.nn.init.normal_(theirs.cls.predictions.bias)
    return theirs


def pair(vocab_size: int = 97, seq_len: int = 40) -> tuple[BertForMaskedLM, TheirModel]:
    """Two models of BERT's published shape in small, with the same random weights."""
    theirs = their_model(vocab_size, seq_len)
    ours = BertForMaskedLM(BertConfig.preset(
        "bert_base", vocab_size=vocab_size, seq_len=seq_len, d_model=64, n_layer=3, n_head=4,
    )).eval()
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[their_name(name)] for name in ours.state_dict()})
    return ours, theirs


@torch.no_grad()
def parts(theirs: TheirModel) -> dict[str, torch.Tensor]:
    """What each part gives for two sentences, the second one padded: see the names."""
    ids = torch.randint(5, theirs.config.vocab_size, (2, 12))  # [B, T]
    ids[1, 9:] = 0
    seen = {"input_ids": ids, "attention_mask": ids != 0}
    names = {"bert.embeddings": "embeddings", "bert.encoder.layer.0.attention.self": "mixed_0",
             "bert.encoder.layer.0.attention": "attention_0", "bert.encoder.layer.0": "block_0",
             "bert.encoder.layer.1": "block_1", "cls.predictions.transform": "transform"}
    for name, module in theirs.named_modules():
        if name in names:
            module.register_forward_hook(lambda _module, _args, given, key=names[name]:
                seen.__setitem__(key, given[0] if isinstance(given, tuple) else given))
    labels = torch.full_like(ids, -100)
    labels[0, [2, 5]], labels[1, 3] = torch.tensor([7, 11]), 13
    out = theirs(ids, attention_mask=seen["attention_mask"], labels=labels)
    return seen | {"labels": labels, "logits": out.logits, "loss": out.loss}


def write_reference() -> None:
    """Make assets/reference."""
    theirs = their_model(vocab_size=97, seq_len=16, width=32, layers=2)
    theirs.save_pretrained(REFERENCE)
    (REFERENCE / "generation_config.json").unlink(missing_ok=True)
    save_vocab([*SPECIAL_TOKENS, *(f"word{n}" for n in range(92))], REFERENCE / "vocab.txt")
    save_file({name: tensor.contiguous() for name, tensor in parts(theirs).items()},
              REFERENCE / "expected.safetensors")


if __name__ == "__main__":
    write_reference()
