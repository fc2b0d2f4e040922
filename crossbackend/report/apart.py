"""Plans of one problem that differ in more than backend, gradient, norm, stepping and rtol stand apart in the report.

A run may hold a problem in two precisions, on two devices, or under two ratios of atol to rtol. The report's tables
have a cell for a series and a tolerance, so each such variant is shown as if it were a problem of its own. Gradients
stand together, for they are to be compared.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from crossbackend.compare import Comparison, ProblemComparison, compare_problem
from crossbackend.record import Record
from crossbackend.report.formats import values

Variant = tuple[tuple[str, object], ...]


def apart(comparison: Comparison) -> Comparison:
    """Return a comparison in which every problem holds plans of one variant only, named by what tells it apart."""
    problems = [part for item in comparison.problems for part in _parts(item)]
    return comparison if len(problems) == len(comparison.problems) else replace(comparison, problems=problems)


def _parts(item: ProblemComparison) -> list[ProblemComparison]:
    found: dict[Variant, list[Record]] = defaultdict(list)
    for record in item.records:
        found[_variant(record)].append(record)
    if len(found) < 2:
        return [item]
    common = set.intersection(*(set(variant) for variant in found))
    return [
        compare_problem(f"{item.problem} ({_words(variant, common)})", records, item.card, item.reference)
        for variant, records in found.items()
    ]


def _variant(record: Record) -> Variant:
    plan = record.plan
    factor = float(f"{plan['atol'] / plan['rtol']:.6g}")
    return (
        ("", plan.get("dtype")), ("", plan.get("device")), ("atol / rtol", factor),
        ("first step", plan.get("first_step")),
    )  # fmt: skip


def _words(variant: Variant, common: set[tuple[str, object]]) -> str:
    own = [pair for pair in variant if pair not in common]
    return ", ".join(f"{name} {values(value)}".strip() for name, value in own)
