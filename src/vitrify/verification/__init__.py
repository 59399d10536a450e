"""Judges an artifact against its source: metrics, one comparison loop, reports."""

from vitrify.verification.artifact import verify_artifact
from vitrify.verification.compare import (
    BATCH_SIZES,
    Answered,
    Candidate,
    Infer,
    Probe,
    answer,
    infer_with,
    judge,
    standard_probes,
)
from vitrify.verification.drift import DRIFT_TOLERANCES, FP16_MAX, DriftMeter, PartDrift
from vitrify.verification.evaluation import Evaluation, Flip, class_columns, evaluate, evaluate_folder
from vitrify.verification.layers import LayerComparison, LayerReport, compare_layers
from vitrify.verification.metrics import Logits, check_logits
from vitrify.verification.pictures import confusion_picture, drift_picture
from vitrify.verification.record import describe, gate_text, record, require_passed
from vitrify.verification.side_by_side import SideBySide, side_by_side

__all__ = [
    "BATCH_SIZES",
    "DRIFT_TOLERANCES",
    "FP16_MAX",
    "Answered",
    "Candidate",
    "DriftMeter",
    "Evaluation",
    "Flip",
    "Infer",
    "LayerComparison",
    "LayerReport",
    "Logits",
    "PartDrift",
    "Probe",
    "SideBySide",
    "answer",
    "check_logits",
    "class_columns",
    "compare_layers",
    "confusion_picture",
    "describe",
    "drift_picture",
    "evaluate",
    "evaluate_folder",
    "gate_text",
    "infer_with",
    "judge",
    "record",
    "require_passed",
    "side_by_side",
    "standard_probes",
    "verify_artifact",
]
