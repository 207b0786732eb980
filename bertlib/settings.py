"""Every knob of a training run, by the names of the published configuration.

Recipes are data: a preset is a dictionary of settings, and no code asks for a recipe's name.
"""

from collections.abc import Collection
from dataclasses import asdict, dataclass, fields
from typing import Any

from bertlib.bert import PRESETS as MODELS
from bertlib.bert import BertConfig
from bertlib.counts import CountStart
from bertlib.plumbing.files import InputError, nearest, short
from bertlib.plumbing.limits import Limits, SettingError, check_fields
from bertlib.told import Told

COUNT = Limits(1, 10**9)  # of steps
COUNT_OR_NONE = Limits(0, 10**9)
RATE = Limits(0, 1_000, open_low=True)
SHARE = Limits(0, 1, open_low=True, open_high=True)
BELOW_ONE = Limits(0, 1, open_high=True)
MINUTES = Limits(0, 525_600)  # a year

# A number beyond its limits is a slip; a run inside of them may still need a larger machine.
LIMITS = {
    "seq_len": Limits(16, 2_048), "batch_size": Limits(1, 65_536), "micro_steps": Limits(1, 65_536),
    "val_interval": COUNT, "d_model": Limits(1, 16_384), "heads": Limits(1, 1_024),
    "n_layer": Limits(1, 512), "dropout": BELOW_ONE, "attention_dropout": BELOW_ONE,
    "learning_rate": RATE, "min_learning_rate": Limits(0, 1_000), "matrix_learning_rate": RATE,
    "output_share": Limits(0, 1, open_low=True), "query_key_share": Limits(0, 1, open_low=True),
    "warmup_iters": COUNT_OR_NONE, "lr_decay_iters": COUNT, "max_iters": COUNT,
    "weight_decay": Limits(0, 1_000), "beta1": BELOW_ONE, "beta2": BELOW_ONE,
    "grad_clip": Limits(0, 10**9), "first_batch_size": Limits(0, 65_536),
    "mask_rate": SHARE, "final_mask_rate": SHARE, "count_window": Limits(1, 2_048),
    "count_shift": Limits(1, 10**9), "count_std": RATE, "count_width": Limits(0, 16_384),
    "count_share": Limits(0, 1, open_low=True), "budget_minutes": MINUTES,
    "seed": Limits(0, 2**63, open_high=True),  # what torch takes
    "val_chunks": COUNT_OR_NONE, "final_chunks": COUNT_OR_NONE,
    "checkpoint_minutes": MINUTES, "keep_checkpoints": Limits(2, 1_000),
}


@dataclass(frozen=True)
class Settings:
    """One run. Defaults are the published run; times are in minutes, lengths in tokens.

    `SettingError`, an `InputError`, if a value is of the wrong type or beyond `LIMITS`, or if two
    do not fit together. A bool is no number; a whole number is a fine float.
    """

    # the published names
    seq_len: int = 128
    batch_size: int = 200  # sequences a micro step
    micro_steps: int = 2  # gradients accumulated before a step
    val_interval: int = 100  # steps between validations
    d_model: int = 768
    heads: int = 12
    n_layer: int = 6
    dropout: float = 0.35  # of what each sublayer adds
    async_to_device: bool = True  # CUDA: pinned memory, and the next batch made meanwhile
    fused_adamw: bool = True
    compile: bool = True
    learning_rate: float = 1e-3
    min_learning_rate: float = 5e-5
    warmup_iters: int = 1_000
    lr_decay_iters: int = 45_000
    max_iters: int = 60_000
    weight_decay: float = 0.01
    # the rest of a recipe
    architecture: str = "wiki"  # a preset of BertConfig, for what has no name above; "gpt"
    # predicts the next token, and masks are of no account
    attention_dropout: float = 0.35  # of attention weights; above 0 fused kernels may not run
    optimizer: str = "adamw"  # "muon": Muon for hidden matrices, AdamW for the rest
    matrix_learning_rate: float = 0.02  # Muon's
    output_share: float = 1.0  # of it, for what a sublayer adds (output, down)
    query_key_share: float = 1.0  # of it, for queries and keys
    beta1: float = 0.9
    beta2: float = 0.999
    grad_clip: float = 1.0  # 0: no clipping
    schedule: str = "cosine"  # "linear": from the peak to the floor at the end of the run
    first_batch_size: int = 0  # it grows from here to batch_size; 0: batch_size throughout
    mask_rate: float = 0.15
    final_mask_rate: float = 0.15  # the rate moves there linearly
    dynamic_masks: bool = False  # False: the masks stored in the files
    start: str = "random"  # "frequencies": decoder bias from counts; "counts": embeddings too;
    # "told": and heads that look at neighbours, see bertlib.told
    count_window: int = CountStart.window  # bertlib.counts tells what the five mean
    count_shift: float = CountStart.shift
    count_std: float = CountStart.std
    count_width: int = CountStart.width
    count_share: float = CountStart.share
    budget_minutes: float = 0.0  # training time; 0: stop at max_iters
    # running
    seed: int = 1
    device: str = "auto"  # "cpu", "cuda", "mps" (Apple)
    precision: str = "auto"  # "float32", "bfloat16", "float16"
    val_chunks: int = 0  # chunks in a validation on the way; 0: all
    final_chunks: int = 0  # chunks in the last validation; 0: all
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2

    def __post_init__(self):
        check_fields(self, LIMITS)
        for name, known in CHOICES.items():
            self._require(name, getattr(self, name) in known, f"must be one of {', '.join(known)}")
        self._require("min_learning_rate", self.min_learning_rate <= self.learning_rate,
                      f"must not be above learning_rate, {self.learning_rate}")
        even = self.batch_size % (self.first_batch_size or 1) == 0
        self._require("first_batch_size", even, f"must divide batch_size, {self.batch_size}")
        self._check_heads()
        self.model_config(vocab_size=1)  # its own checks

    def _check_heads(self) -> None:
        """The heads must divide d_model, and repeat the model's pattern of distances, if any."""
        model = MODELS[self.architecture]
        pattern = len(model["distance_heads"]) if model.get("position") == "distance" else 1
        good = [n for n in range(pattern, min(self.d_model, int(LIMITS["heads"].high)) + 1, pattern)
                if self.d_model % n == 0]
        which = f", and be a multiple of {pattern} in the architecture {self.architecture!r}"
        choose = f"choose {', '.join(map(str, good))}" if good else "choose another d_model"
        self._require("heads", self.heads in good, f"must divide d_model, {self.d_model}"
                      f"{which if pattern > 1 else ''}: {choose}")

    def _require(self, name: str, good: bool, remedy: str) -> None:
        if not good:
            raise SettingError(name, getattr(self, name), remedy)

    @classmethod
    def make(cls, preset: str = "cuda", **changes: Any) -> "Settings":
        """A preset with changes; refuses unknown names with the nearest right one."""
        if preset not in PRESETS:
            raise InputError(f"There is no preset {short(preset)}. {nearest(preset, PRESETS)}")
        known = {field.name for field in fields(cls)}
        for name in changes:
            if name not in known:
                raise InputError(f"There is no setting {short(name)}. {nearest(name, known)}")
        return cls(**PRESETS[preset] | changes)

    def model_config(self, vocab_size: int) -> BertConfig:
        """The model that these settings describe."""
        return BertConfig.preset(
            self.architecture, vocab_size=vocab_size, seq_len=self.seq_len, d_model=self.d_model,
            n_head=self.heads, n_layer=self.n_layer, d_ff=0, dropout=self.dropout,
            attention_dropout=self.attention_dropout,
        )

    def count_start(self) -> CountStart | None:
        """How embeddings are made from counts, or None if they are not."""
        if self.start not in ("counts", "told"):
            return None
        how = {field.name: getattr(self, f"count_{field.name}") for field in fields(CountStart)}
        return CountStart(**how)

    def told(self) -> Told | None:
        """What heads are told before they learn, or None if nothing."""
        return Told(std=self.count_std) if self.start == "told" else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)


CHOICES: dict[str, Collection[str]] = {
    "architecture": MODELS,
    "optimizer": ("adamw", "muon"),
    "schedule": ("cosine", "linear"),
    "start": ("random", "frequencies", "counts", "told"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}

# BERT as published: all that makes it learn quickly is how it starts and how it steps. The rates
# are those of some 5,000 steps; 500 like twice as much, and at 5,000 that costs 0.15 nats.
QUICK = dict(
    architecture="bert", optimizer="muon", schedule="linear", start="told", dynamic_masks=True,
    dropout=0.0, attention_dropout=0.0, mask_rate=0.30, learning_rate=2e-3,
    matrix_learning_rate=0.015, output_share=0.5, query_key_share=0.3, min_learning_rate=0.0,
    warmup_iters=0, beta2=0.98, grad_clip=0.0, weight_decay=0.01, compile=False,
)

PRESETS: dict[str, dict[str, Any]] = {
    "cuda": {"val_chunks": 2048},
    "published": dict(  # the same recipe in small: about 40 minutes on two cores
        d_model=256, heads=4, n_layer=4, batch_size=32, micro_steps=1, val_interval=150,
        val_chunks=512, max_iters=2_250, warmup_iters=38, lr_decay_iters=1_688, compile=False,
    ),
    "cpu": QUICK | dict(  # two layers: in ten minutes, text counts for more than depth
        d_model=256, heads=4, n_layer=2, batch_size=32, micro_steps=1, val_interval=100,
        val_chunks=512, budget_minutes=10.0, checkpoint_minutes=2.0,
    ),
    "hour": QUICK | dict(
        d_model=256, heads=4, n_layer=4, batch_size=32, micro_steps=1, val_interval=200,
        val_chunks=512, budget_minutes=60.0, checkpoint_minutes=5.0,
    ),
    "smoke": QUICK | dict(
        seq_len=32, d_model=64, heads=2, n_layer=2, batch_size=16, micro_steps=1, val_interval=8,
        max_iters=24, val_chunks=64, precision="float32", device="cpu",
    ),
}
