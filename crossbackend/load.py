"""Problems by name, from the gallery, or by path, from a file of one's own."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

from crossbackend.errors import Mistake, UserError
from crossbackend.problem import Problem

ORDER = (
    "linear", "hudson_bay", "van_der_pol", "spiral", "forced_mlp", "dissipative", "neural_cde", "neural_cde_hermite",
    "neural_cde_relu", "cnf", "cnf_density", "symoden",
)  # fmt: skip
"""The gallery: from the plainest to the one that goes wrong, then the paper's systems; others follow by name."""

_paths: WeakKeyDictionary[Problem, Path] = WeakKeyDictionary()


def gallery_folder() -> Path:
    """Return the folder of the gallery: inside the installed package, or at the top of the repository."""
    package = Path(__file__).resolve().parent
    inside = package / "problems"
    return inside if inside.is_dir() else package.parent / "problems"


def gallery() -> tuple[str, ...]:
    """Return the names of the gallery's problems, in a fixed order."""
    there = sorted(path.stem for path in gallery_folder().glob("*.py") if not path.name.startswith("_"))
    return (*(name for name in ORDER if name in there), *(name for name in there if name not in ORDER))


def path_of(problem: Problem) -> Path | None:
    """Return the file that a problem was loaded from, None for one made elsewhere (or changed since).

    A worker process is sent this path and loads the file itself.
    """
    return _paths.get(problem)


def source_path(problem: Problem | str | Path) -> Path | None:
    """Return the file of a problem, of a gallery name or of a path; None for a problem that has no file.

    Raises
    ------
    UserError
        No such name or file.
    """
    return path_of(problem) if isinstance(problem, Problem) else _find(problem)


def not_own(name_or_path: str | Path) -> str:
    """Return what to know before a file is loaded that is another user's, or that others can write; else nothing.

    Loading a file runs it with the rights of the one who loads it. The command line says this sentence on standard
    error. Python says nothing, neither here nor for `load`: who writes Python has chosen the file, as by an `import`,
    and a warning would be an error for those who make errors of warnings.

    Returns
    -------
    str
        Empty for the gallery, for what is no file, and on systems that know no owner of a file.
    """
    try:
        path = Path(name_or_path).expanduser()
        found = path.stat()
        if path.suffix != ".py" or not path.is_file() or gallery_folder() in path.resolve().parents:
            return ""
    except (OSError, RuntimeError, ValueError):  # `load` says what is wrong with it
        return ""
    me = getattr(os, "geteuid", lambda: None)()
    if me is None:
        return ""
    if found.st_uid != me:
        whose = f"belongs to {_user(found.st_uid)}"
    elif found.st_mode & stat.S_IWOTH:
        whose = "can be written by every user of this system"
    elif found.st_mode & stat.S_IWGRP and not _private(found.st_gid, me):
        whose = f"can be written by the group {_group(found.st_gid)}"
    else:
        return ""
    return f"{name_or_path} {whose}: loading it runs it with your rights"


def _user(number: int) -> str:
    try:
        import pwd

        return f"{pwd.getpwuid(number).pw_name} (user {number})"
    except (ImportError, KeyError):
        return f"user {number}"


def _group(number: int) -> str:
    try:
        import grp

        return f"{grp.getgrgid(number).gr_name} (group {number})"
    except (ImportError, KeyError):
        return f"{number}"


def _private(group: int, user: int) -> bool:
    """Whether a group is its user's own, as many systems make one for every user: its name, and no other member."""
    try:
        import grp
        import pwd

        own, name = grp.getgrgid(group), pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return False
    return own.gr_name == name and set(own.gr_mem) <= {name}


def load(name_or_path: str | Path) -> Problem:
    """Return the problem of a gallery name or of a Python file.

    The file is run anew on every call. It defines one `Problem`: the one called `problem`, or the only one in it. Its
    description, where empty, becomes the first paragraph of the file's docstring. Modules beside the file can be
    imported by it.

    Raises
    ------
    UserError
        No such problem or file; a file that raises, or that defines no problem or several.
    """
    path = _find(name_or_path)
    module = _run(path, str(name_or_path))
    problem = _only_problem(module, path)
    if not problem.description and module.__doc__:
        paragraph = module.__doc__.strip().split("\n\n", 1)[0]
        problem = problem.replace(description=" ".join(paragraph.split()))
    _paths[problem] = path
    return problem


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    if not isinstance(name_or_path, Path) and not text.endswith(".py") and not set(text) & set("/\\"):
        if text in gallery():
            return gallery_folder() / f"{text}.py"
        raise UserError(_unknown_name(text))
    try:
        path = Path(name_or_path).expanduser()
        is_folder, is_file = path.is_dir(), path.is_file()
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, an unknown ~user, a folder that is closed
        said = getattr(error, "strerror", None) or str(error)
        raise UserError(Mistake("problem", f"{text!r} ({said})", "the path of a .py file")) from error
    if is_folder:
        files = sorted(file.name for file in path.glob("*.py"))
        fix = f"Write for example {str(path / files[0])!r}." if files else ""
        raise UserError(Mistake("problem", f"the folder {text!r}", "a gallery name or one .py file", fix))
    if not is_file:
        raise UserError(_unknown_file(path, text))
    if path.suffix != ".py":
        raise UserError(Mistake("problem", f"the file {text!r}", "a gallery name or a .py file"))
    return path.resolve()


def _unknown_name(text: str) -> Mistake:
    names = gallery()
    if os.path.isfile(f"{text}.py"):  # unlike a Path, it takes a name of any length
        fix = f"To load the file, write {f'{text}.py'!r}."
    else:
        close = get_close_matches(text.lower().replace("-", "_"), names, n=1)
        fix = f"Did you mean {close[0]!r}?" if close else ""
    return Mistake("problem", repr(text), f"one of {', '.join(names)}, or the path of a .py file", fix)


def _unknown_file(path: Path, text: str) -> Mistake:
    folder = path.parent
    if not folder.is_dir():
        expected, fix = "the path of a .py file", f"There is no folder {str(folder)!r}."
        return Mistake("problem", f"{text!r}, which does not exist", expected, fix)
    close = get_close_matches(path.name, [file.name for file in folder.glob("*.py")], n=1)
    if close:
        fix = f"Did you mean {str(folder / close[0])!r}?"
    elif path.stem in gallery():
        fix = f"For the gallery's problem, write {path.stem!r}."
    else:
        fix = f"`crossbackend new {path.stem}` writes a file to start from."
    return Mistake("problem", f"{text!r}, which does not exist", "the path of a .py file", fix)


def _run(path: Path, shown: str) -> ModuleType:
    """Run a file as a module of a name that no other file has; nothing is written beside the file."""
    import cloudpickle

    name = f"crossbackend_problem_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    earlier = sys.modules.get(name)
    sys.modules[name] = module  # dataclasses, pickle and inspect look a class's module up here
    folder = str(path.parent)
    sys.path.append(folder)  # at the end: a file beside the problem must not hide an installed package
    try:
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True), module.__dict__)
    except UserError as error:
        _restore(name, earlier)
        raise UserError(*(_in_file(mistake, shown) for mistake in error.mistakes)) from None
    except (Exception, SystemExit) as error:
        _restore(name, earlier)
        raise UserError(_raised(path, shown, error)) from None
    finally:
        sys.path.remove(folder)
    for part in (module, *_modules_beside(path)):  # another process cannot import them by their names
        cloudpickle.register_pickle_by_value(part)
    return module


def _modules_beside(path: Path) -> list[ModuleType]:
    """Return the modules imported so far that lie beside a problem's file."""
    folder = path.parent
    there = [(part, getattr(part, "__file__", None)) for part in list(sys.modules.values())]
    return [
        part for part, file in there if isinstance(file, str) and Path(file).parent == folder and Path(file) != path
    ]


def _restore(name: str, earlier: ModuleType | None) -> None:
    if earlier is None:
        del sys.modules[name]
    else:
        sys.modules[name] = earlier


def _in_file(mistake: Mistake, shown: str) -> Mistake:
    return Mistake(f"{shown}: {mistake.where}", mistake.got, mistake.expected, mistake.fix)


def _raised(path: Path, shown: str, error: BaseException) -> Mistake:
    """Return the mistake of a file that raised: the exception, and the innermost line of the file itself."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        line, words = error.lineno, error.msg
    else:
        line, words = None, next(iter(str(error).splitlines()), "")
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code.co_filename == str(path):
                line = trace.tb_lineno
            trace = trace.tb_next
    fix = ""
    if isinstance(error, ModuleNotFoundError) and error.name:
        fix = f"Install {error.name.partition('.')[0]!r}, or put the module beside the file."
    where = shown if line is None else f"{shown}:{line}"
    got = f"{type(error).__name__}: {words}" if words else type(error).__name__
    return Mistake(where, got, "a file that runs and defines a Problem", fix)


def _only_problem(module: ModuleType, path: Path) -> Problem:
    given = vars(module).get("problem")
    if isinstance(given, Problem):
        return given
    found = {name: value for name, value in vars(module).items() if isinstance(value, Problem)}
    if len({id(value) for value in found.values()}) == 1:
        return next(iter(found.values()))
    expected = "one Problem, called `problem`"
    if found:
        names = ", ".join(sorted(found))
        raise UserError(Mistake(str(path), f"{len(found)} Problems ({names})", expected, "Call one of them `problem`."))
    got = "no Problem" if given is None else f"`problem` of type {type(given).__name__}"
    fix = "Write problem = Problem(...), below `from crossbackend import Problem`."
    raise UserError(Mistake(str(path), got, expected, fix))
