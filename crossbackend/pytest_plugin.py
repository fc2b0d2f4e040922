"""The pytest plug-in: one line makes a test of whether a problem's gradients agree.

pytest loads it by itself. A test takes the fixture `gradients_agree`, carries the marker
`@pytest.mark.crossbackend(problem, **options)`, or calls `assert_gradients_agree`; see docs/ci.md. torch and JAX are
loaded when a test runs, and by worker processes alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from crossbackend.check.findings import Check
    from crossbackend.problem import Problem

MARKER = "crossbackend"
OPTIONS = ("backends", "norms", "rtols", "steppings", "fail_on", "within", "seeds", "timeout", "baseline")
"""What `assert_gradients_agree`, the fixture and the marker take beside the problem."""
_MANY = ("backends", "norms", "rtols", "steppings", "fail_on")
"""Those of which one may be given in place of several."""
_UPDATE = "--crossbackend-update-baseline"
_configs: list[pytest.Config] = []
"""Those of the pytest that runs here, the last one's on top: a test of a plug-in runs one inside another."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option and the two settings."""
    group = parser.getgroup("crossbackend", "crossbackend")
    group.addoption(_UPDATE, action="store_true", help="record what crossbackend counted as the baseline, and pass")
    parser.addini("crossbackend_timeout", "seconds for one solve of a problem that crossbackend checks", default="")
    parser.addini("crossbackend_baseline", "file of the baseline that crossbackend's checks are held to", default="")


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and read the settings once, so that a mistake in them ends the run."""
    words = "check a problem (a Problem, a gallery name or a path) before the test's body; docs/ci.md"
    config.addinivalue_line("markers", f"{MARKER}(problem, **options): {words}")
    _ini_timeout(config)
    _configs.append(config)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Forget the settings."""
    if config in _configs:
        _configs.remove(config)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> None:
    """Check the problems of a test's markers before its body, the outermost first."""
    for marker in reversed(list(item.iter_markers(MARKER))):
        if wrong := _wrong_with(marker, item.config):
            pytest.fail(wrong, pytrace=False)  # no line of the test's led here


def _wrong_with(marker: pytest.Mark, config: pytest.Config) -> str:
    """Return why a test with this marker fails; nothing where the problem's gradients agree."""
    from crossbackend.errors import UserError

    if len(marker.args) != 1:
        said = f"@pytest.mark.{MARKER} takes one problem, got {len(marker.args)} arguments"
        return f"{said}: write @pytest.mark.{MARKER}('linear', norms=['seminorm'])"
    try:
        return _judged(marker.args[0], dict(marker.kwargs), config)[1]
    except UserError as error:
        return str(error) or repr(error)


@pytest.fixture
def gradients_agree(request: pytest.FixtureRequest) -> Callable[..., Check]:
    """Return `assert_gradients_agree` with the settings of this pytest."""

    def check_it(problem: Problem | str | Path, **options: Any) -> Check:
        __tracebackhide__ = True
        return _assert(problem, options, request.config)

    return check_it


def assert_gradients_agree(problem: Problem | str | Path, **options: Any) -> Check:
    """Check one problem on all installed backends; fail where a question of the check does.

    Parameters
    ----------
    problem : Problem, str or Path
        One, a gallery name, or a path; a relative one counts from pytest's root folder.
    **options
        `backends`, `norms`, `rtols`, `steppings`, `fail_on`, `within` and `seeds`, as `crossbackend.check.check` takes
        them; `timeout`, seconds for one solve (by default the setting `crossbackend_timeout`); `baseline`, a file
        (`crossbackend_baseline`), or None for none.

    Returns
    -------
    Check
        All that was found; it has no failures.

    Raises
    ------
    AssertionError
        A question failed: its text is the table, with the worst leaf, both values and what the evidence points to.
        Or fewer than two backends gave a gradient, so that nothing was compared.
    UserError
        No such problem or option.
    """
    __tracebackhide__ = True
    return _assert(problem, options, _configs[-1] if _configs else None)


def _assert(problem: Any, options: Mapping[str, Any], config: pytest.Config | None) -> Check:
    """Do what `assert_gradients_agree` says; a mistake is raised here, where no frame of the check's is shown."""
    __tracebackhide__ = True
    from crossbackend.errors import UserError

    try:
        found, wrong = _judged(problem, dict(options), config)
    except UserError as error:
        raise UserError(*error.mistakes) from None
    if found is None or wrong:
        raise AssertionError(wrong)
    return found


def _judged(problem: Any, options: dict[str, Any], config: pytest.Config | None) -> tuple[Check | None, str]:
    """Return the check of a problem, None where there is nothing to compare, and what is wrong with it, or nothing."""
    import crossbackend.check as checking
    from crossbackend.check import table
    from crossbackend.errors import UserError

    _refuse_unknown(options)
    if alone := _alone(options.get("backends")):
        return None, alone
    baseline = options.pop("baseline", _ini_baseline(config))
    if options.get("timeout") is None:
        options |= {"timeout": _ini_timeout(config)}
    given: dict[str, Any] = {name: [value] if name in _MANY and isinstance(value, (str, float)) else value
                             for name, value in options.items() if value is not None}  # fmt: skip
    found = checking.check([_placed(problem, config)], progress=False, **given)
    if baseline is not None and found.comparison is not None:
        try:
            _hold(found, _beside_root(Path(baseline), config), config)
        except UserError as error:
            raise UserError(*(replace(each, fix=_for_pytest(each.fix)) for each in error.mistakes)) from None
    return found, _uncompared(found) if found.ok else _for_pytest(table.failure(found.findings))


def _hold(found: Check, path: Path, config: pytest.Config | None) -> None:
    """Hold a check against a baseline, its findings added; or record it, where nothing else failed."""
    from crossbackend.check import baseline

    assert found.comparison is not None
    update = config is not None and bool(config.getoption(_UPDATE, False))
    if update and found.ok:
        baseline.write(path, found.comparison)
    elif not update:
        found.findings.extend(baseline.held_against(found.comparison, baseline.read(path)))


def _for_pytest(words: str) -> str:
    """Return a sentence that names the command line's option with pytest's in its place."""
    return words.replace("--update-baseline", _UPDATE)


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    from difflib import get_close_matches

    from crossbackend.errors import Mistake, raise_all

    mistakes = []
    for name in options:
        if name not in OPTIONS:
            close = get_close_matches(name, OPTIONS, n=1)
            fix = f"Did you mean {close[0]!r}?" if close else ""
            mistakes.append(Mistake("gradients_agree", f"the option {name!r}", f"one of {', '.join(OPTIONS)}", fix))
    raise_all(mistakes)


def _alone(asked: str | Sequence[str] | None) -> str:
    """Return what is wrong where fewer than two backends are there: one agrees with itself, which says nothing."""
    from crossbackend import registry

    needed = "crossbackend: two backends are needed to compare gradients"
    if asked is not None:
        names = [asked] if isinstance(asked, str) else list(asked)
        return f"{needed}, asked for {names}" if len(set(names)) < 2 else ""
    there = [name for name in registry.installed() if not registry.programs(name)]  # Julia is asked for by name
    if len(there) > 1:
        return ""
    lacking = {name: registry.missing(name) for name in registry.names() if registry.missing(name)}
    needs = "; ".join(f"{name} needs {', '.join(parts)}" for name, parts in lacking.items())
    return f"{needed}, installed: {', '.join(there) or 'none'}; {needs}"


def _uncompared(found: Check) -> str:
    """Return what is wrong where fewer than two backends gave a gradient though nothing failed: others declined."""
    from crossbackend.check import table

    if found.comparison is None:
        names: list[str] = []
        compared = any(finding.what == "agreement" for finding in found.findings)
    else:
        names = sorted({record.backend for record in found.comparison.records if record.status == "ok"})
        compared = len(names) > 1
    if compared:
        return ""
    said = f"a gradient came from {', '.join(names) or 'no backend'} alone"
    return f"crossbackend: nothing was compared, {said}\n\n{table.failure(found.findings)}"


def _placed(problem: Any, config: pytest.Config | None) -> Any:
    """Return a problem as it is, a relative path of a file joined to pytest's root folder where it is there."""
    is_path = isinstance(problem, Path) or (isinstance(problem, str) and problem.endswith(".py"))
    if not is_path or config is None:
        return problem
    placed = _beside_root(Path(problem), config)
    return placed if placed.exists() else problem


def _beside_root(path: Path, config: pytest.Config | None) -> Path:
    return path if config is None else config.rootpath / path.expanduser()


def _ini_baseline(config: pytest.Config | None) -> str | None:
    return (str(config.getini("crossbackend_baseline")).strip() or None) if config is not None else None


def _ini_timeout(config: pytest.Config | None) -> float | None:
    """Return the setting `crossbackend_timeout` in seconds, None where it is not set.

    Raises
    ------
    pytest.UsageError
        No positive number.
    """
    text = str(config.getini("crossbackend_timeout")).strip() if config is not None else ""
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise pytest.UsageError(f"crossbackend_timeout: got {text!r}, expected seconds above 0, as 120")
    return seconds
