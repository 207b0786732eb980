"""The model of notebook 05 is taken in any style, and its mistakes are told apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertlib.bert import BertForMaskedLM, Embeddings, Encoder, MLMHead, MLMOutput
from bertlib.blocks import Block
from bertlib.checks.model import check_embeddings, check_encoder, check_head, check_model


class Entrance(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.d_model)
        self.position = nn.Embedding(config.seq_len, config.d_model)
        self.token_type = nn.Embedding(config.n_token_type, config.d_model)
        self.norm, self.p = nn.LayerNorm(config.d_model, config.norm_eps), config.dropout

    def parts(self, ids, types):
        where = torch.arange(ids.shape[1]).expand_as(ids)
        return self.token(ids), self.position(where), self.token_type(
            ids * 0 if types is None else types)

    def forward(self, input_ids, token_type_ids=None):
        return F.dropout(self.norm(sum(self.parts(input_ids, token_type_ids))), self.p,
                         self.training)


def entrance(make, **names):
    """`Entrance` with another way to make one of its parts: (self, token, places, types)."""
    def forward(self, ids, types=None):
        return F.dropout(make(self, *self.parts(ids, types)), self.p, self.training)
    return type("Other", (Entrance,), {"forward": forward, **names})


def types_only_if_given(self, ids, types=None):
    token, places, typed = self.parts(ids, types)
    return F.dropout(self.norm(token + places + (0 if types is None else typed)), self.p,
                     self.training)


def place_by(where):
    """Positions looked up by something else: ids [B, T] -> numbers [B, T]."""
    def forward(self, ids, types=None):
        token, _, typed = self.parts(ids, types)
        places = self.position(where(ids).expand_as(ids) % self.position.num_embeddings)
        return F.dropout(self.norm(token + places + typed), self.p, self.training)
    return entrance(None, forward=forward)


def one_table(self, config):
    Entrance.__init__(self, config)
    self.position = nn.Parameter(torch.zeros(config.seq_len, config.d_model))


def words_only(self, config):
    nn.Module.__init__(self)
    self.token = nn.Embedding(config.vocab_size, config.d_model)


class Stack(nn.Module):
    """The same parts as `Encoder`, joined in a loop."""

    def __init__(self, config):
        super().__init__()
        self.embeddings = Entrance(config)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.n_layer)])

    def order(self):
        return list(self.blocks)

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, keep=None):
        bias, x = None, self.embeddings(input_ids, token_type_ids)
        if attention_mask is not None:
            bias = torch.where(attention_mask, 0.0, -torch.inf)[:, None, None]
        blocks = self.order()
        for number, block in enumerate(blocks):
            x = block(x, bias, keep if number == len(blocks) - 1 else None)
        return x


def stack(order):
    """`Stack` that takes its blocks in another order."""
    return type("Other", (Stack,), {"order": lambda self: order(list(self.blocks))})


def own(forward, base=Stack, **names):
    return type("Other", (base,), {"forward": forward, **names})


def early_keep(self, ids, mask=None, types=None, keep=None):
    hidden = Stack.forward(self, ids, mask, types)
    return hidden if keep is None else hidden[0][keep % ids.shape[1]]


def plain_list(self, config):
    Stack.__init__(self, config)
    del self.blocks
    self.blocks = [Block(config) for _ in range(config.n_layer)]


class Exit(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.decoder = nn.Linear(config.d_model, config.vocab_size)
        self.transform = nn.Linear(config.d_model, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps)

    def forward(self, x):
        return self.decoder(self.norm(F.gelu(self.transform(x))))


def leave(make):
    return type("Other", (Exit,), {"forward": make})


class Whole(nn.Module):
    """BERT, put together from the learner's own parts."""

    def __init__(self, config):
        super().__init__()
        self.encoder, self.head = Stack(config), Exit(config)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                module.weight.data.normal_(0, config.init_std)
            if isinstance(module, nn.Linear) and module.bias is not None:
                module.bias.data.zero_()
        for block in self.encoder.blocks if config.zero_init else ():
            block.attention.output.weight.data.zero_()
            block.feed_forward.down.weight.data.zero_()
        self.head.decoder.weight = self.encoder.embeddings.token.weight

    def loss(self, logits, labels):
        return F.cross_entropy(logits.flatten(0, -2), labels.flatten())

    def logits(self, ids, positions, mask, types):
        return self.head(self.encoder(ids, mask, types, positions))

    def forward(self, input_ids, positions=None, labels=None, attention_mask=None,
                token_type_ids=None):
        logits = self.logits(input_ids, positions, attention_mask, token_type_ids)
        return logits, None if labels is None else self.loss(logits, labels)


def whole(**names):
    return type("Other", (Whole,), names)


def begun(change):
    def __init__(self, config):
        Whole.__init__(self, config)
        change(self, config)
    return whole(__init__=__init__)


def copied(self, config):
    self.head.decoder.weight = nn.Parameter(self.encoder.embeddings.token.weight.clone())


def all_positions(self, ids, positions, mask, types):
    logits = self.head(self.encoder(ids, mask, types))
    return logits if positions is None else logits.flatten(0, 1)[positions]


RIGHT = [
    (check_embeddings, Embeddings), (check_embeddings, Entrance),
    (check_encoder, Encoder), (check_encoder, Stack),
    (check_head, MLMHead), (check_head, Exit),
    (check_model, BertForMaskedLM), (check_model, Whole),
]

WRONG = [
    (check_embeddings, entrance(lambda s, t, p, y: t + p + y), "the norm is missing"),
    (check_embeddings, entrance(lambda s, t, p, y: s.norm(t + y)), "positions are missing"),
    (check_embeddings, entrance(lambda s, t, p, y: s.norm(t)), "only the words"),
    (check_embeddings, entrance(lambda s, t, p, y: s.norm(t) + p + y), "before the rest"),
    (check_embeddings, entrance(lambda s, t, p, y: s.norm(t * p + y)), "multiplied"),
    (check_embeddings, entrance(None, forward=types_only_if_given), "row 0 is added"),
    (check_embeddings, entrance(None, forward=lambda s, ids, types=None: Entrance.forward(s, ids)),
     "are not looked up"),
    (check_embeddings, place_by(lambda ids: ids), "looked up by the token's id"),
    (check_embeddings, place_by(lambda ids: 1 + torch.arange(ids.shape[1])), "begin at 1"),
    (check_embeddings, place_by(lambda ids: torch.arange(len(ids))[:, None]), "its row in the"),
    (check_embeddings, entrance(lambda s, t, p, y: s.norm(F.dropout(t + p + y, 0.5))),
     "two calls differ"),
    (check_embeddings, entrance(None, forward=lambda s, ids, types=None: s.norm(sum(
        s.parts(ids, types)))), "not used in training"),
    (check_embeddings, entrance(None, forward=Entrance.forward, __init__=one_table),
     "'position.weight' is missing; there is 'position' instead"),
    (check_embeddings, entrance(None, forward=Entrance.forward, __init__=words_only),
     "its part `norm` is missing"),
    (check_encoder, stack(lambda blocks: blocks[-1:]), "only the last block"),
    (check_encoder, stack(lambda blocks: blocks[::-1]), "from the last to the first"),
    (check_encoder, stack(lambda blocks: blocks[:1] * 3), "again and again"),
    (check_encoder, stack(lambda blocks: blocks[:-1]), "the last block is left out"),
    (check_encoder, own(lambda s, ids, mask=None, *a, **k: Stack.forward(s, ids, None, *a, **k)),
     "attention_mask is not used"),
    (check_encoder, own(lambda s, ids, mask=None, *a, **k: Stack.forward(
        s, ids, None if mask is None else ~mask, *a, **k)), "upside down"),
    (check_encoder, own(lambda s, ids, mask=None, types=None, keep=None: s.embeddings(ids, types)),
     "the blocks are missing"),
    (check_encoder, stack(lambda blocks: [*blocks, blocks[-1]]), "used twice"),
    (check_encoder, own(early_keep), "in the flattened batch"),
    (check_encoder, own(lambda s, ids, mask=None, types=None, keep=None: Stack.forward(
        s, ids, mask, types)), "keep is not heeded"),
    (check_encoder, own(lambda s, ids, mask=None, types=None, keep=None: Stack.forward(
        s, ids, mask, None, keep)), "token_type_ids are not handed on"),
    (check_encoder, own(Stack.forward, __init__=plain_list), "make it an nn.ModuleList"),
    (check_head, leave(lambda s, x: s.decoder(x)), "transform and norm are not used"),
    (check_head, leave(lambda s, x: s.decoder(s.norm(s.transform(x)))), "GELU is missing"),
    (check_head, leave(lambda s, x: s.decoder(F.gelu(s.transform(x)))), "the norm is missing"),
    (check_head, leave(lambda s, x: s.decoder(F.gelu(s.norm(s.transform(x))))), "stands before"),
    (check_head, leave(lambda s, x: Exit.forward(s, x).softmax(-1)), "these are probabilities"),
    (check_head, leave(lambda s, x: s.norm(F.gelu(s.transform(x)))), "the shape is"),
    (check_model, begun(copied), "assign it, do not copy it"),
    (check_model, begun(lambda s, c: s.head.decoder.weight.data.normal_(0, 1)), "init_std is 0.05"),
    (check_model, begun(lambda s, c: s.head.decoder.bias.data.normal_()), "should begin with 0"),
    (check_model, begun(lambda s, c: s.encoder.blocks[0].feed_forward.down.weight.data.normal_(
        0, 0.05)), "with zero_init=True"),
    (check_model, whole(logits=all_positions), "the head works at all positions"),
    (check_model, whole(logits=lambda s, ids, p, m, t: s.head(s.encoder(ids, m, t))),
     "positions are not heeded"),
    (check_model, whole(logits=lambda s, ids, p, m, t: s.head(s.encoder(ids, None, t, p))),
     "attention_mask is not handed"),
    (check_model, whole(logits=lambda s, *g: Whole.logits(s, *g).log_softmax(-1)), "are normed"),
    (check_model, whole(loss=lambda s, x, y: F.cross_entropy(
        x.flatten(0, -2), y.flatten(), reduction="sum")), "added up"),
    (check_model, whole(loss=lambda s, x, y: F.cross_entropy(
        x.flatten(0, -2), y.flatten(), reduction="sum") / 10), "divided by all positions"),
    (check_model, whole(loss=lambda s, x, y: Whole.loss(s, x.softmax(-1), y)), "applied twice"),
    (check_model, whole(loss=lambda s, x, y: None), "is None, though labels"),
    (check_model, whole(loss=lambda s, x, y: F.cross_entropy(x, y)), "your line"),
    (check_model, whole(forward=lambda s, *g: Whole.forward(s, *g)[0]), "return two things"),
    (check_model, whole(forward=lambda s, ids, p=None, y=None, *g: MLMOutput(*Whole.forward(
        s, ids, p, p if y is None else y, *g))), "without labels the loss is None"),
    (check_model, BertForMaskedLM.forward, "hand over the class"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass_however_they_are_written(check, answer):
    assert check(answer) == "right"


@pytest.mark.parametrize(("check", "answer", "words"), WRONG)
def test_a_mistake_is_named(check, answer, words, diagnosed):
    diagnosed(check, answer, words)
