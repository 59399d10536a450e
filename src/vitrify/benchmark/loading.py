"""Load time, first inference and peak memory of one contender, in a process that does nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from vitrify.benchmark.report import LoadCost
from vitrify.errors import RuntimeFailureError, VitrifyError
from vitrify.runtimes import OnDevice, RuntimeRow, infer_logits
from vitrify.spec import ModelSpec, Precision, golden_recipe_batch

_INFERENCES = 3
_FAILED = 3
"""Exit code of a child that tells in JSON what went wrong."""


def measure_load(
    path: Path, row: RuntimeRow, precision: Precision, *, batch: int, threads: int | None, like: ModelSpec | None
) -> LoadCost:
    """Opens an artifact in a fresh process and runs a few batches there.

    A runtime that crashes takes that process down and no other.

    Args:
        path: The artifact.
        row: Its runtime.
        precision: That the runtime is asked for.
        batch: Images in one call.
        threads: Of the runtime.
        like: A spec of the same model, for a checkpoint that does not tell everything.

    Raises:
        RuntimeFailureError: The artifact does not load or run; the message says why.
    """
    asked = {
        "path": str(path), "module": row.target, "precision": precision, "batch": batch, "threads": threads,
        "like": like.to_json() if like else None,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "vitrify.benchmark.loading"],
        input=json.dumps(asked), capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode not in (0, _FAILED):
        last = done.stderr.strip().rpartition("\n")[2]
        raise RuntimeFailureError(
            f"the process that ran {path.name} in {row.name} ended with {done.returncode}", got=last or "no message"
        )
    told = json.loads(done.stdout.strip().rpartition("\n")[2])
    if done.returncode == _FAILED:
        raise RuntimeFailureError(told["what"], got=told["got"] or None)
    return LoadCost(**told)


def resident_bytes(field: str) -> int:
    """This process's `VmRSS` or `VmHWM` (the largest so far), 0 where the system does not tell.

    Not `ru_maxrss`: on Linux a process inherits that from the one that started it.
    """
    try:
        text = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(field)), 0)


def run_here(asked: dict[str, object]) -> LoadCost:
    """What `measure_load`'s process does; it gets the arguments as JSON."""
    row = RuntimeRow("", str(asked["module"]), (), "vitrify")
    kind = row.load()
    device = kind if issubclass(kind, OnDevice) else None
    if device is not None:
        device.load_libraries(Path(str(asked["path"])))
    like = ModelSpec.from_json(asked["like"]) if isinstance(asked["like"], str) else None
    options = row.options(precision=asked["precision"], **row.understood(threads=asked["threads"], like=like))
    held = [device.device_bytes() if device else 0]  # makes a CUDA context, which is none of the model's memory or time
    base = resident_bytes("VmRSS")
    start = time.perf_counter()
    with kind(str(asked["path"]), options) as runtime:
        load = time.perf_counter() - start
        held.append(device.device_bytes() if device else 0)
        spec = runtime.spec
        inputs = golden_recipe_batch(spec.input_shape)
        inputs = inputs[np.arange(int(str(asked["batch"]))) % len(inputs)]
        start = time.perf_counter()
        infer_logits(runtime, spec, inputs)
        first = time.perf_counter() - start
        held.append(device.device_bytes() if device else 0)
        for _ in range(_INFERENCES - 1):
            infer_logits(runtime, spec, inputs)
            held.append(device.device_bytes() if device else 0)
    return LoadCost(
        load_ms=1e3 * load,
        first_inference_ms=1e3 * first,
        base_bytes=base,
        peak_bytes=resident_bytes("VmHWM"),
        device_bytes=max(held) - held[0] if device else None,
    )


def main() -> int:
    """Reads what is asked for from stdin and answers on stdout."""
    try:
        print(json.dumps(dataclasses.asdict(run_here(json.load(sys.stdin)))))
    except VitrifyError as error:
        print(json.dumps({"what": error.what, "got": str(error.got or "")}))
        return _FAILED
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # runtimes whose threads take long to end tell nothing more
