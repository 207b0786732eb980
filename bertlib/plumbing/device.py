"""What the machine can do: device, number type, speed, memory."""

import ctypes
import os
import platform
import re
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import torch

from bertlib.plumbing.files import InputError

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of malloc.h
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# Dense bf16 (or fp16) FLOP/s of GPUs as their data sheets state them.
GPU_PEAKS = {
    "H100 PCIE": 756e12, "H100 NVL": 835e12, "H100": 989e12, "H200": 989e12, "B200": 2.25e15,
    "A100": 312e12, "A100 PCIE": 312e12, "A30": 165e12, "A40": 149.7e12, "L40S": 362e12,
    "L4": 121e12, "RTX 5090": 209.5e12, "RTX 4090": 165.2e12, "RTX 3090": 71e12,
    "V100": 125e12, "V100 PCIE": 112e12, "T4": 65e12,
}
# Words of a GPU's name that say nothing about its speed: the brand, the memory, the socket.
IDLE_WORDS = re.compile(r"NVIDIA|TESLA|GEFORCE|\d+GB|HBM\d+E?|SXM\d*")


def pick_device(name: str) -> torch.device:
    """"auto" is CUDA where there is one, else Apple's GPU ("mps"), else the processor.

    `InputError` if a GPU is asked for and missing.
    """
    gpus = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((gpu for gpu, is_there in gpus.items() if is_there), "cpu")
    if not gpus.get(name, True):
        kind = {"cuda": "CUDA", "mps": "Apple"}[name]
        raise InputError(f"The setting device is '{name}', but there is no {kind} GPU; use 'cpu'.")
    return torch.device(name)


def machine_name(device: torch.device) -> str:
    """The GPU's name, or the processor's with the number of its cores that may be used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    if device.type == "mps":
        return "Apple GPU"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {cores} cores"


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """"auto": bfloat16 where the hardware multiplies it, float16 on older GPUs, else float32."""
    if name != "auto":
        return TYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability()[0] >= 8 else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether this processor has bf16 instructions (AVX512-BF16, AMX); others emulate, slowly."""
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and any(
            getattr(torch.cpu, probe)() for probe in ("_is_avx512_bf16_supported",
                                                      "_is_amx_tile_supported")
        )
    except (AttributeError, RuntimeError):
        return False


def prepare_training(device: str, precision: str) -> tuple[torch.device, torch.dtype]:
    """The device and the number type that two settings name; on a processor, memory is kept."""
    where = pick_device(device)
    keep_freed_memory(where)
    return where, pick_precision(precision, where)


def keep_freed_memory(device: torch.device) -> None:
    """Let a processor keep the memory that it frees, for the next step takes as much again.

    glibc hands large blocks back to the system, which returns each page zeroed, a fault a page:
    a fifth of the time of a step. Elsewhere, and without glibc, nothing is changed.
    """
    if device.type == "cpu" and (glibc := _glibc()):
        glibc.mallopt(M_MMAP_MAX, 0)  # no block is mapped alone
        glibc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # and the end of the heap stays


def return_freed_memory() -> None:
    """Hand back what is free now: gaps that other work left, such as a look at validation."""
    if glibc := _glibc():
        glibc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    return library if hasattr(library, "malloc_trim") else None


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager:
    """A context in which matrix products run in `dtype`; weights stay float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)


def as_multiplied(x: torch.Tensor) -> torch.Tensor:
    """x in the type in which matrix products run here; as it is outside of `autocast`."""
    kind = x.device.type
    return x.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else x


def gpu_peak(name: str) -> float:
    """FLOP/s of the GPU that `torch.cuda.get_device_name()` calls so; 0.0 where it is unknown.

    Every word counts: a Ti, a laptop's GPU and a part of a GPU (MIG, "A40-8Q") are others.
    """
    words = name.upper().replace("-", " ").split()
    return GPU_PEAKS.get(" ".join(word for word in words if not IDLE_WORDS.fullmatch(word)), 0.0)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done all that it was asked for."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()


def measured_peak(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """FLOP/s: a GPU's data sheet figure, or the best of eight matrix products measured now."""
    if device.type == "cuda":
        return gpu_peak(torch.cuda.get_device_name())
    a = torch.ones(size, size, dtype=dtype, device=device)  # random numbers belong to the run
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        a @ a
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def measured_bandwidth(device: torch.device, size: int = 32 * 1024**2) -> float:
    """Bytes/s that memory moves, the best of eight copies of `size` floats (read and written)."""
    source, target = torch.ones(size, device=device), torch.empty(size, device=device)
    best = float("inf")
    for _ in range(8):
        start = time.perf_counter()
        target.copy_(source)
        synchronize(device)
        best = min(best, time.perf_counter() - start)
    return 2 * 4 * size / best


def process_memory(entry: str = "VmHWM") -> int:
    """Bytes that this process holds: "VmHWM" the most ever, "RssAnon" now, without mapped files.

    These are Linux's own counts. Elsewhere it is getrusage's peak, whatever the entry; on Linux
    that one starts at the peak of the parent process, and so is of no use for a small child.
    """
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith(f"{entry}:"):
            return int(line.split()[1]) * 1024
    import resource  # here, because Windows has none
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
