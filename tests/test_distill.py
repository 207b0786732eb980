"""Distillation: the student is made and taught as meant, a stopped run loses nothing."""

import json
import os
import signal
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F

import bertlib
from bertlib.bench.ablate import read_rows
from bertlib.bert import BertConfig, BertForMaskedLM
from bertlib.distill import Distilling, Student, build, distill, soft_loss, state_loss
from bertlib.distill.__main__ import main
from bertlib.distill.student import every, is_told, spread
from bertlib.huggingface.writing import save_published
from bertlib.masking import Masked
from bertlib.plumbing.files import PROJECT, InputError
from bertlib.settings import Settings
from bertlib.tokens import Tokenizer
from bertlib.told import Told, tell

QUICK = Distilling(max_iters=12, batch_size=8, val_interval=4, val_chunks=16, final_chunks=32,
                   device="cpu", precision="float32")
SHAPE = BertConfig(seq_len=32, d_model=32, n_head=2, n_layer=4, init_std=0.1)


def random_model(config: BertConfig, seed: int = 0) -> BertForMaskedLM:
    torch.manual_seed(seed)
    model = BertForMaskedLM(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.02, std=0.3)
    return model


def write(tokenizer, folder, model) -> None:
    folder.mkdir()
    save_published(model, tokenizer, folder, {})


@pytest.fixture(scope="module")
def start(tokenizer, tmp_path_factory):
    """The folder of a teacher with dropout."""
    folder = tmp_path_factory.mktemp("start") / "teacher"
    write(tokenizer, folder, random_model(replace(SHAPE, vocab_size=len(tokenizer))))
    return folder


@pytest.fixture
def teacher():
    return random_model(replace(SHAPE, vocab_size=50, dropout=0.5, attention_dropout=0.5))


def puzzle() -> Masked:
    ids = torch.randint(5, 50, (3, 32), generator=torch.Generator().manual_seed(0))
    positions = torch.tensor([2, 9, 33, 40, 64, 70])
    return Masked(ids, positions, ids.flatten()[positions],
                  torch.arange(32) < torch.tensor([[32], [32], [20]]))


def test_the_loss_on_soft_targets_is_the_sum_that_the_paper_writes():
    student, teacher = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(1))
    total = 0.0
    for row in range(3):
        p = [float(x) for x in (teacher[row] / 3).exp() / (teacher[row] / 3).exp().sum()]
        q = [float(x) for x in (student[row] / 3).exp() / (student[row] / 3).exp().sum()]
        total += sum(a * float(torch.tensor(a / b).log()) for a, b in zip(p, q, strict=True)) / 3
    assert float(soft_loss(student, teacher, 3.0)) == pytest.approx(9 * total, abs=1e-5)
    assert float(soft_loss(student, student, 2.0)) == pytest.approx(0, abs=1e-6)


def test_gradients_keep_their_size_whatever_the_temperature():
    student, teacher = torch.randn(2, 5, 100, generator=torch.Generator().manual_seed(2))
    sizes = []
    for temperature in (10.0, 1000.0):
        learns = student.clone().requires_grad_()
        soft_loss(learns, teacher, temperature).backward()
        sizes.append(float(learns.grad.norm()))
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1) and sizes[0] > 1e-3


def test_states_count_by_their_direction():
    x = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    for other, wanted in ((5 * x, 0), (-x, 2), (x.flip(1), 1), (torch.ones(2, 2), 1 - 0.5**0.5)):
        assert float(state_loss(x, other)) == pytest.approx(wanted, abs=1e-6)


def test_which_blocks_are_kept():
    assert every(12, 6) == [0, 2, 4, 6, 8, 10] and every(4, 2) == [0, 2] and every(4, 1) == [0]
    assert spread(12, 6) == [0, 2, 4, 7, 9, 11] and spread(4, 2) == [0, 3] and spread(4, 1) == [0]
    with pytest.raises(InputError, match="divide the teacher's 4 blocks: choose 1, 2, or"):
        every(4, 3)


@pytest.mark.parametrize(("take", "kept"), [
    ("every", [0, 2]), ("spread", [0, 3]), ("lowest", [0, 1])])
def test_a_student_computes_as_a_teacher_whose_other_blocks_do_nothing(teacher, take, kept):
    student = Student(teacher, Distilling(take=take)).eval()
    batch = puzzle()
    with torch.no_grad():
        x = teacher.encoder.embeddings(batch.input_ids)
        bias = teacher.encoder.scores_bias(batch.input_ids, batch.attention_mask)
        for number in kept:
            x = teacher.encoder.blocks[number](x, bias)
        logits = teacher.head(x).flatten(0, 1)[batch.positions]
        got = student(batch.input_ids, batch.positions, attention_mask=batch.attention_mask)
    assert torch.allclose(got.logits, logits, atol=1e-5) and student.config.n_layer == 2


def test_teacher_and_student_share_nothing_and_the_teacher_is_no_part(teacher):
    student = Student(teacher, QUICK).train()
    theirs = {p.data_ptr() for p in teacher.parameters()}
    assert not theirs & {p.data_ptr() for p in student.parameters()}
    assert student.state_dict().keys() == BertForMaskedLM(student.config).state_dict().keys()
    assert student.teacher is teacher and not teacher.training and student.training
    student.double()
    assert next(teacher.parameters()).dtype == torch.float64  # it goes where the student goes


def test_in_training_the_loss_is_the_three_and_else_that_of_hidden_words(teacher):
    batch, how = puzzle(), replace(QUICK, soft=3.0, words=0.5, states=7.0, temperature=4.0)
    asked = (batch.input_ids, batch.positions, batch.labels, batch.attention_mask)
    teacher.train()
    student = Student(teacher, how).train()
    out = student(*asked)
    out.loss.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(p.grad is not None for p in student.parameters())
    hidden, seen = (model.encoder(batch.input_ids, batch.attention_mask).flatten(0, 1)[
        batch.positions] for model in (student.eval(), teacher.eval()))
    logits, told = student.head(hidden), teacher.head(seen)
    words = F.cross_entropy(logits, batch.labels)
    wanted = 3 * soft_loss(logits, told, 4.0) + 0.5 * words + 7 * state_loss(hidden, seen)
    assert torch.allclose(out.loss, wanted, atol=1e-4)
    assert torch.allclose(student(*asked).loss, words, atol=1e-5)
    alone = Student(teacher, replace(how, soft=0.0, states=0.0, words=1.0))
    alone.told_by = (None,)  # a teacher that has nothing to say is not asked
    assert alone.train()(*asked).loss.requires_grad


def test_told_places_are_known_and_stay_when_the_student_learns(base, tokenizer, start, tmp_path):
    config = replace(SHAPE, vocab_size=len(tokenizer), d_model=64)
    model = random_model(config)
    assert not is_told(model) and not is_told(bertlib.load(start)[0])
    with torch.no_grad():
        tell(model, Told())
    assert is_told(model)
    write(tokenizer, tmp_path / "told", model)
    trainer = build(tmp_path / "told", QUICK, base, "toy", tmp_path)
    assert trainer.settings.start == "told"
    places = trainer.model.encoder.embeddings.position.weight.clone()
    trainer.run()
    assert torch.equal(trainer.model.encoder.embeddings.position.weight, places)
    assert build(start, QUICK, base, "toy", tmp_path).settings.start == "random"


def test_a_student_comes_closer_to_its_teacher(base, start, tmp_path):
    trainer = build(start, replace(QUICK, max_iters=30, words=0.0), base, "toy", tmp_path)
    batch = trainer.fetch(0.0).micro[0]

    def distance() -> float:
        with torch.no_grad():
            student = trainer.model.train()
            return float(student(batch.input_ids, batch.positions, batch.labels).loss)
    before, weights = distance(), trainer.model.teacher.state_dict()
    kept = {name: tensor.clone() for name, tensor in weights.items()}
    trainer.run()
    assert distance() < 0.5 * before
    assert all(torch.equal(weights[name], kept[name]) for name in kept)


def test_transformers_loads_the_folder_and_guesses_alike(base, start, tmp_path):
    transformers = pytest.importorskip("transformers")
    report = distill(start, tmp_path / "small", QUICK, base, "toy")
    theirs, told = transformers.BertForMaskedLM.from_pretrained(tmp_path / "small",
                                                                output_loading_info=True)
    assert not any(told.values()), told
    ours, words = bertlib.load(tmp_path / "small")
    ids = torch.tensor([words.encode("the king of the [MASK] .")])
    with torch.no_grad():
        assert torch.allclose(ours(ids).logits, theirs.eval()(ids).logits, atol=1e-4)
    ask = transformers.pipeline("fill-mask", model=str(tmp_path / "small"))
    assert len(ask("the king of the [MASK] .")) == 5
    card = (tmp_path / "small" / "README.md").read_text()
    assert "distilled from a BERT of 4 layers: 2 layers, width 32" in card
    stored = json.loads((tmp_path / "small" / "report.json").read_text())
    assert stored["teacher_accuracy"] == report["teacher_accuracy"]
    assert stored["teacher"] == start.name  # what is shared tells no path
    assert stored["parameters"] == ours.n_parameters() < stored["teacher_parameters"]
    assert stored["distilling"] == asdict(QUICK) and stored["steps"] == 12


class Stop:
    """Watches a run, and at a step presses Ctrl-C or dies."""

    def __init__(self, step, dies):
        self.step, self.dies = step, dies

    def __call__(self, step, model, folder):
        if step == self.step and self.dies:
            raise SystemExit
        if step == self.step:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("dies", [True, False], ids=["killed", "interrupted"])
def test_a_stopped_run_ends_with_the_same_weights_bit_for_bit(base, start, tmp_path, dies):
    how = replace(QUICK, checkpoint_minutes=0.0)
    try:
        assert distill(start, tmp_path / "out", how, base, "toy", watch=Stop(8, dies)) is None
    except SystemExit:
        assert dies
    assert not (tmp_path / "out").exists()
    distill(start, tmp_path / "out", how, base, "toy")
    distill(start, tmp_path / "straight", how, base, "toy")
    assert [path.name for path in (tmp_path / "out.training" / "runs").iterdir()] == ["run0"]
    one, two = ((tmp_path / name / "model.safetensors").read_bytes()
                for name in ("out", "straight"))
    assert one == two


def test_another_teacher_begins_another_run(base, start, tokenizer, tmp_path):
    write(tokenizer, tmp_path / "other",
          random_model(replace(SHAPE, vocab_size=len(tokenizer)), seed=5))
    for folder in (start, tmp_path / "other"):
        assert distill(folder, tmp_path / "out", QUICK, base, "toy", watch=Stop(2, False)) is None
    assert len(list((tmp_path / "out.training" / "runs").iterdir())) == 2


def test_the_command_makes_a_folder_and_tells_what_both_are_worth(base, start, tmp_path, capsys):
    main(["--teacher", str(start), "--out", str(tmp_path / "small"), "--base", str(base),
          "--label", "toy", "--layers", "1", "--max-iters", "3", "--device", "cpu",
          "--batch-size", "4", "--final-chunks", "16"])
    *_, teacher, student = capsys.readouterr().out.splitlines()
    assert teacher.startswith("teacher: ") and "hidden words" in teacher
    size = bertlib.load(tmp_path / "small")[0].n_parameters()
    assert student.startswith(f"student: {size:,} parameters, loss ")


@pytest.mark.parametrize(("more", "words"), [
    (["--layers", "4"], "layers is 4; it must be below 4, the teacher's blocks"),
    (["--layers", "3"], "must divide the teacher's 4 blocks: choose 1, 2"),
    (["--layers", "0"], "layers is 0; it must be at least 1"),
    (["--layers", "two"], "invalid int value"),
    (["--take", "evry"], "must be one of every, spread"),
    (["--temperature", "0"], "temperature is 0.0; it must be above 0"),
    (["--soft", "-1"], "soft is -1.0; it must be at least 0"),
    (["--soft", "0", "--words", "0", "--states", "0"], "are all 0"),
    (["--learning-rate", "nan"], "learning_rate is nan"),
    (["--max-iters", "0"], "max_iters is 0"),
    (["--teacher", "none"], "There is no folder 'none'"),
    (["--teacher", "gpt"], "predicts: next token"),
    (["--label", "wiki103"], "There is no dataset 'wiki103' of 32 tokens"),
    (["--teacher", "few"], "was made with another vocabulary"),
    (["--out", "none/out"], "does not exist"),
    (["--out", "gpt"], "is there already"),
])
def test_bad_input_is_refused_in_a_sentence_and_nothing_is_written(
        base, start, tokenizer, tmp_path, monkeypatch, refused, more, words):
    monkeypatch.chdir(tmp_path)
    from bertlib.huggingface import save_shipped
    save_shipped(random_model(BertConfig.preset("gpt", vocab_size=len(tokenizer), d_model=32,
                                                n_head=2, n_layer=4)), tokenizer,
                 tmp_path / "gpt", {})
    few = Tokenizer(tokenizer.vocab[:700])
    write(few, tmp_path / "few", random_model(replace(SHAPE, vocab_size=700)))
    before = sorted(path.name for path in tmp_path.iterdir())
    message = refused(main, "--teacher", start, "--out", "out", "--base", base, "--label", "toy",
                      "--device", "cpu", *more)
    assert words in message
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_settings_are_those_of_the_preset_but_for_what_is_said():
    ours, preset = Distilling().loop(), Settings.make("cpu")
    changed = {name for name, value in ours.as_dict().items()
               if value != getattr(preset, name)}
    assert changed <= {"max_iters", "budget_minutes", "learning_rate", "matrix_learning_rate"}
    for changes in (dict(layers=1.0), dict(soft="5"), dict(seed=True)):
        with pytest.raises(InputError, match=f"The setting {next(iter(changes))} is"):
            Distilling(**changes)


def test_rows_of_the_bench_are_one_change_each_and_tell_their_conditions(
        base, start, tmp_path, monkeypatch):
    from bertlib.bench import distill as bench
    rows = [bench.recipe(name, 1, bench.STEPS, 1.0) for name in bench.ROWS]
    assert len(set(rows)) == len(rows)
    assert bench.recipe("plain, equal time", 1, 10, 1.0).max_iters == round(10 * bench.COST)
    monkeypatch.setattr(bench, "MODEL", start)
    monkeypatch.setattr(bench, "recipe", lambda *asked: replace(QUICK, seed=asked[1]))
    out = tmp_path / "rows.jsonl"
    bench.main(["--rows", "teacher", "cut every", "distilled", "--seed", "3", "--base", str(base),
                "--label", "toy", "--out", str(out)])
    teacher, cut, distilled = map(json.loads, out.read_text().splitlines())
    assert teacher["steps"] == cut["steps"] == 0 and distilled["steps"] == 12
    assert teacher["parameters"] > cut["parameters"] == distilled["parameters"]
    assert len({row["masked_words"] for row in (teacher, cut, distilled)}) == 1
    assert distilled["seed"] == 3 and distilled["curve"][0][0] == 0
    assert {"machine", "precision", "threads", "torch", "tokens", "label"} <= set(distilled)


RESULTS = PROJECT / "assets" / "11_distill"
MAIN = ("distilled", "plain", "plain, equal time", "scratch")


def test_stored_rows_are_those_that_the_command_would_run():
    from bertlib.bench import distill as bench
    rows = read_rows(RESULTS / "rows.jsonl")
    for row in rows:
        wanted = bench.recipe(row["name"], row["seed"], bench.STEPS, 1.0)
        assert row["distilling"] == asdict(wanted), row["name"]
        assert row["steps"] == (0 if row["name"] in bench.SCORED else wanted.max_iters)
        assert row["exam_chunks"] == bench.EXAM
    assert len({row["masked_words"] for row in rows}) == 1
    assert len({(row["machine"], row["precision"], row["threads"]) for row in rows}) == 1
    for name in MAIN:
        assert sorted(row["seed"] for row in rows if row["name"] == name) == [1, 2, 3]
    cost = json.loads((RESULTS / "speed.json").read_text())["step_cost"]
    assert pytest.approx(cost, abs=0.1) == bench.COST


def test_the_lesson_tells_the_numbers_of_its_files():
    cells = json.loads((PROJECT / "notebooks" / "11_distill.ipynb").read_text())["cells"]
    text = "".join(part for cell in cells if cell["cell_type"] == "markdown"
                   for part in cell["source"])
    rows = read_rows(RESULTS / "rows.jsonl")
    for name in (*MAIN, "teacher", "cut every"):
        rights = [row["val_accuracy"] for row in rows if row["name"] == name]
        assert f"{sum(rights) / len(rights):.1%}" in text, name
    assert f"{rows[0]['masked_words']:,} hidden words" in text and rows[0]["machine"] in text
