"""What was solved: each problem's card and its reference gradient, in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crossbackend.compare import UNCERTAIN_FLOOR, ProblemComparison
from crossbackend.report.draw import Chart
from crossbackend.report.formats import NONE, count, number, sci, seconds, shape, tolerance, values, whole


@dataclass(frozen=True)
class ProblemView:
    """One problem: its words, sizes, reference and picture."""

    name: str
    description: str
    source: str
    facts: list[tuple[str, str]]
    equations: str
    picture: Chart | None


def problem_view(item: ProblemComparison, picture: Chart | None) -> ProblemView:
    """Return the view of one problem beside its picture; a card that is missing leaves gaps that are said."""
    card = item.card
    facts = [
        ("state", _shapes(card.get("state"), card.get("state_size"))),
        ("parameters", _shapes(card.get("parameters"), card.get("parameter_size"))),
        ("in the field", whole(card.get("field_parameter_size"))),
        ("outputs", _times(card.get("ts"))),
        ("breakpoints", _times(card.get("breakpoints"))),
        ("integrals", values(card.get("integrals") or None)),
        ("precision", values(card.get("dtype"))),
        ("reference", reference(item.reference)),
    ]
    facts = [(label, text) for label, text in facts if text != NONE]
    description = str(card.get("description") or "This problem's card is missing from the run.")
    texts = [str(card.get(key) or "") for key in ("source", "equations")]
    return ProblemView(item.problem, description, texts[0], facts, texts[1], picture)


def _shapes(shapes: Any, total: Any) -> str:
    if number(total) is None and not isinstance(shapes, dict):
        return NONE
    words = count(int(total), "number") if number(total) is not None else ""
    if not isinstance(shapes, dict) or not shapes:
        return words or NONE
    named = [f"{name or 'one array'} ({shape(s)})" for name, s in shapes.items()]
    more = f" and {len(named) - 8} more" if len(named) > 8 else ""
    return f"{words}: {', '.join(named[:8])}{more}" if words else ", ".join(named[:8]) + more


def _times(times: Any) -> str:
    if not isinstance(times, list) or not times:
        return NONE
    if len(times) > 6:
        return f"{len(times)} times from {values(times[0])} to {values(times[-1])}"
    return ", ".join(values(t) for t in times)


def reference(found: dict[str, Any]) -> str:
    """Say how far the reference gradient can be believed."""
    status, floor, check = found.get("status"), sci(found.get("floor")), sci(found.get("check"))
    words = {
        "exact": "closed form",
        "ok": f"two independent routes agree to {floor}",
        "uncertain": f"none: its routes differ by {floor}, more than {tolerance(UNCERTAIN_FLOOR)}; no errors are shown",
        "failed": "none: no route finished",
        "missing": "none was computed",
    }
    said = [words.get(str(status), values(status))]
    if status == "exact" and floor != NONE:
        said.append(f"numerical routes agree with it to {floor}")
    if check != NONE:
        said.append(f"finite differences agree to {check}")
    routes = [_route(route) for route in found.get("routes") or [] if isinstance(route, dict)]
    return "; ".join(said) + (f". Routes: {'; '.join(routes)}." if routes else ".")


def _route(route: dict[str, Any]) -> str:
    parts = [seconds(route.get("seconds"))] if number(route.get("seconds")) is not None else []
    parts += [str(route["message"])] if route.get("message") else []
    name = values(route.get("name"))
    return f"{name} ({', '.join(parts)})" if parts else name
