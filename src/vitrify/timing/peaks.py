"""What this processor reaches, measured in a process whose threads are set before NumPy is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from vitrify.errors import RuntimeFailureError

_SIDE = 2048
_COPIED_BYTES = 256 << 20
"""Far more than any cache holds."""

_SECONDS = 0.7
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True)
class Peaks:
    """What the processor reached in a second or two, just before the timings.

    Attributes:
        flops_per_s: Of a large fp32 matrix product in NumPy, a multiply-add being two.
        bytes_per_s: Of a large copy, each byte counted when it is read and when it is written.
        threads: That did both.
    """

    flops_per_s: float
    bytes_per_s: float
    threads: int


def measure_peaks(threads: int) -> Peaks:
    """Runs a large fp32 matrix product and a large copy for under a second each, and takes the best of each.

    Args:
        threads: That do the work, at least 1.

    Raises:
        RuntimeFailureError: The measuring process failed.
    """
    environment = os.environ | dict.fromkeys(_THREAD_VARIABLES, str(threads))
    done = subprocess.run(  # noqa: S603 - our own module
        [sys.executable, "-m", "vitrify.timing.peaks", str(threads)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode != 0:
        raise RuntimeFailureError("this machine's peaks cannot be measured", got=done.stderr.strip()[-200:])
    flops, copied = json.loads(done.stdout)
    return Peaks(flops_per_s=flops, bytes_per_s=copied, threads=threads)


def _flops_per_s() -> float:
    rng = np.random.default_rng(0)
    a, b = (rng.random((_SIDE, _SIDE), dtype=np.float32) for _ in range(2))
    out = np.empty_like(a)
    return 2 * _SIDE**3 / _best(lambda: np.matmul(a, b, out=out))


def _bytes_per_s(threads: int) -> float:
    source = np.ones(_COPIED_BYTES, np.uint8)
    target = np.empty_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:  # a copy gives up Python's lock
        return 2 * _COPIED_BYTES / _best(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)))


def _best(call: Callable[[], object]) -> float:
    call()
    times: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(times) < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


if __name__ == "__main__":
    print(json.dumps([_flops_per_s(), _bytes_per_s(int(sys.argv[1]))]))
