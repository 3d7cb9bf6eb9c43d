# Bare `make` prints this help. Everything happens in .venv and build/; nothing else is touched.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check install --quiet

# What the extension modules are built from: a change of any of these builds them again.
BUILT_FROM := pyproject.toml setup.py $(wildcard csrc/*.[ch]) $(shell find neurojit -name '*.p[yx][xd]')

PEACHPY_DIR := $(abspath build/peachpy)
PEACHPY_PATH ?= $(PEACHPY_DIR)/usr/lib/python3/dist-packages
export PEACHPY_PATH

.DELETE_ON_ERROR:
.PHONY: help demo test test-slow test-pythons bench bench-short lint wheel encodings peachpy clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# ---- set-up ------------------------------------------------------------------------------------------

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "neurojit needs Python 3.10 or newer: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(VENV)

# One stamp for each extra of pyproject.toml: the package, editable, with what the extra names.
$(VENV)/.installed-%: $(BUILT_FROM) | $(PY)
	$(PIP) --editable '.[$*]'
	@touch $@

