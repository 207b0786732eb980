"""Copy weights between Hugging Face's BertForMaskedLM and ours, for the tests."""

import torch
from transformers import BertConfig as TheirConfig
from transformers import BertForMaskedLM as TheirModel

from bertlib.bert import BertConfig, BertForMaskedLM

OUTSIDE = {
    "encoder.embeddings.token.weight": "bert.embeddings.word_embeddings.weight",
    "encoder.embeddings.position.weight": "bert.embeddings.position_embeddings.weight",
    "encoder.embeddings.token_type.weight": "bert.embeddings.token_type_embeddings.weight",
    "encoder.embeddings.norm": "bert.embeddings.LayerNorm",
    "head.transform": "cls.predictions.transform.dense",
    "head.norm": "cls.predictions.transform.LayerNorm",
    "head.decoder.weight": "bert.embeddings.word_embeddings.weight",
    "head.decoder.bias": "cls.predictions.bias",
}
IN_BLOCK = {
    "attention.query": "attention.self.query", "attention.key": "attention.self.key",
    "attention.value": "attention.self.value", "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm", "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense", "ffn_norm": "output.LayerNorm",
}


def their_name(name: str) -> str:
    """The Hugging Face name of one of our parameters."""
    if name in OUTSIDE:
        return OUTSIDE[name]
    stem, kind = name.rsplit(".", 1)
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.{kind}"
    _, _, number, inside = stem.split(".", 3)
    return f"bert.encoder.layer.{number}.{IN_BLOCK[inside]}.{kind}"


def pair(vocab_size: int = 97, seq_len: int = 40) -> tuple[BertForMaskedLM, TheirModel]:
    """Two models of BERT's published shape in small, with the same random weights."""
    torch.manual_seed(0)
    theirs = TheirModel(TheirConfig(
        vocab_size=vocab_size, hidden_size=64, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=256, max_position_embeddings=seq_len, pad_token_id=0,
        initializer_range=0.2,
    )).eval()
    ours = BertForMaskedLM(BertConfig.preset(
        "bert_base", vocab_size=vocab_size, seq_len=seq_len, d_model=64, n_layer=3, n_head=4,
    )).eval()
    torch.nn.init.normal_(theirs.cls.predictions.bias)
    weights = theirs.state_dict()
    ours.load_state_dict({name: weights[their_name(name)] for name in ours.state_dict()})
    return ours, theirs
