"""Before any solve: every problem's functions run once in each library."""

from __future__ import annotations

from crossbackend import registry
from crossbackend.errors import Mistake, raise_all
from crossbackend.problem import Problem
from crossbackend.study.pool import Failed
from crossbackend.study.state import Study
from crossbackend.trial import Trial, compare_ports


def run_trials(study: Study) -> None:
    """Try the problems that have cells to run; raise all mistakes as one error, or note them in a lenient run.

    Functions that bring the worker down are noted in `study.lost`: their cells get that status, the rest goes on.

    Raises
    ------
    UserError
    """
    names = {cell.problem.name for cell in study.cells if cell.digest in study.todo}
    problems = [problem for problem in study.problems if problem.name in names]
    by_library: dict[str, str] = {}
    for name in study.backends:
        by_library.setdefault(registry.get(name).library, name)
    found = study.tried

    def trials(library: str, backend: str) -> None:
        for problem in problems:
            try:
                found[problem.name, library] = study.workers[backend].ask(problem, "trial", library=library)
            except Failed as error:
                study.lost[problem.name, library] = error

    study.side_by_side([lambda library=a, backend=b: trials(library, backend) for a, b in by_library.items()])
    for problem in problems:
        mistakes = _mistakes(problem, [found[key] for key in sorted(found) if key[0] == problem.name])
        if mistakes:
            study.mistaken[problem.name] = mistakes
    if not study.options.lenient:
        raise_all([mistake for mistakes in study.mistaken.values() for mistake in mistakes])


def _mistakes(problem: Problem, trials: list[Trial]) -> list[Mistake]:
    """Return a problem's mistakes; the same one shows in every library, and one of them says it."""
    first = next((trial.mistakes for trial in trials if trial.mistakes), [])
    return compare_ports(problem, *trials) if not first and len(trials) == 2 else first
