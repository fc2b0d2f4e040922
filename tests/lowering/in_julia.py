"""What the Julia tests share: many functions printed as one program, run in one Julia process, compared with JAX."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from crossbackend import julia_program, tree
from crossbackend.lowering import JuliaProgram, Traced, lower_julia, trace
from crossbackend.lowering.julia_forms import quoted

SOURCES = julia_program.sources() / "src"
KINDS = {"f": ("Float64", np.float64), "i": ("Int64", np.int64), "u": ("Int64", np.int64), "b": ("Bool", np.bool_)}


@dataclass(frozen=True)
class Case:
    """A function to compare: its arguments by name, those that are static, further arguments to try it on.

    With `exact` a small number is as close to JAX's as a big one, relatively, and a zero has its sign.
    """

    function: Callable[..., Any]
    args: Mapping[str, Any]
    static: tuple[str, ...] = ()
    rtol: float = 1e-12
    more: tuple[Mapping[str, Any], ...] = ()
    exact: bool = False

    def traced(self) -> Traced:
        """Return the trace."""
        return trace(self.function, self.args, static=self.static)

    def calls(self) -> list[dict[str, Any]]:
        """Return the arguments of every call."""
        return [dict(self.args), *({**self.args, **args} for args in self.more)]

    def by_jax(self) -> list[list[np.ndarray]]:
        """Return the leaves of JAX's result of every call."""
        with jax.enable_x64(True):
            run = jax.jit(self.function, compiler_options={"xla_backend_optimization_level": 0})
            results = [run(**jax.tree_util.tree_map(jnp.asarray, args)) for args in self.calls()]
            return [[np.asarray(leaf) for leaf in jax.tree_util.tree_leaves(result)] for result in results]


@dataclass(frozen=True)
class Answer:
    """What Julia gave: the leaves of every call's result, and what was wrong with it otherwise."""

    results: list[list[np.ndarray]]
    complaints: list[str]


DRIVER = """
include(joinpath(ARGS[1], "arrays.jl"))
const rt = Arrays
include(joinpath(ARGS[2], "program.jl"))

const INPUT, OUTPUT = open(joinpath(ARGS[2], "input")), open(joinpath(ARGS[2], "output"), "w")
const CONSTANTS = Dict{String, Any}()

array(T, size) = read!(INPUT, Array{T}(undef, size))
number(T) = read(INPUT, T)

function put(x::Union{Number, Array})
    println(OUTPUT, eltype(x), " ", join(reverse(size(x)), " "))
    write(OUTPUT, x)
end
put(x::AbstractArray) = (println(OUTPUT, "! a result is a ", typeof(x)); put(Array(x)))
put(x::Tuple) = foreach(put, x)
put(x::AbstractDict) = foreach(key -> put(x[key]), sort!(collect(keys(x))))
put(::Nothing) = nothing

spoil(x::Array) = fill!(x, one(eltype(x)))
spoil(x::Union{Tuple, AbstractDict}) = foreach(spoil, values(x))
spoil(x) = nothing

arrays(x::Array) = isempty(x) ? [] : Any[x]
arrays(x::Union{Tuple, AbstractDict}) = reduce(vcat, map(arrays, collect(values(x))); init = [])
arrays(x) = []

function call(f, args)
    kept = deepcopy(args)
    result = try
        Base.invokelatest(f, args...)
    catch error
        println(OUTPUT, "! ", replace(sprint(showerror, error), "\\n" => " "))
        return nothing
    end
    isequal(kept, args) || println(OUTPUT, "! an argument was changed")
    first, parts = deepcopy(result), arrays(result)
    shared = any(Base.mightalias(parts[i], parts[j]) for i in 1:length(parts), j in 1:length(parts) if i < j)
    shared && println(OUTPUT, "! two results share memory")
    spoil(result)
    isequal(kept, args) || println(OUTPUT, "! a result shares an argument's memory")
    isequal(Base.invokelatest(f, args...), first) || println(OUTPUT, "! the second call differs")
    types = Base.return_types(f, Tuple{map(typeof, args)...})
    all(isconcretetype, types) || println(OUTPUT, "! the result's type is not known: ", types)
    put(first)
end

function bound(bind, static)
    try
        return Base.invokelatest(bind, static..., CONSTANTS)
    catch error
        println(OUTPUT, "! bind: ", replace(sprint(showerror, error), "\\n" => " "))
        return (args...) -> nothing
    end
end
"""


class Run:
    """Some cases, printed as one program and run in one Julia process.

    Parameters
    ----------
    cases : mapping of label to Case
    folder : Path
        Where the program and the data are written.
    compiled : bool
        Compile as a user does; interpreted, a case that runs a few times is several times faster.
    """

    def __init__(self, cases: Mapping[str, Case], folder: Path, *, compiled: bool = False) -> None:
        self.cases = cases
        self.names = {label: f"case_{i}" for i, label in enumerate(cases)}
        program = lower_julia({self.names[label]: case.traced() for label, case in cases.items()}, title="Tests")
        self.source = program.source
        write(program, {self.names[label]: case for label, case in cases.items()}, folder)
        flags = ["--startup-file=no", *(["-O1"] if compiled else ["--compile=min", "-O0"])]
        command = [julia_program.program().path, *flags, folder / "driver.jl", SOURCES, folder]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        self.answers = answers(folder / "output")

    def check(self, label: str) -> None:
        """Assert that Julia gave what JAX gives, at every call, and had nothing to complain of."""
        name = self.names[label]
        start = self.source.index(f"function bind_{name}(")
        source = self.source[start : self.source.index("\nend\n", start)]
        assert_same(self.cases[label], self.answers[name], source)


def write(program: JuliaProgram, cases: Mapping[str, Case], folder: Path) -> None:
    """Write a program, what runs it, and the data of all calls."""
    (folder / "program.jl").write_text(program.source)
    lines, data = [DRIVER], []
    for name, value in program.constants.items():
        lines.append(f'CONSTANTS["{name}"] = {sent(value, data)}')
    for name, case in cases.items():
        static = ", ".join(dictionary(case.args[a], data) for a in case.args if a in case.static)
        lines.append(f'println(OUTPUT, "case {name}"); f = bound(bind_{name}, ({static}{"," if static else ""}))')
        for args in case.calls():
            dynamic = "".join(f"{given(v, data)}, " for a, v in args.items() if a not in case.static)
            lines.append(f'println(OUTPUT, "call"); call(f, ({dynamic}))')
    lines.append("close(OUTPUT)")
    (folder / "driver.jl").write_text("\n".join(lines))
    (folder / "input").write_bytes(b"".join(data))


def sent(value: Any, data: list[bytes]) -> str:
    """Append a number or an array to the data and return the source that reads it."""
    array = np.asarray(value)
    name, dtype = KINDS[array.dtype.kind]
    data.append(np.ascontiguousarray(array, dtype).tobytes())
    return f"array({name}, {tuple(reversed(array.shape))})" if array.shape else f"number({name})"


def dictionary(value: Any, data: list[bytes]) -> str:
    """Append the arrays of a static argument and return the source of its dictionary."""
    pairs = ", ".join(f"{quoted(name)} => {sent(leaf, data)}" for name, leaf in tree.leaves(value))
    return f"Dict{{String, Any}}({pairs})"


def given(value: Any, data: list[bytes]) -> str:
    """Append a dynamic argument and return the source that reads it."""
    return dictionary(value, data) if isinstance(value, dict | list | tuple) else sent(value, data)


def answers(path: Path) -> dict[str, Answer]:
    """Read what the driver wrote."""
    found: dict[str, Answer] = {}
    answer = Answer([], [])
    with path.open("rb") as stream:
        while line := stream.readline().decode():
            word, *rest = line.split()
            if word == "case":
                answer = found.setdefault(rest[0], Answer([], []))
            elif word == "call":
                answer.results.append([])
            elif word == "!":
                answer.complaints.append(" ".join(rest))
            else:
                dtype = np.dtype({"Float64": "<f8", "Float32": "<f4", "Int64": "<i8", "Bool": "|b1"}[word])
                shape = tuple(map(int, rest))
                raw = stream.read(dtype.itemsize * int(np.prod(shape, dtype=int)))
                answer.results[-1].append(np.frombuffer(raw, dtype).reshape(shape))
    return found


def assert_same(case: Case, answer: Answer, source: str) -> None:
    """Assert that Julia gave what JAX gives, at every call, and had nothing to complain of."""
    assert not answer.complaints, f"{answer.complaints[:3]}\n{source}"
    for got, want in zip(answer.results, case.by_jax(), strict=True):
        assert len(got) == len(want), source
        for g, w in zip(got, want, strict=True):
            assert g.shape == w.shape, source
            assert g.dtype.kind == ("i" if w.dtype.kind == "u" else w.dtype.kind), source
            if w.dtype.kind == "f":
                scale = max(1.0, np.max(np.abs(w), initial=0.0, where=np.isfinite(w)))
                atol = 0.0 if case.exact else case.rtol * scale
                np.testing.assert_allclose(g, w, rtol=case.rtol, atol=atol, err_msg=source)
                if case.exact:
                    zero = w == 0
                    np.testing.assert_array_equal(np.signbit(g)[zero], np.signbit(w)[zero], err_msg=source)
            else:
                np.testing.assert_array_equal(g, w, err_msg=source)


def cases_of(module: ModuleType) -> dict[str, Case]:
    """Return every call of `assert_same` that the tests of a module make, by the test's name and parameters."""
    found: dict[str, Case] = {}
    original = module.assert_same
    for name, test in list(vars(module).items()):
        if not name.startswith("test_"):
            continue
        for words in itertools.product(*map(parameters, getattr(test, "pytestmark", []))):
            chosen = {key: value for word in words for key, value in word.items()}
            label = "-".join([name.removeprefix("test_"), *map(str, chosen.values())])

            def note(function: Any, args: Any, static: Any = (), rtol: float = 1e-12, label: str = label) -> None:
                count = sum(known.partition("#")[0] == label for known in found)
                found[f"{label}#{count}" if count else label] = Case(function, args, tuple(static), rtol)

            module.assert_same = note
            try:
                test(**chosen)
            finally:
                module.assert_same = original
    return found


def parameters(mark: pytest.Mark) -> list[dict[str, Any]]:
    """Return the values of a parametrisation by name; of another mark one empty choice."""
    if mark.name != "parametrize":
        return [{}]
    names, values = mark.args
    names = [word.strip() for word in names.split(",")] if isinstance(names, str) else names
    return [dict(zip(names, value if len(names) > 1 else [value], strict=True)) for value in values]
