"""Why results differ, for one problem of a run: as one JSON object, and as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from crossbackend.flag_groups import grouped
from crossbackend.gradient_costs import Against, GradientCost
from crossbackend.norms import GROUPS
from crossbackend.record import ERROR_PARTS, usual_rtol
from crossbackend.series import series_of
from crossbackend.speedup import SpeedUp
from crossbackend.summary import ADDITIVE
from crossbackend.wording import percent

if TYPE_CHECKING:
    from crossbackend.compare import ProblemComparison


@dataclass(frozen=True, repr=False)
class Explanation:
    """What explains one problem's results: whose error, which setting, at what price.

    Attributes
    ----------
    item : ProblemComparison
    rtol : float or None
        The tolerance that the text is about; 1e-6, or the one nearest to it, where it is None.
    """

    item: ProblemComparison
    rtol: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that `crossbackend explain --json` prints, of every tolerance."""
        item = self.item
        return {
            "problem": item.problem,
            "reference": {key: item.reference.get(key) for key in ("status", "floor", "check", "leaves")},
            "rejections": [asdict(row) for row in item.rejections],
            "splits": item.splits,
            "speedups": [asdict(row) for row in item.speedups],
            "gradients": [asdict(row) for row in item.gradients],
            "savings": [asdict(row) for row in item.savings],
            "flags": [asdict(flag) for flag in item.flags],
            "settings_differ": item.settings_differ,
        }

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        item = self.item
        rtol = usual_rtol(record.rtol for record in item.records) if self.rtol is None else self.rtol
        parts = [
            [f"{item.problem} at rtol {rtol:g}" if rtol else item.problem],
            [*_rejections(item, rtol)], [*_splits(item)], [*_speedups(item, rtol)],
            [*_gradients(item)], [*_flags(item)], [*_settings(item)],
        ]  # fmt: skip
        return "\n".join(line for part in parts if part for line in [*part, ""])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> Iterator[str]:
    """Yield the lines of a table whose first columns are words."""
    widths = [max(len(row[k]) for row in [head, *rows]) for k in range(len(head))]
    for row in [head, *rows]:
        cells = [
            cell.ljust(width) if k < left else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()


def _wrapped(words: str, indent: str = "  ") -> list[str]:
    return textwrap.wrap(words, 118, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)


def _rejections(item: ProblemComparison, rtol: float | None) -> Iterator[str]:
    rows = [row for row in item.rejections if row.rtol == rtol]
    yield "Whose error rejected the backward steps"
    if not rows:
        yield "  not recorded"
        return
    body = [
        [row.backend, row.stepping, row.series, str(row.accepted), str(row.rejected),
         *(str(row.by_block[group]) if group in row.by_block else "–" for group in GROUPS),
         str(row.spurious), str(row.masked)]
        for row in rows
    ]  # fmt: skip
    head = ["backend", "stepping", "norm", "accepted", "rejected", *(f"by {group}" for group in GROUPS)]
    yield from _table([*head, "spurious", "masked"], body, 3)
    yield from _wrapped(
        "spurious: rejected though y and a_y alone were good enough; masked: accepted though they were not"
    )


def _splits(item: ProblemComparison) -> Iterator[str]:
    yield "Where the gradient's error comes from (SciPy, native)"
    if not item.splits:
        yield "  not measured: it takes a native SciPy record and `crossbackend run` without --no-explain"
        return
    rows: list[list[str]] = []
    said: dict[str, list[str]] = {}
    for split in item.splits:
        if "parts" in split:
            parts = [f"{split['parts'][name]:.1e}" for name in ERROR_PARTS]
            cell = [split["backend"], series_of(split), f"{split['rtol']:g}", f"{split['whole']:.1e}"]
            rows.append([*cell, *parts, f"{split['residual']:.1%}"])
        words = sentence(split) if "parts" in split else str(split.get("message", "not measured"))
        said.setdefault(words, []).append(series_of(split))
    if rows:
        yield from _table(["backend", "norm", "rtol", "error", *ERROR_PARTS, "residual"], rows, 2)
    for words, found in said.items():
        yield from _wrapped(f"{', '.join(found)}: {words}")


def sentence(split: dict[str, Any]) -> str:
    """Say what an error split says: which part dominates, and whether the parts add up."""
    if split["residual"] > ADDITIVE:
        return (
            "the parts do not add up: the reverse solve carries small errors so far that they no longer count once each"
        )
    share = split["share"]
    largest = max(ERROR_PARTS, key=lambda name: abs(share[name]))
    words = {
        "forward": "the forward solve",
        "reconstruction": "the reverse solve's y",
        "a_y": "a_y",
        "a_params": "the integral of a_params",
    }
    return (
        f"{words[largest]} makes {percent(share[largest])} of the error; y and a_y in both passes make "
        f"{percent(1 - share['a_params'])}, the integral of a_params {percent(share['a_params'])}"
    )


def _speedups(item: ProblemComparison, rtol: float | None) -> Iterator[str]:
    cells = list(dict.fromkeys((row.backend, row.stepping, row.series) for row in item.speedups))
    if not cells:
        return
    yield "What a norm saves against `default` (NFE: evaluations of the backward pass)"
    found = {(row.backend, row.stepping, row.series, row.cost): row for row in item.speedups}
    saved = {(row.backend, row.stepping, row.series): row for row in item.savings if row.rtol == rtol}
    rows = [
        [*cell, percent(saved[cell].saved) if cell in saved else "–",
         *(_factor(found.get((*cell, cost))) for cost in ("backward_nfe", "time"))]
        for cell in cells
    ]  # fmt: skip
    head = ["backend", "stepping", "norm", "NFE saved at equal rtol", "NFE at equal error"]
    yield from _table([*head, "time at equal error"], rows, 3)
    reasons: dict[str, list[str]] = {}
    for row in item.speedups:
        if row.reason:
            reasons.setdefault(row.reason, []).append(f"{row.backend} {row.stepping} {row.series} ({row.cost})")
    for reason, where in reasons.items():
        named = "" if len(where) == len(item.speedups) else f" for {', '.join(where)}"
        yield from _wrapped(f"none{named}: {reason}")


def _gradients(item: ProblemComparison) -> Iterator[str]:
    """Yield what each way to take the gradient costs against backsolve, those of one reason together."""
    if not item.gradients:
        return
    yield "Gradient methods: how many times less than backsolve each costs at equal error, and the error it reaches"
    costs = ("backward_nfe", "total_nfe", "time")
    rows = []
    for row in item.gradients:
        last = [_reached(row), _memory(row)]
        baselines = list(dict.fromkeys(found.norm for found in row.against))
        for norm in baselines:
            rows.append([row.backend, row.name, norm, *(_factor(row.found(norm, cost)) for cost in costs), *last])
        if not baselines:
            rows.append([row.backend, row.name, *["–"] * (1 + len(costs)), *last])
    head = ["backend", "gradient", "against", "backward NFE", "NFE of both passes", "time", "smallest error", "memory"]
    yield from _table(head, rows, 3)
    reasons = {found.reason: None for row in item.gradients for found in row.against if found.reason}
    for reason in reasons:
        yield from _wrapped(f"none: {reason}")


def _reached(row: GradientCost) -> str:
    said = "not known" if row.error is None else f"{row.error:.1e}"
    return f"{said}, unstable" if row.unstable else said


def _memory(row: GradientCost) -> str:
    """Return how far a call raises the memory in use, or the device's peak, where one is known."""
    known = row.device_memory_bytes if row.device_memory_bytes is not None else row.memory_rise_bytes
    return "–" if known is None else f"{known / 1e6:.1f} MB" if known >= 1e6 else f"{known / 1e3:.0f} kB"


def _factor(row: SpeedUp | Against | None) -> str:
    if row is None or row.factor is None:
        return "none"
    return f"{row.factor:.2f}x ({row.low:.2f} to {row.high:.2f})"


def _flags(item: ProblemComparison) -> Iterator[str]:
    groups = grouped(item)
    yield "Flags"
    if not groups:
        yield "  none"
    for group in groups:
        yield from _wrapped(f"{group.level} {group.name}" + (f", in {group.cells}" if group.cells else ""))
        below = group.name == "settings_differ"
        for words in ["they stand side by side below"] if below else group.evidence:
            yield from _wrapped(words, "      ")
        if group.more and not below:
            yield f"      and {group.more} more"
        yield from _wrapped(group.advice, "    > ")


def _settings(item: ProblemComparison) -> Iterator[str]:
    """Yield the settings that differ, those alike under several norms once."""
    merged: dict[tuple[Any, ...], list[str]] = {}
    for row in item.settings_differ:
        values = tuple((name, str(value)) for name, value in row["values"].items())
        merged.setdefault((row["stepping"], row["pass"], row["setting"], values), []).append(series_of(row))
    if merged:
        yield "Settings that differ"
    for (stepping, which, setting, values), found in merged.items():
        yield f"  {stepping}, {which} {setting.replace('_', ' ')} ({', '.join(found)})"
        width = max(len(name) for name, _ in values)
        for name, value in values:
            yield f"      {name.ljust(width)}  {value}"
