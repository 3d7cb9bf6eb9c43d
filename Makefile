# Bare `make` prints this help.
PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)
PEACHPY_DIR := build/peachpy
PEACHPY_PATH ?= $(abspath $(PEACHPY_DIR)/usr/lib/python3/dist-packages)
export PEACHPY_PATH

.PHONY: help encodings
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

encodings: $(PEACHPY_PATH)/peachpy/__init__.py  ## write the x86-64 encoder table anew, from PeachPy (needs the package built)
	$(PYTHON) -m neurojit.asm_templates.x86_64.make_encodings

# Debian's package: PyPI's is for Python 2. Elsewhere set PEACHPY_PATH to a checkout or installation.
$(abspath $(PEACHPY_DIR))/usr/lib/python3/dist-packages/peachpy/__init__.py:
	mkdir -p $(PEACHPY_DIR)
	cd $(PEACHPY_DIR) && apt-get download python3-peachpy && dpkg -x python3-peachpy_*.deb .
