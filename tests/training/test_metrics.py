from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from vitrify.training.metrics import EpochRow, class_scores, csv_of, worst_confusions

ROW = EpochRow(
    epoch=1, lr=1e-3, train_loss=1.5, val_loss=1.0, val_top1=0.5, val_top5=None, images_per_s=123.456789, seconds=2.0
)
CONFUSION = np.array([[8, 2, 0], [0, 5, 0], [3, 0, 0]])


def test_best_is_the_higher_top1_and_then_the_lower_loss() -> None:
    assert ROW.better_than(None)
    assert not ROW.better_than(ROW)
    assert dataclasses.replace(ROW, val_top1=0.6, val_loss=9.0).better_than(ROW)
    assert dataclasses.replace(ROW, val_loss=0.9).better_than(ROW)
    assert not dataclasses.replace(ROW, val_loss=1.1).better_than(ROW)


def test_csv_has_a_header_and_an_empty_cell_for_what_is_absent() -> None:
    assert csv_of([ROW]) == (
        "epoch,lr,train_loss,val_loss,val_top1,val_top5,images_per_s,seconds\n1,0.001,1.5,1,0.5,,123.457,2\n"
    )


def test_precision_and_recall() -> None:
    first, second, third = class_scores(CONFUSION, ["a", "b", "c"])
    assert (first.count, first.recall, second.recall) == (10, 0.8, 1.0)
    assert [first.precision, second.precision] == pytest.approx([8 / 11, 5 / 7])
    assert np.isnan(third.precision)
    assert third.recall == 0.0


def test_the_most_frequent_mistakes_come_first() -> None:
    found = [(w.true, w.predicted, w.count, w.share) for w in worst_confusions(CONFUSION, ["a", "b", "c"])]
    assert found == [("c", "a", 3, 1.0), ("a", "b", 2, 0.2)]
    assert worst_confusions(np.diag([1, 2]), ["a", "b"]) == []
