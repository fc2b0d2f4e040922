"""Tables 1 to 3 of the paper, as data, to stand beside what is trained here.

Backward evaluations are totals over a whole training. Means and sample standard deviations over the paper's repeats.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = 'P. Kidger, R. T. Q. Chen, T. Lyons, "Hey, that\'s not an ODE": Faster ODE Adjoints via Seminorms, ICML 2021'
PRESET = "published, paper preset"
AS_RELEASED = "called the seminorm in the paper; its code built its norm from the whole trajectory, not from the state"
"""What the second row of Table 3 is: see docs/table3.md."""


@dataclass(frozen=True)
class Published:
    """One row.

    Attributes
    ----------
    table : int
    experiment, data : str
    width : int or None
        Hidden channels of the field.
    rtol, atol : float
    norm : str
        As it is called here: the paper's own seminorm is `mixed-seminorm`.
    metric : str
        `accuracy` (a share), `bits_per_dim` or `test_loss`.
    final, backward_nfe_total : tuple of float
        Mean and standard deviation.
    metric_text, nfe_text : str
        As printed, accuracy in %.
    repeats : int
    note : str
    """

    table: int
    experiment: str
    data: str
    width: int | None
    rtol: float
    atol: float
    norm: str
    metric: str
    final: tuple[float, float]
    backward_nfe_total: tuple[float, float]
    metric_text: str
    nfe_text: str
    repeats: int
    note: str = ""

    @property
    def setting(self) -> tuple[object, ...]:
        """What two rows have in common that differ in the norm."""
        return self.table, self.data, self.width, self.rtol


def _pair(text: str, factor: float) -> tuple[float, float]:
    mean, spread = text.split(" ± ")
    return float(mean) * factor, float(spread) * factor


def _rows(
    table: int, experiment: str, metric: str, factor: float, nfe: float, repeats: int,
    rows: tuple[tuple[str, int | None, float, float, tuple[str, str], tuple[str, str]], ...],
) -> list[Published]:  # fmt: skip
    power = {1e6: "×10⁶", 1e4: "×10⁴"}[nfe]
    found = []
    for data, width, rtol, atol, *pairs in rows:
        for norm, (final, total) in zip(
            ("default", "as-released" if table == 3 else "mixed-seminorm"), pairs, strict=True
        ):
            shown = f"({final})×10⁻⁴" if factor == 1e-4 else final
            note = AS_RELEASED if norm == "as-released" else ""
            found.append(
                Published(table, experiment, data, width, rtol, atol, norm, metric, _pair(final, factor),
                          _pair(total, nfe), shown, f"({total}){power}", repeats, note)
            )  # fmt: skip
    return found


_SPEECH = "Speech Commands"
PUBLISHED: tuple[Published, ...] = (
    *_rows(1, "neural_cde", "accuracy", 1e-2, 1e6, 5, (
        (_SPEECH, None, 1e-3, 1e-6, ("92.6 ± 0.4", "14.36 ± 1.09"), ("92.5 ± 0.5", "8.67 ± 1.60")),
        (_SPEECH, None, 1e-4, 1e-7, ("92.8 ± 0.4", "30.67 ± 2.48"), ("92.5 ± 0.5", "12.75 ± 2.00")),
        (_SPEECH, None, 1e-5, 1e-8, ("92.4 ± 0.7", "77.95 ± 4.47"), ("92.9 ± 0.4", "29.39 ± 0.80")),
    )),
    *_rows(2, "cnf", "bits_per_dim", 1.0, 1e6, 3, (
        ("CIFAR-10", 64, 1e-5, 1e-5, ("3.3492 ± 0.0059", "41.65 ± 1.97"), ("3.3388 ± 0.0082", "38.93 ± 1.32")),
        ("MNIST", 32, 1e-5, 1e-5, ("0.9968 ± 0.0020", "41.50 ± 2.35"), ("0.9942 ± 0.0013", "37.03 ± 0.96")),
        ("MNIST", 64, 1e-5, 1e-5, ("0.9637 ± 0.0008", "44.24 ± 1.78"), ("0.9601 ± 0.0025", "37.85 ± 0.94")),
        ("MNIST", 128, 1e-5, 1e-5, ("0.9504 ± 0.0036", "48.60 ± 2.30"), ("0.9501 ± 0.0031", "41.84 ± 1.92")),
    )),
    *_rows(3, "symoden", "test_loss", 1e-4, 1e4, 5, (
        ("double pendulum", None, 1e-4, 1e-4, ("1.247 ± 0.520", "46.45 ± 0.01"), ("2.995 ± 2.190", "26.55 ± 0.01")),
    )),
)  # fmt: skip


def saved(row: Published) -> float | None:
    """Return the share of the default's backward evaluations that a row saves, None for the default itself."""
    base = next((r for r in PUBLISHED if r.setting == row.setting and r.norm == "default"), None)
    if base is None or row.norm == "default":
        return None
    return 1.0 - row.backward_nfe_total[0] / base.backward_nfe_total[0]
