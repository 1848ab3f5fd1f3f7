# pullback: `make run` builds the environment once, runs a study and says where the report is.
#
#   make run                                     the default study, config/config.yaml, on all cores
#   make run STUDY=config/studies/x.yaml         another study
#   make run CORES=8 ARGS="-n"                   fewer cores; ARGS go to snakemake as they are
#   make run ARGS="--profile profiles/slurm"     through SLURM: docs/cluster.md
#   make test | test-slurm | lint | docs | bench | bench-gpu | schema | clean

SHELL := /bin/bash
.DEFAULT_GOAL := run
.PHONY: run test test-slurm lint docs bench bench-gpu schema clean check

CORES ?= all
STUDY ?= config/config.yaml
ARGS ?=
# The address of another package index, for those who want another build of torch.
TORCH_INDEX ?=
WORKERS ?= 2

# A Python of a version that the lock was made for; the first that is found when none is given.
RIGHT_PYTHON = -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p $(RIGHT_PYTHON) 2>/dev/null && echo $$p && break; done)

BIN := .venv/bin
BUILT := .venv/.built

# On a cluster the cores are the scheduler's to give: `all` would mean those of the machine that submits.
LOCAL := $(if $(findstring --profile,$(ARGS))$(findstring --executor,$(ARGS)),,--cores $(CORES))

# The study is read first: of a file that it cannot load Snakemake shows a traceback.
run: check $(BUILT)
	@$(BIN)/python -m pullback.study $(STUDY)
	@$(BIN)/snakemake --configfile $(STUDY) $(LOCAL) $(ARGS) || { status=$$?; \
		if ls .snakemake/locks/*.lock >/dev/null 2>&1 && ! pgrep -x snakemake >/dev/null; then \
			echo "No snakemake runs on this machine: the lock was left by one that was killed. Unless one runs on another" \
				"machine, take it away with: make run STUDY=$(STUDY) ARGS=--unlock" >&2; \
		fi; exit $$status; }

# One clear line each, before anything is built.
check:
	@if [ ! -x $(BIN)/python ]; then \
		"$(or $(PYTHON),python3)" $(RIGHT_PYTHON) 2>/dev/null || { \
			echo "pullback needs Python 3.11, 3.12 or 3.13: install one, or name it with make run PYTHON=/path/to/python3.12" >&2; \
			exit 1; }; \
	fi
	@command -v $${CC:-gcc} >/dev/null 2>&1 || command -v clang >/dev/null 2>&1 || { \
		echo "pullback needs a C compiler for the wave simulator: install gcc (Debian, Ubuntu: apt install gcc)" >&2; exit 1; }

$(BUILT): envs/requirements.lock pyproject.toml | check
	@echo "Building .venv from envs/requirements.lock: once, a few minutes."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r envs/requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

test: check $(BUILT)
	$(BIN)/python -m pytest -rs -n $(WORKERS) --dist loadfile --durations=20 $(ARGS)

# Three private SLURMs are started, used and stopped: some minutes, mostly waiting. SLOW=1 adds preemption.
test-slurm: check $(BUILT)
	$(BIN)/python -m pytest tests/slurm -v -rs -n 3 --dist loadfile --durations=0 --durations-min=1 $(ARGS)

lint: check $(BUILT)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/snakemake --lint --configfile $(STUDY)
	$(BIN)/mypy

# Into docs/_build/html; a warning is an error.
docs: check $(BUILT)
	@rm -rf docs/reference/generated
	$(BIN)/sphinx-build -j $(WORKERS) -W --keep-going -q -b html docs docs/_build/html
	@echo "The documentation: $(CURDIR)/docs/_build/html/index.html"

# Compares with deepwave and deepinv, which nothing else needs: installed when it is first run. Without its version, torchvision
# (which deepinv needs) brings another torch.
bench: check $(BUILT)
	@$(BIN)/python -c "import deepwave" 2>/dev/null || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check "deepwave==0.1.0"
	@$(BIN)/python -c "import importlib.util as u, sys; sys.exit(not u.find_spec('deepinv'))" || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check "deepinv==0.5.0" "torchvision==0.28.0"
	MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647 $(BIN)/python benchmarks/bench.py $(ARGS)

# On a machine with a GPU and the packages of envs/gpu.txt; nothing is installed.
bench-gpu:
	PYTHONPATH=src $(or $(wildcard $(BIN)/python),python3) benchmarks/gpu.py $(ARGS)

schema: check $(BUILT)
	$(BIN)/python -m pullback.study.schema

# The environment and what the tools left behind. Results stay: they are yours to delete.
clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache src/*.egg-info docs/_build docs/reference/{generated,metrics,api.rst,kinds.md,metrics.md}
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
