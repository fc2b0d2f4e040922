"""A module imports only from lower floors; read from the source, so that imports inside functions count too."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "crossbackend"
FLOORS = (
    (
        "errors",
        "tree",
        "machine",
        "dense",
        "quadrature",
        "hairer",
        "snapping",
        "wording",
        "notebook",
        "series",
        "published",
        "kinds",
        "spread",
        "julia_program",
    ),
    ("norms", "ops", "adapt", "new", "initialise", "datasets", "julia_process"),
    ("ratios", "problem"),
    ("record", "training_record", "bound", "plan", "load", "storable"),
    ("pairs",),
    ("store", "agreement", "summary", "flags", "rejections", "speedup", "frame", "training_summary", "flattened"),
    (
        "trial",
        "digest",
        "backends.contract",
        "backends.training",
        "lowering",
        "scaling",
        "flag_groups",
        "advice",
        "gradient_costs",
        "gradient_points",
        "training_points",
        "imports_reading",
        "lock",
    ),
    (
        "registry",
        "augmented",
        "julia_functions",
        "backends.scipy_solver",
        "backends.torchdiffeq_recording",
        "backends.diffrax_recording",
        "backends.diffrax_data",
        "recipe",
        "compare",
        "explain",
    ),
    (
        "backends.scipy_gradient",
        "backends.diffrax_through_steps",
        "backends.torchdiffeq_training",
        "backends.diffrax_training",
        "interpolating",
        "diff",
        "julia_text",
    ),
    ("backends.scipy_along",),
    (
        "backends.scipy",
        "backends.torchdiffeq",
        "backends.diffrax",
        "finite_differences",
        "error_split",
        "report",
        "julia_files",
    ),
    ("reference", "stored", "backends.julia"),
    ("quick_reference",),
    ("study", "export"),
    ("train", "imports", "check"),
    ("api",),
    ("cli_stored", "cli_train", "cli_julia", "cli_check"),
    ("cli", "pytest_plugin"),
    ("__main__", "__init__"),
)
"""Rooms, a module or a package, from the ground up. `backends/` is no room: each of its modules is one."""
INSIDE_STUDY = (
    ("protocol", "options", "parcel"),
    ("pool",),
    ("cells", "bench"),
    ("explained", "timing", "line"),
    ("sweep", "state"),
    ("trials", "lane", "references", "tasks"),
    ("crew",),
    ("cluster",),
    ("dispatch",),
    ("run", "worker"),
    ("__init__",),
)
INSIDE_TRAIN = (
    ("experiment", "swing_up", "checkpoint"),
    ("experiments.neural_cde", "experiments.cnf", "experiments.symoden"),
    ("experiments.__init__",),
    ("job",),
    ("loop",),
    ("worker", "run"),
    ("__init__",),
)
INSIDE_CHECK = (
    ("findings", "specimen", "holding", "baseline_reading"),
    ("evidence", "table", "mutants"),
    ("causes", "junit", "github", "baseline"),
    ("judge",),
    ("run",),
    ("__init__",),
    ("self_test",),
)
INSIDE = {"check": INSIDE_CHECK, "study": INSIDE_STUDY, "train": INSIDE_TRAIN}
MAY_IMPORT = {
    "torch": (
        "ops",
        "adapt",
        "backends.torchdiffeq",
        "backends.torchdiffeq_recording",
        "backends.torchdiffeq_training",
    ),
    "torchdiffeq": ("backends.torchdiffeq",),
    "jax": (
        "ops",
        "adapt",
        "lowering",
        "backends.diffrax",
        "backends.diffrax_recording",
        "backends.diffrax_through_steps",
        "backends.diffrax_data",
        "backends.diffrax_training",
    ),
    "diffrax": (
        "backends.diffrax",
        "backends.diffrax_recording",
        "backends.diffrax_through_steps",
        "backends.diffrax_training",
    ),
    "optax": ("backends.diffrax_training",),
    "aeon": ("datasets",),
    "sklearn": ("datasets",),
    "equinox": ("backends.diffrax", "backends.diffrax_recording"),
    "matplotlib": ("report",),
    "jinja2": ("report",),
    "typst": ("report",),
    "pandas": ("frame",),
    "distributed": ("study",),
}
"""Libraries that are imported inside functions only, and by these rooms only."""


def modules(package=PACKAGE):
    """Every module by its dotted name within the package."""
    return {".".join(path.relative_to(package).with_suffix("").parts): path for path in package.rglob("*.py")}


def room(module):
    """The room of a module: `lowering.trace` lives in `lowering`, `backends.scipy` is its own."""
    first, _, rest = module.partition(".")
    return module if first == "backends" and rest != "__init__" else first


def imported(source):
    """Yield (dotted name, whether at the top of the module); what only a type checker sees is left out."""
    return list(_imported(ast.parse(source), True))


def _imported(node, top):
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            for other in child.orelse:
                yield from _imported(other, top)
            continue
        if isinstance(child, ast.Import):
            yield from ((alias.name, top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "imports name the package"
            yield from ((f"{child.module}.{alias.name}", top) for alias in child.names)
        yield from _imported(child, top and not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)))


def inner(name, known):
    """The module of this package that an imported name stands for, None for another package's."""
    parts = name.split(".")
    if parts[0] != "crossbackend":
        return None
    for end in range(len(parts), 1, -1):
        candidate = ".".join(parts[1:end])
        if candidate in known:
            return candidate
        if f"{candidate}.__init__" in known:
            return f"{candidate}.__init__"
    return "__init__"


def height(floors):
    return {name: level for level, names in enumerate(floors) for name in names}


def wrong_arrows(sources, floors, room):
    """The imports between rooms that do not go down, as `a (floor) -> b (floor)`."""
    level, found = height(floors), []
    for module, source in sources.items():
        for name, _ in imported(source):
            other = inner(name, sources)
            if other is None or room(other) == room(module) or room(other) == "backends":
                continue
            if level[room(other)] >= level[room(module)]:
                found.append(f"{module} (floor {level[room(module)]}) -> {other} (floor {level[room(other)]})")
    return sorted(set(found))


def wrong_libraries(sources):
    """The imports of a library where it must not be, or at the top of a module."""
    found = []
    for module, source in sources.items():
        for name, top in imported(source):
            library = name.partition(".")[0]
            if library in MAY_IMPORT and room(module) not in MAY_IMPORT[library]:
                found.append(f"{module} imports {library}")
            elif library in MAY_IMPORT and top:
                found.append(f"{module} imports {library} outside a function")
    return sorted(set(found))


@pytest.fixture(scope="module")
def sources():
    return {name: path.read_text(encoding="utf-8") for name, path in modules().items()}


def test_every_module_has_a_floor(sources):
    level = height(FLOORS)
    assert sorted({room(m) for m in sources} - set(level) - {"backends"}) == [], "give the new module a floor"
    assert sorted(set(level) - {room(m) for m in sources}) == [], "no such module any more"
    for package, floors in INSIDE.items():
        inside = {m.removeprefix(f"{package}.") for m in sources if m.startswith(f"{package}.")}
        assert inside == set(height(floors))


def test_imports_go_down(sources):
    assert wrong_arrows(sources, FLOORS, room) == []


@pytest.mark.parametrize("package", ["study", "train"])
def test_imports_go_down_inside(sources, package):
    inside = {name: source for name, source in sources.items() if name.startswith(f"{package}.")}
    floors = [[f"{package}.{name}" for name in names] for names in INSIDE[package]]
    own = f"crossbackend.{package}."
    inner_only = {
        name: "\n".join(f"import {other}" for other, _ in imported(source) if other.startswith(own))
        for name, source in inside.items()
    }
    assert wrong_arrows(inner_only, floors, lambda module: module) == []


def test_libraries_stay_in_their_rooms(sources):
    assert wrong_libraries(sources) == []


PLANTED = {
    "errors": "def f():\n    from crossbackend import cli\n",
    "cli": "import crossbackend.errors\n",
    "summary": "from crossbackend.store import Run\n",
    "store": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from crossbackend.cli import main\n",
    "backends.diffrax": "import jax\nfrom crossbackend.backends import scipy\n",
    "backends.scipy": "def f():\n    import torch.nn\n",
    "report.charts": "from matplotlib import pyplot\n",
}


def test_planted_arrows_are_found():
    assert wrong_arrows(PLANTED, FLOORS, room) == [
        "backends.diffrax (floor 10) -> backends.scipy (floor 10)",
        "errors (floor 0) -> cli (floor 17)",
        "summary (floor 5) -> store (floor 5)",
    ]


def test_planted_libraries_are_found():
    assert wrong_libraries(PLANTED) == [
        "backends.diffrax imports jax outside a function",
        "backends.scipy imports torch",
        "report.charts imports matplotlib outside a function",
    ]
