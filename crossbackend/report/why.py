"""Why results differ: the effective settings in which the backends are not alike."""

from __future__ import annotations

from typing import Any

from crossbackend.compare import Comparison
from crossbackend.report.formats import join, values
from crossbackend.report.names import Names
from crossbackend.report.table import Cell, Table, grouped


def settings(comparison: Comparison, names: Names) -> Table:
    """Return settings that differ between backends; what holds for several norms or problems is said once."""
    merged: dict[tuple[Any, ...], tuple[dict[str, None], dict[str, None]]] = {}
    for item in comparison.problems:
        for found in item.settings_differ:
            shown = tuple(values(found["values"][b]) if b in found["values"] else "" for b in names.backends)
            key = (found["stepping"], found["pass"], found["setting"], shown)
            norms, problems = merged.setdefault(key, ({}, {}))
            norms[found["norm"]] = None
            problems[item.problem] = None
    everywhere = sum(bool(item.settings_differ) for item in comparison.problems)
    keys: list[tuple[str, ...]] = []
    bodies: list[list[Cell]] = []
    for key in sorted(merged, key=lambda k: (k[0] != "native", k[1] != "forward", str(k[2]), k[3])):
        stepping, which, setting, shown = key
        norms, problems = merged[key]
        where = join(norms) if len(problems) == everywhere else f"{join(norms)}; {join(problems)}"
        keys.append((f"{stepping}, {which}", str(setting).replace("_", " ")))
        bodies.append([*(Cell(text) for text in shown), Cell(where)])
    caption = (
        "Effective settings in which the backends differ, as each library got them; solver and tolerances left out."
    )
    columns = ["stepping, pass", "setting", *names.backends, "norms (and problems, if not all)"]
    return Table("settings", caption, columns, grouped(keys, bodies), "Settings that differ")
