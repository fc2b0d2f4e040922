# Two commands do everything on a fresh machine: `make compare` and `make test`.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/crossbackend
PYTEST := $(VENV)/bin/python -m pytest
OUT ?= reports/latest
PAPER ?= reports/paper
GRADIENTS ?= reports/gradients
# Processes that share the tests, and the trainings.
JOBS ?= 2
JULIA ?= julia
# What the report compares: each library's own norms, and the paper's seminorm handed to all three.
NORMS := --norm default --norm seminorm --norm native:mixed-seminorm

.PHONY: help compare gradients paper check test test-fast test-julia lint format report index example bench bench-gallery bench-report bench-train clean setup

help:
	@echo "make compare    run the gallery on all backends into $(OUT)/ and write its report (index.html, report.pdf)"
	@echo "make paper      train the seminorm paper's three experiments (reduced) into reports/paper/, and its report"
	@echo "make gradients  compare ways to take the gradient with backsolve, the paper's, into $(GRADIENTS)/"
	@echo "make check      cross-check the gradients of the gallery, as CI does"
	@echo "make report     write the report of $(OUT)/ again from its records"
	@echo "make index      write the reports of all runs in reports/, and the page that lists them"
	@echo "make example    run the gallery into reports/example/, the committed example, with its figures"
	@echo "make test       run all tests"
	@echo "make test-fast  run the tests that need no long solves"
	@echo "make test-julia run the tests of julia/ in Julia itself (JULIA=/path/to/julia)"
	@echo "make lint       check style, types and formatting"
	@echo "make bench      what crossbackend costs beside its libraries, and how it scales, into benchmarks/ and reports/bench/"
	@echo "make bench-gallery like compare, timed by the full protocol (20 repeats or 2 s a cell), into reports/gallery/"
	@echo "make bench-report  what a report of 144, 360 and 5 000 records costs"
	@echo "make bench-train   what counting costs in training"
	@echo "make clean      remove build folders and caches; never touches reports/"

# The stamp holds the versions that are installed; it is made again when what it depends on changes.
$(VENV)/.stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade --constraint constraints.txt pip
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/.stamp

compare: setup
	$(RUN) run $(NORMS) --out $(OUT)

# Every way to take a gradient against backsolve, on the gallery; a command for each library's own ways.
AGAINST := --norm default --norm seminorm --stepping native --rtol 1e-4 --rtol 1e-6 --rtol 1e-8 --no-explain --no-report
gradients: setup
	$(RUN) run --backend scipy --gradient backsolve --gradient interpolating --gradient quadrature $(AGAINST) --out $(GRADIENTS)
	$(RUN) run --backend torchdiffeq --backend diffrax --gradient backsolve --gradient direct $(AGAINST) --out $(GRADIENTS)
	$(RUN) report $(GRADIENTS) --figures

# The paper's three systems, trained under three norms (four for symoden) and three seeds.
paper: setup
	$(RUN) train neural_cde --seeds 3 --jobs $(JOBS) --no-report --out $(PAPER)
	$(RUN) train neural_cde --backend diffrax --rtol 1e-4 --seeds 3 --jobs $(JOBS) --no-report --out $(PAPER)
	$(RUN) train cnf --seeds 3 --jobs $(JOBS) --no-report --out $(PAPER)
	$(RUN) train cnf --backend diffrax --seeds 3 --width 4 --width 12 --jobs $(JOBS) --no-report --out $(PAPER)
	$(RUN) train symoden --backend diffrax --seeds 3 --jobs $(JOBS) --no-report --out $(PAPER)
	$(RUN) train symoden --backend torchdiffeq --seeds 3 --epochs 1 --jobs $(JOBS) --no-report --out $(PAPER)
	$(RUN) report $(PAPER) --figures

# Matched steps, the error against a reference, finite differences of every leaf; exit code 1 where they disagree.
check: setup
	$(RUN) check

report: setup
	$(RUN) report $(OUT)

index: setup
	$(RUN) report --all reports

example: setup
	$(RUN) run $(NORMS) --out reports/example
	$(RUN) report reports/example --figures

# On a machine that does nothing else; one figure again: .venv/bin/python -m benchmarks --only startup
bench: setup
	$(VENV)/bin/python -m benchmarks

bench-gallery: setup
	$(RUN) run $(NORMS) --out reports/gallery --repeats 20 --seconds 2

bench-report: setup
	$(VENV)/bin/python -m tests.report.bench

bench-train: setup
	$(VENV)/bin/python -m tests.train.bench

test: setup
	@echo "All tests; a fast part: make test-fast, or $(PYTEST) tests/test_norms.py"
	REQUIRE_BACKENDS=torchdiffeq,diffrax,scipy $(PYTEST) -n $(JOBS) --dist loadscope

test-fast: setup
	$(PYTEST) -m "not slow"

# Julia's own tests of the package that exported problems carry; the round trips are in `make test`.
test-julia:
	$(JULIA) --startup-file=no julia/test/runtests.jl

lint: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/pyright

format: setup
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find crossbackend problems tests -name __pycache__ -type d -prune -exec rm -rf {} +
