from __future__ import annotations

from pathlib import Path
from typing import Literal

from vitrify.cli.console import TerminalProgress, out, print_json
from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import verification_table


def verify(
    artifact: Path,
    /,
    *,
    reference: Path | None = None,
    images: tuple[str, ...] = (),
    runtime: str = "all",
    precision: Literal["fp32", "bf16", "fp16"] = "fp32",
    json: JsonFlag = False,
) -> int:
    """Say whether an artifact, on this machine, still is the model that was exported.

    Needs neither PyTorch nor images: the artifact carries inputs with known answers. Exits with 1 when it is not. An
    engine that passes keeps the record in its manifest.

    Example: `vitrify verify flowers.onnx --reference runs/flowers/best.safetensors --images flowers/val`

    Args:
        artifact: What to judge.
        reference: A checkpoint or another artifact; its answers are the truth.
        images: Real images to compare on as well: files, folders or globs.
        runtime: all that are installed, or one by name.
        precision: Arithmetic to judge.
        json: Print the record as JSON on stdout.
    """
    from vitrify.classifier import expand_sources
    from vitrify.engines.manifest import rebuild_command
    from vitrify.spec import ENGINE_SUFFIXES
    from vitrify.verify import require_passed
    from vitrify.workflows.verify import verify_and_record

    result = verify_and_record(
        artifact,
        reference=reference,
        images=expand_sources(images),
        runtime=runtime,
        precision=precision,
        progress=TerminalProgress(),
    )
    if json:
        print_json(result.verification)
    else:
        out.print(verification_table(result.verification))
        for note in result.notes:
            out.print(f"note: {note}")
    again = rebuild_command(artifact) if artifact.suffix in ENGINE_SUFFIXES else "export it again on this machine"
    require_passed(result.verification.checks, str(artifact), hint=f"{again}; if that passes, the file was damaged")
    return 0
