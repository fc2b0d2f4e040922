"""The phrases that the sentences, the terminal's text and the page share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from crossbackend.wording import listed

if TYPE_CHECKING:
    from crossbackend.diff.parts import BackendTimes, CellChange, ProblemChange, ReferenceChange, VerdictChange

RUNS = ("A", "B")
_LONGEST = 60
"""Characters of one value that are shown."""
_USUAL = {"gradient": "backsolve", "dtype": "float64", "device": "cpu", "first_step": None}
"""Parts of a plan that most plans leave alone, and that are named where they do not."""


def value(found: Any, longest: int = _LONGEST) -> str:
    """Return a recorded value, cut short where it is long; `none` where there is none."""
    text = "none" if found is None else f"{found:g}" if isinstance(found, float) else str(found)
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def arrow(a: Any, b: Any) -> str:
    """Return `758 -> 776`."""
    return f"{value(a)} -> {value(b)}"


def signed(share: float) -> str:
    """Return `+12 %` or `−0.4 %`."""
    text = f"{100 * share:+.0f} %" if abs(share) >= 0.1 else f"{100 * share:+.1f} %"
    return text.replace("-", "\N{MINUS SIGN}")


def multiple(ratio: float) -> str:
    """Return `1.42 times`, `230 times`."""
    return f"{ratio:.2f} times" if 0.1 <= ratio < 10 else f"{ratio:.3g} times"


def spaced(name: str) -> str:
    """Return a recorded name as a reader would write it."""
    return name.removesuffix("_bytes").replace("_", " ")


def named(plans: Iterable[dict[str, Any]], part: str) -> str:
    """List what plans have for one part, each once."""
    return listed(dict.fromkeys(str(plan[part]) for plan in plans))


def where(plans: Sequence[dict[str, Any]], shown: Callable[[float], str] = "{:g}".format) -> str:
    """Name cells of one problem: one in full, several by what they have; `shown` writes a tolerance."""
    parts = [named(plans, part) for part in ("backend", "norm", "stepping")]
    rtols = sorted({plan["rtol"] for plan in plans}, reverse=True)
    ends = rtols if len(rtols) == 1 else [rtols[0], rtols[-1]]
    parts += [f"rtol {' to '.join(map(shown, ends))}", *unusual(plans)]
    return ", ".join(parts) if len(plans) == 1 else f"{len(plans)} cells: {'; '.join(parts)}"


def unusual(plans: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield the parts of plans that most plans leave alone."""
    for part, usual in _USUAL.items():
        if any(plan[part] != usual for plan in plans):
            label = "first step " if part == "first_step" else ""
            yield label + listed(dict.fromkeys(value(plan[part]) for plan in plans))
    atols = sorted({plan["atol"] for plan in plans if f"{plan['atol']:.6g}" != f"{plan['rtol'] / 100:.6g}"})
    if atols:
        yield f"atol {listed(f'{atol:g}' for atol in atols)}"


def changed(cell: CellChange) -> str:
    """Say what became of a cell, in one line."""
    said = [arrow(*cell.status)] if "status" in cell.changed else []
    said += counts(cell)
    if cell.incomparable:
        said.append(f"gradients cannot be compared: {cell.incomparable}")
    if cell.gradient:
        said.append(f"gradients differ by {cell.gradient:.1e}")
    if "loss" in cell.changed:
        said.append(f"loss {arrow(*cell.loss)}")
    if error := errors(cell):
        said.append(f"gradient error {error}")
    if "reconstruction" in cell.changed:
        said.append("reconstruction error {:.1e} -> {:.1e}".format(*cell.reconstruction))
    return "; ".join([*said, *excuses(cell)])


def counts(cell: CellChange) -> Iterator[str]:
    """Say which counts of each solve changed."""
    for solve in ("forward", "backward"):
        own = {name.split()[1]: pair for name, pair in cell.counts.items() if name.startswith(solve)}
        found = [f"{name.replace('nfe', 'NFE')} {arrow(*pair)}" for name, pair in own.items()]
        if found:
            yield f"{solve} {', '.join(found)}"


def errors(cell: CellChange) -> str:
    """Say how the gradient's error moved; nothing where the gradient did not, or has other leaves."""
    a, b = cell.error
    if a is None or b is None or cell.incomparable or not {"gradient", "error"} & set(cell.changed):
        return ""
    beside = "at the reference's floor" if cell.error_ratio is None else multiple(cell.error_ratio)
    return f"{a:.1e} -> {b:.1e}, {beside}"


def excuses(cell: CellChange) -> list[str]:
    """Say why a change may mean little."""
    notes = {"the problem itself changed": cell.expected, "the reverse solve is unstable": cell.unstable}
    return [note for note, holds in notes.items() if holds]


def reference(row: ReferenceChange) -> str:
    """Say how a reference gradient changed."""
    said = [f"status {arrow(*row.status)}"] if row.status[0] != row.status[1] else []
    if row.floor[0] != row.floor[1]:
        said.append("floor {} -> {}".format(*("none" if floor is None else f"{floor:.1e}" for floor in row.floor)))
    return ", ".join(said + ([f"it moved by {row.difference:.1e}"] if row.difference else []))


def problem(change: ProblemChange) -> list[str]:
    """Name what is not the same about a problem."""
    return [spaced(fact.name) for fact in change.facts] + (["its functions or data"] if change.code else [])


def verdict(row: VerdictChange) -> str:
    """Say by how much gradients differ in a matched cell, and whose they are where that changed."""
    said = "gradients differ by {} -> {}".format(*("none" if d is None else f"{d:.1e}" for d in row.difference))
    if row.backends[0] == row.backends[1]:
        return said
    return f"{said}; gradients from {' -> '.join(listed(names) or 'none' for names in row.backends)}"


def beyond(row: BackendTimes) -> str:
    """Say how many of a backend's times changed beyond the spread of their repeats."""
    moved = [f"{n} {what}" for n, what in ((row.slower, "slower"), (row.faster, "faster")) if n]
    said = [f"{listed(moved)} beyond the spread of the repeats"] if moved else []
    if row.within:
        said.append(f"{row.within} within it" if moved else f"{row.within} within the spread of the repeats")
    return ", ".join(said + ([f"{row.unknown} with too few repeats to say"] if row.unknown else []))
