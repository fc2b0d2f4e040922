"""Colours and line styles that belong to names: a backend looks the same in every chart of every report."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# After Okabe and Ito, darkened or lightened until 3:1 against the page: (light theme, dark theme).
_KNOWN = {
    "torchdiffeq": ("#c24e00", "#ff9457"),
    "diffrax": ("#0069a8", "#5cb8f0"),
    "scipy": ("#00805c", "#2fc596"),
    "julia": ("#8a4fb0", "#c9a0e6"),
}
_OTHERS = (
    ("#b0487f", "#ee9cc6"), ("#8a6a00", "#e0b832"), ("#3f5fbf", "#9bb0ff"), ("#5e6b1f", "#b7c864"),
    ("#9b2f2f", "#ff9a92"), ("#3d7480", "#84c5d2"), ("#7a5640", "#d0a88c"), ("#5b5b66", "#b5b5c0"),
)  # fmt: skip
_BLOCKS = {
    "y": ("#8a6a00", "#e0b832"), "a_y": ("#3f5fbf", "#9bb0ff"), "a_params": ("#b0487f", "#ee9cc6"),
    "a_t": ("#5b5b66", "#b5b5c0"),
}  # fmt: skip
_SERIES: dict[str, tuple[Any, str]] = {
    "default": ("-", "o"), "seminorm": ((0, (5, 2)), "s"), "mixed-seminorm": ((0, (1.2, 1.6)), "^"),
    "mixed": ((0, (6, 1.5, 1.2, 1.5)), "D"), "pooled": ((0, (3, 1)), "v"),
    "pooled-seminorm": ((0, (2, 2)), "P"), "as-released": ((0, (8, 2)), "X"),
    "interpolating": ((0, (7, 2, 2.5, 2)), "v"), "quadrature": ((0, (2.5, 1.2)), "D"),
    "direct": ((0, (5, 1.5, 1, 1.5, 1, 1.5)), "P"),
}  # fmt: skip
_OTHER_STYLES = (((0, (8, 2)), "X"), ((0, (4, 1, 1, 1, 1, 1)), "p"), ((0, (1, 3)), "h"), ((0, (6, 4)), "*"))

INK, SOFT, GRID, PAPER, BAND = "#010101", "#020202", "#030303", "#040404", "#050505"
"""Sentinels: colours that stand in the drawing for the theme's variables."""
_THEME = {INK: "ink", SOFT: "soft", GRID: "grid", PAPER: "paper", BAND: "band"}
_PRINT = {INK: "#1c2024", SOFT: "#596069", GRID: "#e3e6ea", PAPER: "#ffffff", BAND: "#eef0f3"}


@dataclass(frozen=True)
class Colour:
    """A backend's colour: its sentinel in drawings, its CSS variable, its value in both themes."""

    sentinel: str
    variable: str
    light: str
    dark: str


def _pick(name: str, choices: int) -> int:
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "replace")).digest()[:4], "big") % choices


def backends(names: Sequence[str]) -> dict[str, Colour]:
    """Return a colour for every backend; known names always have theirs, others one chosen by the name.

    Two unknown names never share a colour while there is a free one: the later in the alphabet moves on.
    """
    found, taken = {}, set()
    for index, name in enumerate(sorted(names)):
        pair = _KNOWN.get(name)
        if pair is None:
            start = _pick(name, len(_OTHERS))
            order = [_OTHERS[(start + k) % len(_OTHERS)] for k in range(len(_OTHERS))]
            pair = next((p for p in order if p not in taken), order[0])
        taken.add(pair)
        found[name] = Colour(f"#07{index // 256:02x}{index % 256:02x}", f"b{index}", *pair)
    return found


def series_style(name: str) -> tuple[Any, str]:
    """Return the line style and marker of a series, a norm or a gradient, chosen by its name."""
    return _SERIES.get(name) or _OTHER_STYLES[_pick(name, len(_OTHER_STYLES))]


def themed(svg: str, colours: dict[str, Colour]) -> str:
    """Return a drawing with CSS variables in place of the sentinels."""
    for sentinel, variable in _THEME.items():
        svg = svg.replace(sentinel, f"var(--{variable})")
    for colour in colours.values():
        svg = svg.replace(colour.sentinel, f"var(--{colour.variable})")
    return svg


def printed(svg: str, colours: dict[str, Colour]) -> str:
    """Return a drawing with the print's colours in place of the sentinels."""
    for sentinel, value in _PRINT.items():
        svg = svg.replace(sentinel, value)
    for colour in colours.values():
        svg = svg.replace(colour.sentinel, colour.light)
    return svg


def blocks() -> dict[str, Colour]:
    """Return the colour of every block of the augmented state, which a rejected step is drawn in."""
    return {name: Colour(f"#0800{k:02x}", f"k{k}", *pair) for k, (name, pair) in enumerate(_BLOCKS.items())}


def every(backends: dict[str, Colour]) -> dict[str, Colour]:
    """Return all colours of a page by their variables: its backends', the components' and the blocks'."""
    others = (*picture_colours(), *blocks().values())
    return {**backends, **{colour.variable: colour for colour in others}}


def picture_colours() -> list[Colour]:
    """Return the colours of a solution's components, which belong to no backend."""
    first = [_KNOWN["diffrax"], _KNOWN["torchdiffeq"], _KNOWN["scipy"], _KNOWN["julia"], *_OTHERS[:2]]
    return [Colour(f"#0600{index:02x}", f"s{index}", *pair) for index, pair in enumerate(first)]
