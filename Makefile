# Four commands. Each makes .venv the first time, and starts at once after that.
#
#   make demo | test | lab | check
#
# Three things can be set:
#   PYTHON=python3.12      the Python that .venv is made with: 3.11 or newer
#   TORCH_ARGS='...'       how pip shall get torch, if not in its usual way. On Linux without an NVIDIA GPU this saves
#                          3 GB: see "Before you start" in README.md
#   ARGS='...'             more arguments for the command behind: make test ARGS='-k wire'

PYTHON ?= python3
TORCH_ARGS ?=
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.installed
# nbgrader calls its helpers by name, so the environment's programs come first.
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python
PIP := PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 $(BIN)/python -m pip install

.PHONY: help demo test lab check install
.DEFAULT_GOAL := help

help:
	@echo "make demo    grade a made-up class through nbgrader, in build/demo/"
	@echo "make test    run the kit's own tests"
	@echo "make lab     open the notebooks in JupyterLab"
	@echo "make check   lint, types, and whether assignments/ is up to date"
	@echo
	@echo "The first of them installs what is needed into .venv (see README.md: on Linux without a GPU, save 3 GB)."

demo: $(STAMP)
	@$(RUN) -m autograder demo $(ARGS)

test: $(STAMP)
	@$(RUN) -m pytest -n logical $(ARGS)

lab: $(STAMP)
	@$(RUN) -m jupyter labextension disable "@jupyterlab/apputils-extension:announcements" >/dev/null 2>&1 || true
	@$(RUN) -m jupyter lab --notebook-dir=assignments $(ARGS)

check: $(STAMP)
	@$(RUN) -m ruff check .
	@$(RUN) -m mypy
	@$(RUN) -m autograder release --check

install: $(STAMP)

# A folder that was moved or copied has programs in .venv/bin that point to the old place: make it anew.
ifneq ($(wildcard $(STAMP)),)
ifneq ($(shell cat $(STAMP)),$(CURDIR))
.PHONY: $(STAMP)
CLEAR := --clear
endif
endif

$(STAMP): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "There is no $(PYTHON) here. Install Python 3.11 or newer, or name yours: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is Python $$("$(PYTHON)" -c 'import platform; print(platform.python_version())'); this needs 3.11 or newer."; \
	  echo "If you have a newer one, name it: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@"$(PYTHON)" -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "$(PYTHON) cannot make virtual environments: its module venv or ensurepip is missing."; \
	  echo "On Debian and Ubuntu: sudo apt install python3-venv"; exit 1; }
	@if [ -e $(STAMP) ] && [ -z "$(CLEAR)" ]; then echo "Bringing .venv up to date."; else \
	  echo "Installing what the course needs into .venv. Once only: 2 to 10 minutes, most of it torch."; fi
	@"$(PYTHON)" -m venv $(CLEAR) .venv
	@if [ -t 1 ]; then quiet=; else quiet=--quiet; fi; set -e; \
	  if [ -n "$$TORCH_ARGS" ]; then $(PIP) $$quiet -c constraints.txt torch $$TORCH_ARGS </dev/null; fi; \
	  $(PIP) $$quiet -c constraints.txt -e '.[notebook,instructor,cluster,dev]' </dev/null
	@printf '%s\n' "$(CURDIR)" > $(STAMP)
	@echo "Done."
	@echo

export TORCH_ARGS
