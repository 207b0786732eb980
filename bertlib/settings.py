"""Every knob of a training run, by the names of the published configuration.

Recipes are data: a preset is a dictionary of settings, and no code asks for a recipe's name.
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

from bertlib.bert import PRESETS as MODELS
from bertlib.bert import BertConfig
from bertlib.counts import CountStart
from bertlib.files import InputError, nearest


@dataclass(frozen=True)
class Settings:
    """One run. Defaults are the published run; times are in minutes, lengths in tokens."""

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
    architecture: str = "wiki"  # a preset of BertConfig, for what has no name above
    attention_dropout: float = 0.35  # of attention weights; above 0 fused kernels may not run
    optimizer: str = "adamw"  # "muon": Muon for hidden matrices, AdamW for the rest
    matrix_learning_rate: float = 0.02  # Muon's
    beta1: float = 0.9
    beta2: float = 0.999
    grad_clip: float = 1.0  # 0: no clipping
    schedule: str = "cosine"  # "linear": from the peak to the floor at the end of the run
    first_batch_size: int = 0  # it grows from here to batch_size; 0: batch_size throughout
    mask_rate: float = 0.15
    final_mask_rate: float = 0.15  # the rate moves there linearly
    dynamic_masks: bool = False  # False: the masks stored in the files
    start: str = "random"  # "frequencies": decoder bias from counts; "counts": embeddings too
    count_window: int = CountStart.window  # bertlib.counts tells what the five mean
    count_shift: float = CountStart.shift
    count_std: float = CountStart.std
    count_width: int = CountStart.width
    count_share: float = CountStart.share
    budget_minutes: float = 0.0  # training time; 0: stop at max_iters
    # running
    seed: int = 1
    device: str = "auto"  # "cpu", "cuda"
    precision: str = "auto"  # "float32", "bfloat16", "float16"
    val_chunks: int = 0  # chunks in a validation on the way; 0: all
    final_chunks: int = 0  # chunks in the last validation; 0: all
    checkpoint_minutes: float = 5.0
    keep_checkpoints: int = 2

    def __post_init__(self):
        for field in fields(self):
            self._check_type(field.name, field.type)
        for name in ("batch_size", "micro_steps", "val_interval", "max_iters", "lr_decay_iters"):
            self._require(name, getattr(self, name) >= 1, "must be at least 1")
        for name in ("warmup_iters", "weight_decay", "min_learning_rate", "grad_clip", "seed",
                     "budget_minutes", "val_chunks", "final_chunks", "checkpoint_minutes"):
            self._require(name, getattr(self, name) >= 0, "must not be negative")
        for name in ("learning_rate", "matrix_learning_rate"):
            self._require(name, getattr(self, name) > 0, "must be above 0")
        self._require("min_learning_rate", self.min_learning_rate <= self.learning_rate,
                      f"must not be above learning_rate, {self.learning_rate}")
        for name in ("mask_rate", "final_mask_rate"):
            self._require(name, 0 < getattr(self, name) < 1, "must lie between 0 and 1")
        even = self.first_batch_size >= 0 and self.batch_size % (self.first_batch_size or 1) == 0
        self._require("first_batch_size", even, f"must divide batch_size, {self.batch_size}")
        self._require("keep_checkpoints", self.keep_checkpoints >= 2, "must be at least 2")
        self._require("seq_len", 16 <= self.seq_len <= 2048, "must lie in 16..2048")
        for name, known in CHOICES.items():
            self._require(name, getattr(self, name) in known, f"must be one of {', '.join(known)}")
        self.model_config(vocab_size=1)  # its own checks: heads, dropout
        self.count_start()

    def _check_type(self, name: str, kind: type) -> None:
        value = getattr(self, name)
        if kind is float and type(value) is int:
            object.__setattr__(self, name, float(value))
        else:
            self._require(name, type(value) is kind, f"must be of type {kind.__name__}")

    def _require(self, name: str, good: bool, remedy: str) -> None:
        if not good:
            raise InputError(f"The setting {name} is {getattr(self, name)!r}; it {remedy}.")

    @classmethod
    def make(cls, preset: str = "cuda", **changes: Any) -> "Settings":
        """A preset with changes; refuses unknown names with the nearest right one."""
        if preset not in PRESETS:
            raise InputError(f"There is no preset '{preset}'. {nearest(preset, PRESETS)}")
        known = {field.name for field in fields(cls)}
        for name in changes:
            if name not in known:
                raise InputError(f"There is no setting '{name}'. {nearest(name, known)}")
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
        how = CountStart(self.count_window, self.count_shift, self.count_std, self.count_width,
                         self.count_share)
        return how if self.start == "counts" else None

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON and checkpoints."""
        return asdict(self)


CHOICES = {
    "architecture": tuple(MODELS),
    "optimizer": ("adamw", "muon"),
    "schedule": ("cosine", "linear"),
    "start": ("random", "frequencies", "counts"),
    "device": ("auto", "cpu", "cuda"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}

FAST = dict(
    architecture="fast", optimizer="muon", schedule="linear", start="counts", dynamic_masks=True,
    dropout=0.0, attention_dropout=0.0, mask_rate=0.30, learning_rate=4e-3,
    matrix_learning_rate=0.03, min_learning_rate=0.0, warmup_iters=0,
    beta2=0.98, grad_clip=0.0, weight_decay=0.01, compile=False,
)

PRESETS: dict[str, dict[str, Any]] = {
    "cuda": {"val_chunks": 2048},
    "published": dict(  # the same recipe in small: about 40 minutes on two cores
        d_model=256, heads=4, n_layer=4, batch_size=32, micro_steps=1, val_interval=150,
        val_chunks=512, max_iters=2_250, warmup_iters=38, lr_decay_iters=1_688, compile=False,
    ),
    "cpu": FAST | dict(  # two layers: in ten minutes, text counts for more than depth
        d_model=256, heads=4, n_layer=2, batch_size=32, micro_steps=1, val_interval=100,
        val_chunks=512, budget_minutes=10.0, checkpoint_minutes=2.0,
    ),
    "hour": FAST | dict(
        d_model=256, heads=4, n_layer=4, batch_size=32, micro_steps=1, val_interval=200,
        val_chunks=512, budget_minutes=60.0, checkpoint_minutes=5.0,
    ),
    "smoke": FAST | dict(
        seq_len=32, d_model=32, heads=4, n_layer=2, batch_size=16, micro_steps=1, val_interval=8,
        max_iters=24, val_chunks=64, precision="float32", device="cpu",
    ),
}
