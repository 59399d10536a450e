from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrify.cli.options import JsonFlag
from vitrify.cli.tables import engine_table, layer_table, network_table, table, verification_table
from vitrify.console import err, out, print_json
from vitrify.spec import ModelSpec


def inspect(
    artifact: Path,
    /,
    *,
    netron: Annotated[bool, Parameter(negative="")] = False,
    json: JsonFlag = False,
) -> int:
    """Show what an artifact says of itself: spec, record, shapes, parameters and FLOPs a block.

    Of a TensorRT engine: where it may run, the type of every layer, and how many attention blocks were fused.

    Example: `vitrify inspect flowers.onnx`

    Args:
        artifact: An ONNX file, a TensorRT engine, or a checkpoint of vitrify's own.
        netron: Open the graph in a browser with Netron, where it is installed.
        json: Print everything as JSON on stdout.
    """
    from vitrify.artifacts import Artifact

    opened = Artifact.open(artifact)
    opened.require_intact()
    spec, network, manifest = opened.spec, None, None
    if opened.kind == "onnx":
        from vitrify.inspection import inspect_network

        network = inspect_network(artifact)
    elif opened.kind == "engine":
        manifest = opened.manifest
    if json:
        print_json({"spec": spec, "network": network} | ({"manifest": manifest} if manifest else {}))
    else:
        _print_spec(artifact, spec)
        if network is not None:
            out.print(network_table(network))
        if manifest is not None:
            out.print(engine_table(manifest, title="engine"))
            out.print(layer_table(manifest.audit))
        if spec.verification is not None:
            out.print(verification_table(spec.verification))
        if manifest is not None and manifest.verification is not None:
            out.print(verification_table(manifest.verification))
    if netron:
        from vitrify.inspection import open_in_netron

        err.print("Netron shows the graph until you press Ctrl-C")
        open_in_netron(artifact)
    return 0


def _print_spec(artifact: Path, spec: ModelSpec) -> None:
    pre, source = spec.preprocess, spec.source
    rows = table("", "", title=str(artifact))
    rows.show_header = False
    kwargs = " ".join(f"{key}={value}" for key, value in source.model_kwargs.items())
    rows.add_row("architecture", f"{source.architecture} {kwargs}")
    rows.add_row("input", f"{spec.input.name} {spec.input.dtype} [B, {', '.join(map(str, spec.input_shape))}] RGB")
    rows.add_row("output", f"{spec.output.name} [B, {len(spec.labels)}] {spec.output.kind}, {spec.output.task}")
    box, crop = f"{pre.resize_width}x{pre.resize_height}", f"{pre.crop_width}x{pre.crop_height}"
    rows.add_row("preprocess", f"{pre.resize_rule} to {box} {pre.interpolation}, centre crop {crop}")
    rows.add_row("normalise", f"mean {pre.mean} std {pre.std}")
    rows.add_row("precision", spec.precision)
    rows.add_row(
        "labels", ", ".join(spec.labels[:12]) + (f", … {len(spec.labels)} in all" if len(spec.labels) > 12 else "")
    )
    rows.add_row("made from", f"{source.checkpoint} ({source.dialect})" if source.dialect else source.checkpoint)
    rows.add_row("sha256", source.checkpoint_sha256)
    rows.add_row("made by", source.created_by)
    rows.add_row("golden vectors", str(len(spec.golden)))
    out.print(rows)
