"""Side-by-side timing: every candidate in the same run, alternating, the median of each."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

__all__ = ["compare", "environment", "forget_factorizations", "peak_extra_bytes"]


def environment() -> str:
    """What the numbers were measured on."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return f"torch {torch.__version__}, {device}, {torch.get_num_threads()} threads"


def compare(
    candidates: Mapping[str, Callable[[], object]],
    repeats: int = 15,
    least_seconds: float = 0.02,
    reduce: Callable[[Sequence[float]], float] = statistics.median,
) -> dict[str, float]:
    """Seconds per call of each candidate: the median, or what ``reduce`` makes of all repeats.

    Candidates take turns, so that a busy moment of the machine meets all of them. Calls shorter than
    ``least_seconds`` are timed in blocks.
    """
    blocks = {}
    for name, call in candidates.items():
        call()
        once = _seconds(call, 1)
        blocks[name] = max(1, int(least_seconds / max(once, 1e-9)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, call in candidates.items():
            times[name].append(_seconds(call, blocks[name]) / blocks[name])
    return {name: reduce(values) for name, values in times.items()}


def _seconds(call: Callable[[], object], count: int) -> float:
    _synchronize()
    start = time.perf_counter()
    for _ in range(count):
        call()
    _synchronize()
    return time.perf_counter() - start


def _synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_extra_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Peak memory during ``call`` above what was in use before it.

    On CUDA from the allocator; on CPU from the resident set of the process (Linux), which includes the
    workspace of LAPACK.
    """
    call()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # freed memory goes back, or it would be reused unseen
    with open("/proc/self/clear_refs", "w") as handle:
        handle.write("5")  # resets the high-water mark
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    with open("/proc/self/status") as handle:
        line = next(line for line in handle if line.startswith(field))
    return int(line.split()[1]) * 1024


def forget_factorizations(output: torch.Tensor, *, everything: bool = False) -> None:
    """Let the next backward pass of ``output`` be like the first one.

    The engine keeps the last factorization for further passes through one graph. A benchmark that repeats a
    backward pass would otherwise time all but the first without it. With ``everything``, what the forward
    pass has evaluated goes, too, and the pass starts from the solution alone.
    """
    functions = [output.grad_fn]
    while functions:
        function = functions.pop()
        if function is None:
            continue
        engine = getattr(function, "engine", None)
        if engine is not None:
            engine.release() if everything else engine.forget()
        functions += [following for following, _ in function.next_functions]
