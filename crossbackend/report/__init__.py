"""The report of a run: one self-contained HTML file and a PDF, a pure function of the `Comparison`.

    formats, table, palette      words and numbers, tables, colours
    draw, charts, step_charts    figures, as SVG that carries a theme's variables instead of colours
    verdict, costs, why, cells   the report's sections as tables and figures
    view                         all of it in reading order
    paper, paper_tables          the paper's experiments, where the run holds trainings; their tables, their charts by
    paper_charts, pendulum       epoch and by width, the controlled pendulum,
    paper_histograms             where in t the backward solves evaluate
    groups, artists              its charts, kind by kind; several processes that draw them
    html, pdf, figures           the two pages that show the view, and its charts as files of their own
    index, notebook              a page that lists the runs of a folder; what a notebook shows of one, or of a record

matplotlib, jinja2 and typst are loaded when a report is written or shown, torch and jax never.
"""

from __future__ import annotations

from pathlib import Path

from crossbackend.compare import Comparison
from crossbackend.notebook import as_html
from crossbackend.record import Record

__all__ = ["write"]


@as_html.register(Comparison)
def _comparison(value: Comparison) -> str:
    from crossbackend.report import notebook

    return notebook.comparison(value)


@as_html.register(Record)
def _record(value: Record) -> str:
    from crossbackend.report import notebook

    return notebook.record(value)


def write(comparison: Comparison, folder: Path, *, pdf: bool = True, figures: bool = False) -> list[Path]:
    """Write `index.html`, `report.pdf` and the figures; equal comparisons give equal bytes.

    Parameters
    ----------
    comparison : Comparison
    folder : Path
        Made if it is not there; each file is there whole or not at all.
    pdf : bool
        False leaves the PDF out.
    figures : bool
        True writes every chart as `figures/KIND-PROBLEM.svg` too.

    Returns
    -------
    list of Path
        The files written.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    from crossbackend.report import html, view
    from crossbackend.store import write_bytes

    shown = view.build(comparison)
    written = [folder / "index.html"]
    write_bytes(written[0], html.render(shown))
    if pdf:
        from crossbackend.report import pdf as printed

        written.append(folder / "report.pdf")
        write_bytes(written[1], printed.render(shown))
    if figures:
        from crossbackend.report import figures as alone

        drawn = {folder / "figures" / name: content for name, content in alone.figures(shown)}
        for path in set((folder / "figures").glob("*.svg")) - set(drawn):
            path.unlink()  # of a problem that the run no longer holds
        for path, content in drawn.items():
            write_bytes(path, content)
        written += drawn
    return written
