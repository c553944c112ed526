"""The machine an engine runs on: device, number format, threads, memory."""

import ctypes
import gc
import math
import os
from pathlib import Path

import torch
import transformers

from app.contracts.errors import fatal

# Of glibc's <malloc.h>.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def pick_device() -> torch.device:
    """The first visible GPU, else the CPU."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def pick_dtype(device: torch.device) -> torch.dtype:
    """bf16 where the device computes in it natively, else fp32 (override: TUNESMITH_ENGINE_DTYPE)."""
    forced = os.environ.get("TUNESMITH_ENGINE_DTYPE")
    if forced is not None:
        dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
        if forced not in dtypes:
            raise fatal("engine_misconfigured", f"TUNESMITH_ENGINE_DTYPE is '{forced}'; use bfloat16 or float32.")
        return dtypes[forced]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    has_bf16 = torch.cpu._is_avx512_bf16_supported()  # noqa: SLF001 torch has no public name for it
    return torch.bfloat16 if has_bf16 else torch.float32


def physical_cores() -> int:
    """Cores this process may use, hyper-threads of one core counted once."""
    cores: set[str] = set()
    for cpu in os.sched_getaffinity(0):
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.is_file() else str(cpu))
    return max(1, min(len(cores), math.ceil(_cgroup_cpus())))


def _cgroup_cpus() -> float:
    """CPU quota of a container in cores; the machine's cores where there is none."""
    machine = float(os.cpu_count() or 1)
    quota_file = Path("/sys/fs/cgroup/cpu.max")
    if not quota_file.is_file():
        return machine
    quota, _, period = quota_file.read_text().partition(" ")
    return machine if quota == "max" else int(quota) / int(period)


def set_up_torch() -> None:
    """Threads for this process: TUNESMITH_ENGINE_THREADS, else one per physical core."""
    wanted = os.environ.get("TUNESMITH_ENGINE_THREADS")
    torch.set_num_threads(physical_cores() if wanted is None else int(wanted))
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Let tensors be allocated where others were freed: fresh pages from the kernel cost more than the arithmetic.

    `release_memory` gives back what is free.
    """
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "mallopt"):
        allocator.mallopt(_M_MMAP_THRESHOLD, 2**31 - 1)
        allocator.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def release_memory(device: torch.device) -> None:
    """Between runs: garbage to the allocators, and from them to the system."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    allocator = ctypes.CDLL(None)
    if hasattr(allocator, "malloc_trim"):
        allocator.malloc_trim(0)


def compute_capability(device: torch.device) -> int | None:
    """Of a GPU of CUDA, 90 for 9.0; None for anything else."""
    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def memory_bytes(device: torch.device) -> int:
    """All memory of the device; for the CPU of the machine, or of its container where that has less."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit_file = Path("/sys/fs/cgroup/memory.max")
    limit = limit_file.read_text().strip() if limit_file.is_file() else "max"
    return machine if limit == "max" else min(machine, int(limit))
