"""What a report costs by the number of records: `make bench-report`. Lone seconds mean little; sizes stay."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from crossbackend.report import html, pdf, view
from crossbackend.store import load_run, prepare, write_json, write_record, write_reference
from tests.report import synthetic

SIZES = (144, 360, 5000)


def store(comparison, folder):
    prepare(folder)
    write_json(folder / "run.json", comparison.about)
    for item in comparison.problems:
        write_json(folder / "problems" / f"{item.problem}.json", item.card)
        about = {key: value for key, value in item.reference.items() if key != "arrays"}
        write_reference(folder, item.problem, about, {})
        for record in item.records:
            write_record(folder, record)


def measure(records):
    from crossbackend.compare import compare

    with TemporaryDirectory() as name:
        store(synthetic.large(records), Path(name))
        marks = [time.perf_counter()]
        steps = []
        for step in (lambda _: load_run(Path(name)), compare, view.build, lambda v: (v, html.render(v)),
                     lambda pair: (pair[1], pdf.render(pair[0]))):  # fmt: skip
            steps.append(step(steps[-1] if steps else None))
            marks.append(time.perf_counter())
    seconds = [b - a for a, b in zip(marks, marks[1:], strict=False)]
    page, document = steps[-1]
    return len(steps[0].records), seconds, len(page), len(document)


def main():
    view.build(synthetic.single())  # matplotlib's first figure takes a second
    columns = ("records", "read", "compare", "draw", "HTML", "PDF", "page", "document")
    print("".join(f"{name:>10}" for name in columns))
    for size in SIZES:
        records, seconds, page, document = measure(size)
        cells = [f"{records}", *(f"{s:.1f} s" for s in seconds), f"{page / 1e6:.1f} MB", f"{document / 1e6:.1f} MB"]
        print("".join(f"{cell:>10}" for cell in cells))


if __name__ == "__main__":
    main()
