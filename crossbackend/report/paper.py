"""The Paper part of the report: what the paper's experiments gave here, beside what was published."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from crossbackend.compare import Comparison
from crossbackend.published import SOURCE
from crossbackend.report import paper_charts, paper_histograms, paper_tables, pendulum
from crossbackend.report.draw import Chart
from crossbackend.report.formats import typographic
from crossbackend.report.groups import Group
from crossbackend.report.names import Names, training_names
from crossbackend.report.table import Table
from crossbackend.training_summary import Trainings, trainings

TITLE = "The paper's experiments"


@dataclass(frozen=True)
class PaperView:
    """What the pages show of the trainings.

    Attributes
    ----------
    source : str
        Of the published numbers.
    names : Names
        Of the records and the trainings together: the numbers by which the page's switches know them.
    backends, norms : list of str
        Of the trainings alone.
    results : list of (str, Table)
        The paper's Tables 1 to 3, each under its title.
    tables : dict of str to Table
        `times`, `pendulum`, `failures`, `every`.
    groups : list of Group
    """

    source: str
    names: Names = field(repr=False)
    backends: list[str]
    norms: list[str]
    results: list[tuple[str, Table]]
    tables: dict[str, Table]
    groups: dict[str, Group]

    @property
    def own(self) -> Names:
        """The names that a key of these charts explains."""
        return replace(self.names, backends=self.backends, series=self.norms)


def build(comparison: Comparison, names: Names) -> PaperView | None:
    """Return the view of a comparison's trainings, None where it has none; `names` are those of its records."""
    records = comparison.training
    if not records:
        return None
    every = training_names(comparison, names)
    found = trainings(records)
    titles = {id(record): item.title for item in found for record in item.records}
    order = [record for item in found for record in item.records]
    groups = _groups([_titled(item) for item in found], every)
    return PaperView(
        SOURCE, every, [name for name in every.backends if any(r.backend == name for r in records)],
        [name for name in every.series if any(r.norm == name for r in records)], paper_tables.tables(found),
        {
            "times": paper_tables.times(found), "pendulum": pendulum.table(found),
            "failures": paper_tables.failures(order, titles), "every": paper_tables.every(order, titles),
        },
        {group.name: group for group in groups if group.charts or group.absent},
    )  # fmt: skip


def _titled(item: Trainings) -> Trainings:
    return replace(item, told={name: typographic(said) for name, said in item.told.items()})


Draw = Callable[[Trainings, Names, str], Chart | None]


def _groups(found: Sequence[Trainings], names: Names) -> list[Group]:
    ended = [item for item in found if any(record.ended for record in item.records)]
    return [
        _each("paper-curves", "During training (the paper's Figure 1)", (
            "The metric on the test set above, evaluations of the backward passes of an epoch below; mean over the "
            "seeds, with a band of one standard deviation. The seminorm pays where its curve below lies under the "
            "default's while the curves above stay together."
        ), found, names, paper_charts.curves, "no training ended with a whole epoch."),
        _each("paper-evaluations", "Where the backward solve evaluates (the paper's Figure 4)", (
            "Evaluations per backward solve over the problem's time, six for each step that was attempted. Mean of the "
            "last training steps; each chart says how many they are."
        ), ended, names, paper_histograms.evaluations, "no backward solve is stored."),
        _each("paper-rejections", "Where it rejects steps (the paper's Figure 5)", (
            "The rejected steps of the same solves, each at its middle, per backward solve too."
        ), [item for item in ended if any(r.solved("backward") for r in item.records)], names,
              paper_histograms.rejections, "no backward step was rejected."),
        _widths(ended, names),
        *_pendulum(ended, names),
    ]  # fmt: skip


def _each(
    name: str, title: str, look: str, found: Sequence[Trainings], names: Names, draw: Draw, lacking: str
) -> Group:
    charts = [draw(item, names, f"{name}-{index}") for index, item in enumerate(found)]
    absent = [f"{item.title}: {lacking}" for item, chart in zip(found, charts, strict=True) if chart is None]
    return Group(name, title, look, [chart for chart in charts if chart is not None], absent, wide=True)


def _widths(found: Sequence[Trainings], names: Names) -> Group:
    """Return backward evaluations against the width of what was trained at several."""
    families: dict[object, list[Trainings]] = defaultdict(list)
    for item in found:
        families[replace(item.setting, width=None)].append(item)
    several = [items for items in families.values() if len({item.setting.width for item in items} - {None}) > 1]
    charts = []
    for index, items in enumerate(several):
        charts.append(paper_charts.width(items, names, f"paper-width-{index}", items[0].titled(without="width")))
    look = (
        "Mean over the seeds with one standard deviation. The paper's flow needs more evaluations the wider it is, and "
        "fewer of them under the seminorm."
    )
    return Group("paper-width", "Backward evaluations against width", look, [c for c in charts if c is not None], [])


def _pendulum(found: Sequence[Trainings], names: Names) -> list[Group]:
    """Return the frames and the traces of the controlled pendulum, a chart for each setting and backend."""
    pairs = [(item, backend) for item in found for backend in names.backends if pendulum.chosen(item, names, backend)]
    made = []
    for kind, draw in (("frames", pendulum.frames), ("traces", pendulum.traces)):
        name = f"paper-{kind}"
        drawn = [draw(item, names, f"{name}-{index}", backend) for index, (item, backend) in enumerate(pairs)]
        made.append([chart for chart in drawn if chart is not None])
    control = (
        "The trained model controls the simulated pendulum from hanging down, by energy shaping and damping. Drawn is "
        "the lowest seed of each norm, whatever it reached; the table has all of them. "
    )
    return [
        Group("paper-frames", "The controlled pendulum (the paper's Figure 2)",
              control + "The horizontal line is the height of the first joint.", made[0], [], wide=True),
        Group("paper-traces", "Its angles, velocities and control (the paper's Figure 3)",
              "The same runs. Dashed: where the joint would be upright.", made[1], [], wide=True),
    ]  # fmt: skip
