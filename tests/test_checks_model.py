"""The model of notebook 05 is taken in any style, and its mistakes are told apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bertlib.attention import padding_bias, sinusoids
from bertlib.bert import BertForMaskedLM, Embeddings, Encoder, MLMHead, MLMOutput
from bertlib.blocks import ACTIVATIONS, Block
from bertlib.checks.model import check_embedding_layer, check_encoder, check_head
from bertlib.checks.whole import check_model


class Entrance(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.token = nn.Embedding(config.vocab_size, config.d_model)
        if config.position == "learned":
            self.position = nn.Embedding(config.seq_len, config.d_model)
        self.fixed = sinusoids(config.seq_len, config.d_model)
        self.waves, self.p = config.position == "sinusoidal", config.dropout
        if config.n_token_type:
            self.token_type = nn.Embedding(config.n_token_type, config.d_model)
        self.norm = nn.LayerNorm(config.d_model, config.norm_eps, bias=config.bias)

    def parts(self, ids, types):
        where = torch.arange(ids.shape[1]).expand_as(ids)
        places = self.position(where) if hasattr(self, "position") else 0.0
        places = self.fixed[where] if self.waves else places
        kinds = ids * 0 if types is None else types
        return self.token(ids), places, self.token_type(kinds) if hasattr(
            self, "token_type") else 0.0

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


def types_never_given(self, ids, types=None):
    return Entrance.forward(self, ids)


def learned_waves(self, config):
    Entrance.__init__(self, config)
    if config.position == "sinusoidal":
        self.table = nn.Parameter(sinusoids(config.seq_len, config.d_model))


class Stack(Encoder):
    """The same parts, joined in a loop."""

    def bias(self, ids, mask):
        bias = 0 if mask is None else torch.where(mask, 0.0, -torch.inf)[:, None, None]
        if self.distance is not None:
            bias = bias + self.distance[..., :ids.shape[1], :ids.shape[1]]
        return bias if isinstance(bias, torch.Tensor) else None

    def forward(self, input_ids, attention_mask=None, token_type_ids=None, keep=None, layers=None):
        if input_ids.shape[-1] > self.config.seq_len:
            from bertlib.plumbing.files import InputError
            raise InputError("That is too long.")
        states = [self.embeddings(input_ids, token_type_ids)]
        bias = self.bias(input_ids, attention_mask)
        for number, block in enumerate(self.blocks):
            last = number == len(self.blocks) - 1
            states.append(block(states[-1], bias, keep if last else None))
        if layers is not None:
            layers.extend(states)
        return self.final_norm(states[-1])


def stack(blocks=list, **names):
    """`Stack` with other blocks: what is made of the list of them."""
    def forward(self, *given, **named):
        kept, self.blocks = self.blocks, nn.ModuleList(blocks(list(self.blocks)))
        try:
            return Stack.forward(self, *given, **named)
        finally:
            self.blocks = kept
    return type("Other", (Stack,), {"forward": forward, **names})


def own(forward, base=Stack, **names):
    return type("Other", (base,), {"forward": forward, **names})


def no_final_norm(self, *given, **named):
    kept, self.final_norm = self.final_norm, nn.Identity()
    try:
        return Stack.forward(self, *given, **named)
    finally:
        self.final_norm = kept


def any_length(self, input_ids, *given, **named):
    return Stack.forward(self, input_ids[:, :self.config.seq_len], *given, **named)


def asserted(self, input_ids, *given, **named):
    assert input_ids.shape[1] <= self.config.seq_len
    return Stack.forward(self, input_ids, *given, **named)


def plain_list(self, config):
    Stack.__init__(self, config)
    del self.blocks
    self.blocks = [Block(config) for _ in range(config.n_layer)]


class Exit(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.decoder = nn.Linear(config.d_model, config.vocab_size)
        if config.head_transform:
            self.transform = nn.Linear(config.d_model, config.d_model)
            self.norm = nn.LayerNorm(config.d_model, config.norm_eps)
        self.bend = ACTIVATIONS[config.activation]

    def forward(self, x):
        return self.decoder(self.norm(self.bend(self.transform(x))) if hasattr(self, "norm") else x)


def leave(make):
    def forward(self, x):
        return make(self, x) if hasattr(self, "norm") else Exit.forward(self, x)
    return type("Other", (Exit,), {"forward": forward})


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
        if config.tied:
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


def always_tied(self, config):
    self.head.decoder.weight = self.encoder.embeddings.token.weight


def all_positions(self, ids, positions, mask, types):
    logits = self.head(self.encoder(ids, mask, types))
    return logits if positions is None else logits.flatten(0, 1)[positions]


RIGHT = [
    (check_embedding_layer, Embeddings), (check_embedding_layer, Entrance),
    (check_encoder, Encoder), (check_encoder, Stack),
    (check_head, MLMHead), (check_head, Exit),
    (check_model, BertForMaskedLM), (check_model, Whole),
]

WRONG = [
    (check_embedding_layer, entrance(lambda s, t, p, y: t + p + y), "the norm is missing"),
    (check_embedding_layer, entrance(lambda s, t, p, y: s.norm(t + y)), "positions are missing"),
    (check_embedding_layer, entrance(lambda s, t, p, y: s.norm(t)), "only the words"),
    (check_embedding_layer, entrance(lambda s, t, p, y: s.norm(t) + p + y), "before the rest"),
    (check_embedding_layer, entrance(lambda s, t, p, y: s.norm(t * p + y)), "multiplied"),
    (check_embedding_layer, entrance(None, forward=types_only_if_given), "row 0 is added"),
    (check_embedding_layer, entrance(None, forward=types_never_given), "are not looked up"),
    (check_embedding_layer, entrance(lambda s, t, p, y: s.norm(F.dropout(t + p + y, 0.5))),
     "two calls differ"),
    (check_embedding_layer, entrance(None, forward=lambda s, ids, types=None: s.norm(sum(
        s.parts(ids, types)))), "not used in training"),
    (check_embedding_layer, entrance(None, forward=Entrance.forward, __init__=learned_waves),
     "'table' is one part too many"),
    (check_encoder, stack(lambda blocks: blocks[-1:]), "only the last block"),
    (check_encoder, stack(lambda blocks: blocks[::-1]), "from the last to the first"),
    (check_encoder, stack(lambda blocks: blocks[:1] * 3), "again and again"),
    (check_encoder, stack(lambda blocks: blocks[:-1]), "the last block is left out"),
    (check_encoder, own(lambda s, ids, mask=None, *a, **k: Stack.forward(s, ids, None, *a, **k)),
     "attention_mask is not used"),
    (check_encoder, own(lambda s, ids, mask=None, *a, **k: Stack.forward(
        s, ids, None if mask is None else ~mask, *a, **k)), "upside down"),
    (check_encoder, own(Stack.forward, bias=lambda s, ids, mask: None if mask is None
                        else padding_bias(mask)), "the distances are not used"),
    (check_encoder, own(no_final_norm), "the final norm is missing"),
    (check_encoder, own(lambda s, ids, mask=None, types=None, keep=None, layers=None: Stack.forward(
        s, ids, mask, types, None, layers)), "keep is not heeded"),
    (check_encoder, own(lambda s, ids, mask=None, types=None, keep=None, layers=None: Stack.forward(
        s, ids, mask, None, keep, layers)), "token_type_ids are not handed on"),
    (check_encoder, own(lambda s, ids, mask=None, types=None, keep=None, layers=None: Stack.forward(
        s, ids, mask, types, keep)), "layers takes 0 states"),
    (check_encoder, own(any_length), "8 tokens are taken"),
    (check_encoder, own(asserted), "stop with AssertionError"),
    (check_encoder, own(Stack.forward, __init__=plain_list), "make it an nn.ModuleList"),
    (check_head, leave(lambda s, x: s.decoder(x)), "transform and norm are not used"),
    (check_head, leave(lambda s, x: s.decoder(s.norm(s.transform(x)))), "activation is missing"),
    (check_head, leave(lambda s, x: s.decoder(F.gelu(s.transform(x)))), "the norm is missing"),
    (check_head, leave(lambda s, x: s.decoder(F.gelu(s.norm(s.transform(x))))), "stands before"),
    (check_head, leave(lambda s, x: Exit.forward(s, x).softmax(-1)), "these are probabilities"),
    (check_head, leave(lambda s, x: s.norm(F.gelu(s.transform(x)))), "the shape is"),
    (check_model, begun(copied), "assign it, do not copy it"),
    (check_model, begun(always_tied), "with tied=False"),
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
