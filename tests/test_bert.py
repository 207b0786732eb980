"""The model against Hugging Face's, and against itself where it takes short cuts."""

import pytest
import torch
import torch.nn.functional as F
from parity import pair

from bertlib.attention import sinusoids
from bertlib.bert import MOST, PRESETS, BertConfig, BertForMaskedLM
from bertlib.plumbing.files import InputError
from bertlib.predict import attention_maps

SMALL = dict(vocab_size=50, seq_len=16, d_model=16, n_head=2, n_layer=2)


@pytest.fixture(scope="module")
def models():
    return pair()


@pytest.mark.parametrize("padded", [False, True])
def test_hidden_states_logits_and_loss_agree_with_hugging_face(models, padded):
    ours, theirs = models
    torch.manual_seed(1)
    ids = torch.randint(1, 97, (4, 40))
    keep = torch.ones_like(ids)
    if padded:
        for row, length in enumerate((40, 25, 7, 2)):
            keep[row, length:] = ids[row, length:] = 0
    kinds = (torch.arange(40) > 20).long().expand(4, 40)
    labels = torch.where((torch.rand(ids.shape) < 0.2) & keep.bool(), ids, -100)
    labels[:, 1] = ids[:, 1]
    with torch.no_grad():
        want = theirs(ids, attention_mask=keep, token_type_ids=kinds, labels=labels,
                      output_hidden_states=True)
        states = []
        ours.encoder(ids, keep.bool(), kinds, layers=states)
        got = ours(ids, None, labels, keep.bool(), kinds)
    assert len(states) == len(want.hidden_states) == 4
    for mine, reference in zip(states, want.hidden_states, strict=True):
        assert (mine - reference).abs().max() < 1e-5
    assert (got.logits - want.logits).abs().max() < 1e-5
    assert abs(got.loss - want.loss) < 1e-5


def test_gradients_agree_with_hugging_face(models):
    ours, theirs = models
    ids = torch.randint(1, 97, (2, 12))
    labels = ids.clone()
    ours.zero_grad()
    theirs.zero_grad()
    ours(ids, None, labels).loss.backward()
    theirs(ids, labels=labels).loss.backward()
    mine = ours.encoder.blocks[0].attention.query.weight.grad
    reference = theirs.bert.encoder.layer[0].attention.self.query.weight.grad
    assert torch.allclose(mine, reference, atol=1e-5)


@pytest.mark.parametrize("preset", ["bert_base", "wiki", "fast"])
def test_masked_positions_only_is_exact(preset):
    torch.manual_seed(0)
    small = dict(d_model=64, n_head=4, n_layer=2, seq_len=16, zero_init=False, init_std=0.1)
    model = BertForMaskedLM(BertConfig.preset(preset, vocab_size=60, **small)).eval()
    ids = torch.randint(5, 60, (3, 16))
    positions = torch.tensor([1, 5, 17, 40, 47])
    labels = ids.flatten()[positions]
    everywhere = torch.full((48,), -100)
    everywhere[positions] = labels
    some = model(ids, positions, labels)
    full = model(ids, None, everywhere.view(3, 16))
    assert torch.allclose(some.logits, full.logits.flatten(0, 1)[positions], atol=1e-5)
    assert torch.allclose(some.loss, full.loss, atol=1e-6)


def test_presets_have_the_published_shapes():
    base = BertForMaskedLM(BertConfig.preset("bert_base"))
    assert base.n_parameters() == 109_514_298  # bert-base-uncased with its MLM head
    wiki = BertConfig.preset("wiki", vocab_size=24_992)
    assert (wiki.n_layer, wiki.d_model, wiki.n_head, wiki.seq_len, wiki.dropout) == (
        6, 768, 12, 128, 0.35)
    assert wiki.norm == "pre" and not wiki.tied
    for name in PRESETS:
        BertConfig.preset(name, vocab_size=100)


def test_zero_init_makes_blocks_add_nothing():
    model = BertForMaskedLM(BertConfig.preset("fast", vocab_size=60))
    states = []
    model.encoder(torch.randint(5, 60, (1, 8)), layers=states)
    assert all(torch.equal(states[0], state) for state in states[1:])


def test_sinusoids_are_the_papers():
    table = sinusoids(50, 8)
    assert table[0].tolist() == [0, 1] * 4
    assert table[3, 2].item() == pytest.approx(torch.tensor(3 / 10_000 ** (2 / 8)).sin().item())


def test_tied_and_untied_decoders():
    tied = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=50))
    untied = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=50, tied=False))
    assert tied.head.decoder.weight is tied.encoder.embeddings.token.weight
    assert untied.n_parameters() - tied.n_parameters() == 50 * 64


@pytest.mark.parametrize(("changes", "words"), [
    ({"d_model": 65}, "no multiple"), ({"norm": "pri"}, "Did you mean 'pre'"),
    ({"dropout": 1.0}, "dropout"), ({"n_layer": 0}, "n_layer"),
    ({"position": "distance"}, "distance_heads"),
])
def test_impossible_shapes_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        BertConfig.preset("tiny", **changes)


def test_each_size_may_be_as_large_as_its_limit_and_no_larger():
    largest = MOST | dict(d_model=MOST["n_head"] * 64)
    BertConfig(**largest)
    for name, size in MOST.items():
        with pytest.raises(InputError, match=f"{name} is {size + 1}"):
            BertConfig(**largest | {name: size + 1})


def test_unknown_presets_and_long_inputs_are_refused():
    with pytest.raises(InputError, match="Did you mean 'tiny'"):
        BertConfig.preset("tinny")
    model = BertForMaskedLM(BertConfig.preset("tiny", vocab_size=50))
    with pytest.raises(InputError, match="at most 32"):
        model(torch.zeros(1, 33, dtype=torch.long))


def test_attention_maps_are_those_of_the_published_model():
    ours, theirs = pair()
    theirs.set_attn_implementation("eager")
    ids = torch.randint(5, 97, (2, 11))
    wanted = torch.stack(theirs(ids, output_attentions=True).attentions)  # [L, B, H, T, T]
    assert torch.allclose(attention_maps(ours, ids), wanted, atol=1e-5)


def test_attention_maps_are_what_the_fast_model_mixes_by():
    torch.manual_seed(0)
    config = BertConfig.preset("fast", vocab_size=97, d_model=32, n_layer=2, zero_init=False)
    model, states = BertForMaskedLM(config).eval(), []
    ids = torch.randint(97, (2, 11))
    maps = attention_maps(model, ids)
    model.encoder(ids, layers=states)
    block = model.encoder.blocks[1]
    x = block.attention_norm(states[1])
    values = block.attention.split(block.attention.value(x))  # [B, H, T, D/H]
    mixed = (maps[1] @ values).transpose(1, 2).flatten(2)
    bias = model.encoder.scores_bias(ids, None)
    assert torch.allclose(block.attention(x, bias), mixed, atol=1e-5)


def test_a_pre_norm_encoder_ends_with_a_norm_and_begins_with_the_sinusoids():
    model = BertForMaskedLM(BertConfig.preset("wiki", **SMALL)).eval()
    ids = torch.randint(50, (2, 9))
    hidden = model.encoder(ids)
    assert hidden.mean(-1).abs().max() < 1e-5
    assert (hidden.std(-1, correction=0) - 1).abs().max() < 1e-3
    states: list[torch.Tensor] = []
    model.encoder(ids, layers=states)
    pair = torch.arange(9)[:, None] / 10_000 ** (torch.arange(0, 16, 2) / 16)  # [T, D/2]
    waves = torch.stack((pair.sin(), pair.cos()), -1).flatten(1)  # [T, D]
    given = model.encoder.embeddings.token.weight[ids] + waves
    assert torch.allclose(states[0], F.layer_norm(given, (16,)), atol=1e-4)


@pytest.mark.parametrize("preset", ["wiki", "bert_base"])
def test_dropout_drops_embeddings_and_what_each_sublayer_adds(preset):
    model = BertForMaskedLM(BertConfig.preset(preset, **SMALL)).train()
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 1.0  # all of it
    states: list[torch.Tensor] = []
    x = torch.randn(2, 9, 16)
    block = model.encoder.blocks[0]
    plain = x if block.pre_norm else block.ffn_norm(block.attention_norm(x))
    assert torch.equal(block(x), plain)
    model.encoder(torch.randint(50, (2, 9)), layers=states)
    assert states[0].abs().max() == 0


@pytest.mark.parametrize("preset", ["wiki", "fast"])
def test_a_pre_norm_block_adds_what_it_makes_of_the_normed_input(preset):
    torch.manual_seed(0)
    block = BertForMaskedLM(BertConfig.preset(preset, **SMALL | dict(
        n_head=4, zero_init=False))).eval().encoder.blocks[0]
    x = torch.randn(2, 9, 16)
    middle = x + block.attention.output(block.attention(F.layer_norm(x, (16,)), None))
    assert torch.allclose(block(x), middle + block.feed_forward(F.layer_norm(middle, (16,))),
                          atol=1e-4)


def test_a_model_of_the_published_shape_has_the_published_numbers():
    base = BertConfig.preset("bert_base")
    assert (base.vocab_size, base.seq_len, base.d_model, base.n_layer, base.n_head) == (
        30_522, 512, 768, 12, 12)
    assert (base.dropout, base.attention_dropout, base.init_std, base.norm_eps) == (
        0.1, 0.1, 0.02, 1e-12)
    assert not base.zero_init


def test_one_preference_of_distance_serves_all_heads():
    shape = SMALL | dict(n_head=4, position="distance", distance_heads=((2.0, 1),))
    bias = BertForMaskedLM(BertConfig(**shape)).encoder.distance  # [1, H, T, T]
    assert bias.shape == (1, 4, 16, 16) and (bias == bias[:, :1]).all()
    assert bias[0, 0, 3, :6].tolist() == [-8, -6, -4, -2, 0, -2]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_under_autocast_only_a_stream_that_is_normed_anew_has_few_digits(norm):
    torch.manual_seed(0)
    model = BertForMaskedLM(BertConfig(**SMALL, norm=norm, dropout=0, attention_dropout=0))
    ids, labels = torch.randint(5, 50, (2, 3, 16))
    states = []
    with torch.autocast("cpu", torch.bfloat16):
        model.encoder(ids, layers=states)
        loss = model(ids, labels=labels).loss
    assert {state.dtype for state in states[1:]} == {
        torch.bfloat16 if norm == "post" else torch.float32}
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(model(ids, labels=labels).loss.item(), rel=5e-3)
    loss.backward()
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}
