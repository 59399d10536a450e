"""What this machine has, and whether each runtime works on it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from onnx import TensorProto, helper

from vitrify import __version__
from vitrify.cuda import gpu_or_none
from vitrify.errors import VitrifyError
from vitrify.machine import available_threads, instruction_sets, processor_name, saturates_8bit
from vitrify.runtimes import RUNTIMES, RuntimeRow, has_native_bf16
from vitrify.tensorrt import load_tensorrt

PACKAGES = {
    "": ("numpy", "pillow", "onnx", "onnxruntime", "openvino", "cyclopts", "rich"),
    "tensorrt": ("cuda-bindings", "tensorrt-rtx-cu13-bindings"),
    "train": ("torch", "torchvision", "timm", "safetensors", "onnxscript", "onnxslim", "tensorboard", "matplotlib"),
}
"""Distributions by the extra that installs them; the first come with vitrify itself."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What.
        state: `ok`, `missing` (an extra that is not installed) or `broken`.
        detail: Version, measurement or reason.
        hint: How to mend it, empty where it is fine.
    """

    name: str
    state: str
    detail: str
    hint: str = ""


def diagnose() -> tuple[Finding, ...]:
    """Looks at the machine, the packages and the runtimes; each runtime runs a small model whose answer is known."""
    return (*_machine(), *_packages(), *(_runtime(row) for row in RUNTIMES), _preferred(), _gpu())


def _machine() -> tuple[Finding, ...]:
    threads, installed = available_threads(), os.cpu_count()
    cores = f"{threads} of {installed} cores" if threads != installed else f"{threads} cores"
    return (
        Finding(name="vitrify", state="ok", detail=__version__),
        Finding(name="python", state="ok", detail=f"{platform.python_version()} on {platform.platform()}"),
        Finding(name="processor", state="ok", detail=f"{processor_name()}, {cores}, {_bf16()}"),
        _eight_bits(),
    )


def _eight_bits() -> Finding:
    """Are 8-bit products exact and fast here? And what would `auto` run a file with, and why?"""
    sets = ", ".join(instruction_sets()) or "none of the instruction sets that matter"
    if not saturates_8bit():
        return Finding(name="8-bit products", state="ok", detail=f"exact and fast ({sets})")
    return Finding(
        name="8-bit products",
        state="ok",
        detail=f"slower than with VNNI, and exact only with weights that cannot saturate ({sets})",
        hint="vitrify quantize writes such weights; another tool's 8-bit file is refused here unless they are",
    )


def _preferred() -> Finding:
    rows = [row for row in RUNTIMES if ".onnx" in row.suffixes and row.installed]
    if not rows:
        return Finding(name="auto", state="broken", detail="no runtime for .onnx", hint="pip install vitrify")
    bf16 = rows[0].name == "openvino" and has_native_bf16()
    how = "bf16 where the artifact's record allows it, else its own types" if bf16 else "the artifact's own types"
    return Finding(
        name="auto",
        state="ok",
        detail=f"{rows[0].name} for .onnx, the first of {', '.join(r.name for r in rows)}; {how}",
    )


def _bf16() -> str:
    if not next(row for row in RUNTIMES if row.name == "openvino").installed:
        return "native bf16 unknown (OpenVINO, which is not installed, would tell)"
    return "native bf16" if has_native_bf16() else "no native bf16"


def _packages() -> tuple[Finding, ...]:
    found = []
    for extra, names in PACKAGES.items():
        for name in names:
            try:
                found.append(Finding(name=name, state="ok", detail=importlib.metadata.version(name)))
            except importlib.metadata.PackageNotFoundError:
                state, package = ("missing", f"vitrify[{extra}]") if extra else ("broken", "vitrify")
                found.append(Finding(name=name, state=state, detail="-", hint=f'pip install "{package}"'))
    return tuple(found)


def _runtime(row: RuntimeRow) -> Finding:
    name = f"{row.name} runtime"
    if not row.installed:
        package = f"vitrify[{row.extra}]" if row.extra else "vitrify"
        return Finding(
            name=name, state="missing", detail=f"{row.package} is not installed", hint=f'pip install "{package}"'
        )
    if ".engine" in row.suffixes:
        return _tensorrt(name)
    if ".onnx" not in row.suffixes:
        return Finding(name=name, state="ok", detail="runs checkpoints")
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    try:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "double.onnx"
            onnx.save(_doubling_model(), path)
            with row.load()(path) as runtime:
                right = bool((runtime.infer({"x": values})["y"] == values * 2).all())
    except (VitrifyError, ImportError, OSError) as error:
        return Finding(
            name=name, state="broken", detail=str(error), hint=f"pip install --force-reinstall {row.package}"
        )
    if not right:
        return Finding(
            name=name, state="broken", detail="2 * 1 is not 2", hint="report this with your processor's name"
        )
    return Finding(name=name, state="ok", detail="a small model gives the right answer")


def _tensorrt(name: str) -> Finding:
    """Engines are made for a GPU: what is there is told, and `vitrify verify` says whether one is right."""
    try:
        trt = load_tensorrt()
    except VitrifyError as error:
        return Finding(name=name, state="broken", detail=error.what, hint=error.hint or "")
    gpu = gpu_or_none()
    where = f"{gpu.name}, compute capability {gpu.compute_capability}" if gpu else "no GPU here"
    what = "builds and runs" if gpu else "builds" if trt.release.compute_capabilities else "neither builds nor runs"
    return Finding(
        name=name, state="ok" if gpu or what == "builds" else "missing", detail=f"{trt.name} {what}; {where}"
    )


def _doubling_model() -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def _gpu() -> Finding:
    command = shutil.which("nvidia-smi")
    if command is None:
        return Finding(name="NVIDIA GPU", state="missing", detail="no nvidia-smi")
    query = [command, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)  # noqa: S603
    except (subprocess.SubprocessError, OSError) as error:
        return Finding(name="NVIDIA GPU", state="broken", detail=str(error), hint="check the driver's installation")
    return Finding(name="NVIDIA GPU", state="ok", detail=answer.stdout.strip().replace("\n", "; "))
