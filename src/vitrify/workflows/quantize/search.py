"""The search for a lower precision: recipe after recipe, until one holds, all are tried, or the time is over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vitrify.files import atomic_path
from vitrify.graphs import saturating_products, write_artifact
from vitrify.precision import Recipe, Rewriter, Rewritten, Target, steps
from vitrify.progress import in_words
from vitrify.spec import PRECISION_SEARCH, Attempt, ModelSpec, PrecisionSearch
from vitrify.workflows.quantize.judge import Judge
from vitrify.workflows.quantize.limits import Budget, Loss, TimeIsOverError

CALIBRATION_PASSES = 2
"""How often calibration images go through the source for the first recipe of a precision, about: for the estimate."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Attributes:
        rewritten: The graph.
        spec: With the search and the comparisons in it.
    """

    rewritten: Rewritten
    spec: ModelSpec


@dataclass(frozen=True, kw_only=True)
class _Held:
    """A candidate that held all gates: its place among the attempts, and what it loses."""

    rewritten: Rewritten
    spec: ModelSpec
    place: int
    loss: Loss


class Search:
    """Looks for the first recipe that holds.

    One that loses more than is allowed, but so few answers that chance may have done it, holds; it is kept in reserve,
    as a more careful recipe of its precision may lose less. Without one, or when the time is over, it is what is found.

    Args:
        rewriter: Carries out recipes.
        judge: Judges what they give.
        record: What is known before.
        calibration: How many images the rewriter measures on.
        budget: Ends the search when the time is over.
        attempted: Called with the record so far, after each attempt.
    """

    def __init__(
        self,
        rewriter: Rewriter,
        judge: Judge,
        record: PrecisionSearch,
        *,
        calibration: int,
        budget: Budget,
        attempted: Callable[[PrecisionSearch], object],
    ) -> None:
        self.record = record
        self._rewriter, self._judge, self._calibration = rewriter, judge, calibration
        self._budget, self._attempted = budget, attempted
        self._plan: list[list[float]] = []
        self._tried = 0
        self._reserve: _Held | None = None

    def run(self, begin: Recipe, targets: Sequence[Target]) -> Found | None:
        """Judges the source, then recipes of each precision; `record` has what was tried, also where this raises.

        Args:
            begin: The recipe to begin with.
            targets: Precisions, in order.

        Returns:
            None where none held; `record.stopped` says whether the time was over before all were tried.

        Raises:
            ImageError: An image cannot be read.
        """
        firsts = [_first(begin, target) for target in targets]
        self._plan = [self._planned(first) for first in firsts]
        with TemporaryDirectory() as name, self._budget.watched():
            try:
                self._budget.begin("source", self._judge.images_for_sources(), after=sum(map(sum, self._plan)))
                self._keep(*self._judge.judge_sources())
                held = next(filter(None, (self._best_of(first, Path(name)) for first in firsts)), None)
            except TimeIsOverError as over:
                self._keep(stopped=str(over))
                held = self._reserve
        if held is None:
            return None
        smoothed = tuple(smoothed.module for smoothed in held.rewritten.smoothed)
        self._keep(taken=held.place, smoothed=smoothed)
        return Found(rewritten=held.rewritten, spec=held.spec.extended(PRECISION_SEARCH, self.record))

    def _best_of(self, first: Recipe, folder: Path) -> _Held | None:
        """The first recipe of a precision that holds and loses no more than is allowed, or the reserve."""
        planned = self._plan[0]
        recipes = steps(first, partial(self._rank, folder))
        while planned:
            # Before the recipe is known, as blocks may have to be ranked first.
            units, label = planned.pop(0), f"candidate {self._tried + 1} of up to {self._most()}"
            self._budget.begin(label, units, after=sum(map(sum, self._plan)))
            accurate, held = self._try(next(recipes), label, folder)
            if held is not None:
                if held.loss.is_within(self.record.allowed):
                    return held
                if self._reserve is None or held.loss.net < self._reserve.loss.net:
                    self._reserve = held
                del self._plan[1:]  # no other precision is needed now
            elif accurate:
                break  # a more careful recipe of this precision would be slower still
        self._plan.pop(0)
        return self._reserve

    def _try(self, recipe: Recipe, label: str, folder: Path) -> tuple[bool, _Held | None]:
        """Whether a recipe is accurate, and what it gives where it holds."""
        left = self._budget.work.left_s
        self._budget.say(f"trying {recipe}: {label}" + (f", {in_words(left)} left at most" if left is not None else ""))
        path = folder / "candidate.onnx"
        try:
            rewritten, spec = self._write(recipe, path)
            tried = self._judge.judge(path, recipe)
        except TimeIsOverError as over:
            self._keep(self._judge.unjudged(recipe, f"not judged to the end: {over}"))
            raise
        self._tried += 1
        self._budget.say(f"  {_said(tried.attempt)}")
        self._keep(tried.attempt)
        if not tried.attempt.passed:
            return tried.accurate, None
        loss = Loss(images=self.record.images, lost=tried.attempt.lost or 0, gained=tried.attempt.gained)
        held = _Held(
            rewritten=rewritten,
            spec=spec.replace(verification=tried.verification),
            place=len(self.record.attempts) - 1,
            loss=loss,
        )
        return True, held

    def _write(self, recipe: Recipe, path: Path) -> tuple[Rewritten, ModelSpec]:
        rewritten = self._rewriter.rewrite(recipe)
        spec = _described(self._judge.spec, recipe, rewritten)
        with atomic_path(path) as temporary:
            write_artifact(rewritten.proto, spec, temporary)
        return rewritten, spec

    def _rank(self, folder: Path, recipe: Recipe) -> list[str]:
        """The blocks of the network, the one first that a recipe harms most when it alone is rewritten."""
        path, blocks, harm = folder / "one-block.onnx", self._rewriter.blocks, {}
        for block in self._budget.track(blocks, label="which block suffers most"):
            others = tuple(other for other in blocks if other != block)
            self._write(dataclasses.replace(recipe, keep=others), path)
            harm[block] = self._judge.harm(path, recipe, block)
        return sorted(harm, key=lambda block: -harm[block])

    def _planned(self, first: Recipe) -> list[float]:
        """What each candidate of a precision takes, the ranking of blocks before it included, in images."""
        waiting = float(CALIBRATION_PASSES * self._calibration if first.precision != "bf16" else 0)

        def rank(recipe: Recipe) -> Sequence[str]:
            nonlocal waiting
            waiting += self._judge.images_for_ranking(len(self._rewriter.blocks))
            return self._rewriter.blocks

        planned = []
        for recipe in steps(first, rank):
            planned.append(waiting + self._judge.images_for(recipe))
            waiting = 0
        return planned

    def _most(self) -> int:
        return self._tried + 1 + sum(map(len, self._plan))

    def _keep(self, *attempts: Attempt, **changes: Any) -> None:
        self.record = dataclasses.replace(self.record, attempts=(*self.record.attempts, *attempts), **changes)
        self._attempted(self.record)


def _first(begin: Recipe, target: Target) -> Recipe:
    first = dataclasses.replace(begin, precision=target)
    if target in ("fp16", "bf16"):
        return dataclasses.replace(first, around="fp32", split_qkv=False, keep_attention=False)
    return first


def _described(spec: ModelSpec, recipe: Recipe, rewritten: Rewritten) -> ModelSpec:
    dtype = "float16" if recipe.narrow and recipe.precision == "fp16" else spec.input.dtype
    return spec.replace(
        precision=recipe.precision,
        saturation_free=recipe.precision == "int8" and not saturating_products(rewritten.proto),
        verification=None,
        input=dataclasses.replace(spec.input, dtype=dtype),
    )


def _said(attempt: Attempt) -> str:
    told = [f"top-1 {attempt.top1:.2%}"] if attempt.top1 is not None else []
    told += [f"agreement {attempt.agreement:.2%}"] if attempt.agreement is not None else []
    if attempt.speedup is not None and attempt.passed:  # else its reason says so
        told += [f"{attempt.speedup:.2f} times as fast"]
    return ", ".join(told) + (": held" if attempt.passed else f": {attempt.reason}")
