"""Writes docs/benchmarks.md from the newest results of every case."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
INTRODUCTIONS = {
    "engines": (
        "## TensorRT on a GPU\n\n"
        "ViT-B/16 at 224 pixels, 5 classes. *device*: images and logits stay on the GPU; *copies*: arrays on the host. "
        "*Bare* is the loop over TensorRT's own calls that the runner is held to. "
        "`benchmarks/engines.py` says how calls are timed, and what the relative error is; int8 was calibrated on "
        "photographs and is compared on noise. TensorRT 8.5.3 is older than the H100, and eager PyTorch outruns it at "
        "large batches. The p99 of the runner with graphs includes recording anew where ways took turns. PyTorch and "
        "ONNX Runtime copy from page-locked arrays, TensorRT's runner from ordinary ones.\n"
    ),
    "engines-fp32": ("## TensorRT on a GPU in fp32\n\nThe same case, an engine for batches of 1 to 64 in fp32.\n"),
    "gpu-pipeline": (
        "## From JPEG bytes to a label on a GPU\n\n"
        "`vitrify-classify --bench` with a ViT-B/16 engine: decoded on the CPU, resized there or on the GPU, as many "
        "batches at once as there are streams. `cpp/tests/test_cuda_device.cu` times the resize alone.\n"
    ),
    "jpeg-to-label-gpu": (
        "## From JPEG files to logits on a GPU, beside PyTorch\n\n"
        "ViT-B/16 at 224 pixels, 5 classes, random weights. `benchmarks/gpu_pipeline.py` says what the contenders do, "
        "how they are timed, and what *stages* and the relative error are. Pixels are where images are resized.\n"
    ),
    "pixels": (
        "## From JPEG bytes to a tensor\n\n"
        "ViT-B/16's evaluation transform: shorter side to 248 pixels, bicubic, centre crop of 224, normalised. "
        "`benchmarks/pixels.py` says what the pictures are. *Levels* are 256ths of a pixel's range, against timm on "
        "Pillow's pixels; 0 means equal to the last bit.\n"
    ),
    "pipeline": (
        "## From a JPEG file to a label on a CPU\n\n"
        "ViT-B/16 at 224 pixels, batch 1, random weights, each runtime with the threads that it chooses. "
        "*Times as fast* is against timm's transform and PyTorch eager, round by round; relative error against its "
        "logits. optimum, vit.cpp and `benchmark_app` take their turns in processes of their own, by their own clocks. "
        "`benchmarks/pipeline.py` and `pipeline_peers.py` say what runs.\n"
    ),
    "precision": (
        "## Lower precision\n\n"
        "`vitrify quantize --to int8` beside the tools that people use, on the same fp32 file and calibration images. "
        "Every file then runs in every runtime that reads it; *hint* is the precision that OpenVINO is asked for "
        "around 8-bit layers. *Times* is against the fastest source of the same runtime, round by round. Relative "
        "error: root mean square of the difference in logits over that of the source's. *Memory* is the growth of the "
        "tool's process. Each tool runs as it comes, where its row says nothing else; vitrify's seconds include "
        "judging. One image of the digits is 0.28 points. ViT-B/16 has random weights: its rows are about speed and "
        "rounding, not accuracy. [Why vitrify has a rewrite of its own](explanation/precision.md); "
        "`benchmarks/precision.py` says what runs.\n"
    ),
    "cpp": (
        "## The C++ program\n\n"
        "fp32, one 500x375 JPEG. `benchmarks/cpp.py` says what runs; *of* columns are ratios to that program.\n"
    ),
}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows as Markdown; columns in the order in which they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row if key != "case"))
    lines = ["| " + " | ".join(column.replace("_", " ") for column in columns) + " |", "| --- " * len(columns) + "|"]
    lines += ["| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Writes the page."""
    parts = [
        "# Benchmarks\n\n<!-- Made by benchmarks/page.py from benchmarks/results. Run scripts/bench. -->\n",
        "Peers ran interleaved; medians. Ratios are the result, absolute times belong to the machine.\n",
    ]
    for case, introduction in INTRODUCTIONS.items():
        files = sorted(RESULTS.glob(f"*-{case}.json"))
        if not files:
            continue
        data = json.loads(files[-1].read_text(encoding="utf-8"))
        where = data["environment"]
        versions = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
        parts.append(introduction)
        parts.append(
            f"{where['date']}, {where['processor']}, {where['cores']} cores, Python {where['python']}; {versions}.\n"
        )
        if "pillow-simd" in where["versions"]:
            parts.append(
                "pillow-simd was built for AVX2 and ran in a process of its own, which took its turn like the others.\n"
            )
        for kind in dict.fromkeys(row["case"] for row in data["rows"]):
            parts.append(
                f"### {kind[:1].upper()}{kind[1:]}\n\n{table([row for row in data['rows'] if row['case'] == kind])}\n"
            )
        parts.append(f"Raw: `benchmarks/results/{files[-1].name}`.\n")
    (ROOT / "docs" / "benchmarks.md").write_text("\n".join(parts), encoding="utf-8")
    print("wrote docs/benchmarks.md")


if __name__ == "__main__":
    main()
