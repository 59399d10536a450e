"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table
from rich.text import Text

from vitrify.text import for_terminal

if TYPE_CHECKING:  # a table is drawn of what somebody else imported
    from vitrify.artifacts import Audit, Manifest
    from vitrify.inspection import Network
    from vitrify.spec import Check, PrecisionSearch, Verification
    from vitrify.verification import Evaluation, LayerComparison, LayerReport, PartDrift, SideBySide


class _Table(Table):
    def add_row(self, *cells: Any, **options: Any) -> None:
        """A name with a line break stays in its line."""
        super().add_row(*(for_terminal(cell) if isinstance(cell, str) else cell for cell in cells), **options)


def table(*columns: str, title: str | None = None, right: Iterable[str] = ()) -> Table:
    """An empty table in the house style.

    The columns named in `right` hold numbers: aligned right and never broken. The others fold where the terminal is
    narrow, the first one last.
    """
    made = _Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    numbers = set(right)
    for column in columns:
        if column in numbers:
            made.add_column(column, justify="right", no_wrap=True)
        else:
            made.add_column(column, overflow="fold")
    return made


def verdict(passed: bool) -> Text:
    """`passed` or `FAILED`."""
    return Text("passed", style="green") if passed else Text("FAILED", style="bold red")


def verification_table(verification: Verification) -> Table:
    """Each measured comparison in a row."""
    numbers = ("batch", "images", "max error", "of gate", "top-1")
    made = table("runtime", "inputs", *numbers, "", title=f"compared with {verification.reference}", right=numbers)
    for column in (made.columns[0], made.columns[1], made.columns[-1]):
        column.no_wrap = True
    said = ""
    for check in verification.checks:
        runtime = f"{check.runtime} {check.precision}"
        made.add_row("" if runtime == said else runtime, *_check_cells(check), verdict(check.passed))
        said = runtime
    return made


def _check_cells(check: Check) -> tuple[str, ...]:
    return (
        check.inputs,
        str(check.batch),
        str(check.count),
        f"{check.max_absolute_error:.2g}",
        f"{check.gate_use:.1%}" if check.gate_use < 10 else f"{check.gate_use:.1g}x",
        f"{100 * check.top1_agreement:.4g}%",
    )


def search_tables(search: PrecisionSearch) -> Iterable[Table | Text]:
    """What every attempt of a search for a lower precision measured, and what each was and became of it."""
    from vitrify.workflows.quantize.report import figures, outcome

    numbers = ("#", "top-1", "agree", "error", "ms, source", "x as fast")
    made = table(*numbers, title=f"{search.runtime}, batch {search.batch}", right=numbers)
    for place, attempt in enumerate(search.attempts, 1):
        made.add_row(str(place), *figures(attempt))
    yield made
    for place, attempt in enumerate(search.attempts):
        name, verdict_ = outcome(search, place)
        style = "green" if attempt.passed else "bold red"
        yield Text.assemble(f"#{place + 1} {name}: ", (verdict_, style if attempt.recipe != "source" else ""))


def drift_tables(report: LayerReport) -> Iterable[Table | Text]:
    """Each part of the network in a row, one table for each runtime and kind of input."""
    for run in report.comparisons:
        numbers = ("relative", "dB", "growth", "max", "mean", "largest", "worst at")
        title = (
            f"{run.runtime} {run.precision} against {report.reference} in {report.reference_runtime}, "
            f"{run.count} {run.inputs} inputs, tolerance {run.tolerance:g}"
        )
        rows = table("part", *numbers, "", title=title, right=numbers)
        rows.columns[0].no_wrap = True
        for part in run.parts:
            rows.add_row(part.part, *_drift_cells(part), _drift_verdict(part, run))
        yield rows
        for part in run.parts:
            if hints := _drift_hints(part):
                yield Text(f" {part.part}: {hints}", style="yellow")


def _drift_cells(part: PartDrift) -> tuple[str, ...]:
    return (
        f"{part.relative_error:.2g}",
        "exact" if part.snr_db is None else f"{part.snr_db:.0f}",
        "" if part.growth is None else f"{part.growth:.2g}x" if part.growth < 1000 else ">1000x",
        f"{part.max_absolute_error:.2g}",
        f"{part.mean_absolute_error:.2g}",
        f"{part.reference_magnitude:.3g}",
        ",".join(map(str, part.worst_index)) if part.max_absolute_error else "",
    )


def _drift_verdict(part: PartDrift, run: LayerComparison) -> Text:
    words = Text()
    if not part.passed:
        first = part.part == run.first
        words.append("FIRST, " if first else "", style="bold red").append(part.not_finite or "out", style="red")
    return words


def _drift_hints(part: PartDrift, *, outlier_share: float = 0.5) -> str:
    hints = ["near fp16's limit"] if part.near_fp16_limit else []
    if len(part.shape) > 1 and part.worst_channel_share > outlier_share:
        hints.append(f"channel {part.worst_channel} makes {part.worst_channel_share:.0%} of the error")
    if part.worst_token is not None and part.worst_token_share > outlier_share:
        hints.append(f"token {part.worst_token} makes {part.worst_token_share:.0%} of the error")
    return "; ".join(hints)


def side_by_side_table(answers: SideBySide) -> Table:
    """Probabilities in every runtime, with the differences from the first."""
    first, *others = answers.columns
    made = table("class", title=f"probabilities of {answers.source}")
    made.columns[0].min_width = 5
    made.add_column(first.replace(" ", "\n"), justify="right", no_wrap=True)
    for other in others:
        made.add_column(other.replace(" ", "\n"), justify="right", no_wrap=True)
        made.add_column("differs\nby", justify="right", no_wrap=True, style="dim")
    for row, label in enumerate(answers.labels):
        cells = [f"{answers.columns[first][row]:.6f}"]
        for other in others:
            cells += [f"{answers.columns[other][row]:.6f}", f"{answers.differences(other)[row]:+.0e}"]
        made.add_row(label, *cells)
    return made


def evaluation_tables(evaluation: Evaluation, *, classes: int = 20, flips: int = 10) -> Iterable[Table]:
    """Accuracy, the classes, the flipped images and the unreadable ones."""
    low, high = evaluation.top1_interval
    summary = table("", "", title=f"{evaluation.artifact} on {evaluation.data}")
    summary.show_header = False
    summary.add_row("images", f"{evaluation.count:,}")
    summary.add_row("top-1", f"{evaluation.top1:.2%}   95% interval {low:.2%} to {high:.2%}")
    if evaluation.top5 is not None:
        summary.add_row("top-5", f"{evaluation.top5:.2%}")
    if evaluation.reference:
        summary.add_row("flipped", f"{len(evaluation.flips)} answers differ from {evaluation.reference}")
    summary.add_row("speed", f"{evaluation.images_per_s:,.0f} images/s, {evaluation.runtime} {evaluation.precision}")
    yield summary
    numbers = ("precision", "recall", "images")
    scores = table("class", *numbers, right=numbers)
    worst = sorted(evaluation.per_class, key=lambda score: score.recall)[:classes]
    for score in sorted(worst, key=lambda score: evaluation.labels.index(score.label)):
        precision = "-" if score.precision is None else f"{score.precision:.1%}"
        scores.add_row(score.label, precision, f"{score.recall:.1%}", str(score.support))
    if len(evaluation.per_class) > classes:
        scores.title = f"the {classes} classes with the least recall, of {len(evaluation.per_class)}"
    yield scores
    if evaluation.flips:
        flipped = table("image", "truth", "answer", "reference", title="flipped answers")
        for flip in evaluation.flips[:flips]:
            flipped.add_row(flip.path, flip.truth, flip.answer, flip.reference)
        if len(evaluation.flips) > flips:
            flipped.add_row(f"… and {len(evaluation.flips) - flips} more: see --json", "", "", "")
        yield flipped
    if evaluation.failures:
        bad = table("image", "why", title=f"{len(evaluation.failures)} images could not be read")
        for path, reason in evaluation.failures[:flips]:
            bad.add_row(path, reason)
        yield bad


def network_table(network: Network) -> Table:
    """Each part of the network in a row, for one image."""
    numbers = ("parameters", "MFLOPs", "nodes")
    title = f"network: ONNX opset {network.opset}, {network.size_bytes / 1e6:.1f} MB"
    rows = table("part", "output", *numbers, right=numbers, title=title)
    for part in network.parts:
        shape = ", ".join("B" if n is None else str(n) for n in part.output_shape)
        nodes = sum(part.operators.values())
        rows.add_row(part.name, f"[{shape}]", f"{part.parameters:,}", f"{part.flops / 1e6:,.1f}", str(nodes))
    rows.add_section()
    nodes = sum(sum(part.operators.values()) for part in network.parts)
    rows.add_row("all", "", f"{network.parameters:,}", f"{network.flops / 1e6:,.1f}", str(nodes))
    if network.eight_bit_products:
        rows.caption = _saturation(network)
    return rows


def _saturation(network: Network) -> Text:
    count, bad = network.eight_bit_products, network.saturating
    if not bad:
        return Text(f"{count} products in 8 bits, which cannot saturate: the same on every x86 processor")
    return Text(
        f"{len(bad)} of {count} products in 8 bits may saturate on x86 without VNNI, such as {bad[0]}", style="yellow"
    )


def engine_table(manifest: Manifest, *, title: str) -> Table:
    """Where an engine may run, and what its build gave."""
    rows = table("", "", title=title)
    rows.show_header = False
    rows.add_row("built by", f"{manifest.product} in {manifest.build_seconds:.1f} s, {manifest.date}")
    rows.add_row("built on", manifest.gpu.name if manifest.gpu else "a machine without a GPU")
    rows.add_row("runs on", f"compute capability {', '.join(manifest.compute_capabilities)}")
    rows.add_row("from", f"{manifest.onnx} sha256 {manifest.onnx_sha256[:12]}…")
    rows.add_row("precision", manifest.precision + (", TF32 permitted" if manifest.config.tf32 else ""))
    if manifest.pinned:
        rows.add_row("held in fp32", f"{len(manifest.pinned)} layers of LayerNorm and softmax")
    rows.add_row("batch", ", ".join(f"{p.min} to {p.max}, tuned for {p.opt}" for p in manifest.config.profiles))
    for name, text in _audit_rows(manifest.audit):
        rows.add_row(name, text)
    if manifest.verification is None:
        rows.add_row("compared", Text("never: run vitrify verify on the target", style="yellow"))
    return rows


def _audit_rows(audit: Audit, *, shown: int = 3) -> Iterable[tuple[str, str]]:
    if audit.source == "none":
        yield "audit", "TensorRT told nothing of its layers"
        return
    types = ", ".join(f"{count} {kind}" for kind, count in sorted(audit.matrix_types.items())) or "none seen"
    yield "layers", f"{len(audit.layers)} ({audit.source})"
    yield "matrix products", types
    yield "attention", f"{audit.fused_attention} of {audit.attention_blocks} blocks fused"
    if audit.opaque:
        yield "not looked into", f"{audit.opaque} layers, whose types this release does not tell"
    for line in audit.shortfalls[:shown]:
        yield "not as asked", line
    if len(audit.shortfalls) > shown:
        yield "", f"… and {len(audit.shortfalls) - shown} more: see --json"


def layer_table(audit: Audit) -> Table:
    """Every layer of an engine."""
    rows = table("layer", "kind", "reads", "writes", title="layers")
    for layer in audit.layers:
        rows.add_row(layer.name, layer.kind, " ".join(layer.reads), " ".join(layer.writes))
    return rows
