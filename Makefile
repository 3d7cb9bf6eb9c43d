# Bare `make` prints this help. Everything happens in .venv, build and dist; nothing else is touched.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
PIP_INSTALL := $(PY) -m pip --disable-pip-version-check install --quiet

# What the extension modules are built from: a change of any of these builds them again.
BUILT_FROM := pyproject.toml setup.py $(wildcard csrc/*.[ch]) $(shell find neurojit -name '*.pyx' -o -name '*.px[di]')

PEACHPY_PATH ?= $(abspath build/peachpy/usr/lib/python3/dist-packages)
export PEACHPY_PATH

.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: help demo test test-slow test-arm64 test-riscv64 test-pythons bench bench-short bench-pytest lint typecheck wheel encodings peachpy clean

help:  ## this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

demo: $(VENV)/.has-demo  ## classify the digits of scikit-learn through neurojit; look at the code and the CPU; steer a crowd
	$(PY) examples/digits.py
	@echo; $(PY) examples/crowd.py --short

test: $(VENV)/.has-test peachpy  ## the tests
	$(PY) -m pytest -m 'not slow' -n auto --dist worksteal

test-slow: $(VENV)/.has-test peachpy  ## the exhaustive tests
	$(PY) -m pytest -m slow || [ $$? = 5 ]  # 5: there are none

# The tests in a Python of another architecture, emulated: tests/emulated/prepare.py has what that takes. All of
# them need half an hour of two cores there, so these are chosen: products, layers, programs, functions, kernels,
# memory, slots, the ABI. Of some thousand tests qemu 7.2 ends one by itself: one is run once more if it crashed, and
# only then.
ARM64_TESTS ?= $(addprefix tests/,test_matmul.py test_dense.py test_program.py test_compiler.py test_info.py \
  test_matmul_memory.py $(addprefix asm_templates/test_,math.py gemm_abi.py gemv_kernels.py map.py) \
  $(addprefix runtime/test_,abi_check_aarch64.py executable_memory.py code.py slots.py))
EMULATED_PYTEST = -m pytest -p no:cacheprovider -n $(shell nproc) --dist worksteal -rs --reruns 1 --only-rerun crashed
test-arm64: $(VENV)/.has-dev  ## chosen tests on AArch64, emulated by qemu-user (all: ARM64_TESTS=tests)
	$(PY) tests/emulated/prepare.py arm64
	build/arm64/python $(EMULATED_PYTEST) $(ARM64_TESTS)

RISCV64_TESTS ?= $(addprefix tests/,test_info.py test_program_ops.py runtime/test_code.py \
  $(addprefix asm_templates/test_,arithmetic.py bodies.py cumsum.py epilogue.py gather.py gemm_abi.py \
  integer_kernels.py integer_lanes.py map.py program_emission.py transpose.py))
test-riscv64: $(VENV)/.has-dev  ## chosen tests on RISC-V with V, likewise (all kernels: RISCV64_TESTS=tests/asm_templates)
	$(PY) tests/emulated/prepare.py riscv64
	build/riscv64/python $(EMULATED_PYTEST) $(RISCV64_TESTS)

BENCH = $(PY) benchmarks/bench.py --json build/bench/bench.json --pictures build/bench
bench: $(VENV)/.has-bench  ## every figure beside its goal, against NumPy, LIBXSMM and what else is installed
	$(BENCH)

bench-short: $(VENV)/.has-bench  ## the same for fewer sizes, in two minutes
	$(BENCH) --short

bench-pytest: $(VENV)/.has-bench  ## a few of them under pytest-benchmark, to compare runs
	$(PY) -m pytest benchmarks -o addopts= --benchmark-group-by=param:n

# ---- checks ------------------------------------------------------------------------------------------

lint: $(VENV)/.has-dev typecheck  ## ruff, mypy, import-linter, cython-lint, clang-format, strict C
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	PATH=$(abspath $(VENV))/bin:$$PATH cython-lint neurojit
	$(VENV)/bin/clang-format --dry-run -Werror csrc/*.[ch] benchmarks/*.c
	NEUROJIT_STRICT_C=1 $(PY) setup.py --quiet build_ext --build-temp build/strict --build-lib build/strict

# mypy and import-linter look for neurojit.asm_templates below neurojit/, so they get to see it there.
typecheck: $(VENV)/.has-dev
	rm -rf build/typecheck && mkdir -p build/typecheck
	cp -Rp neurojit asm_templates build/typecheck && mv build/typecheck/asm_templates build/typecheck/neurojit
	cd build/typecheck && $(abspath $(VENV))/bin/mypy --config-file ../../pyproject.toml --cache-dir ../mypy -p neurojit
	cd build/typecheck && $(abspath $(VENV))/bin/lint-imports --config ../../pyproject.toml --no-cache --no-logo

wheel: $(VENV)/.has-dev  ## sdist and wheel in dist/, checked in a fresh environment
	rm -rf dist
	$(PY) -m build --outdir dist
	$(PY) tests/packaging/check_distribution.py dist

PYTHONS ?= python3.10 python3.11 python3.12 python3.13
test-pythons:  ## build and try the package with every Python of PYTHONS="python3.10 ..."
	@for python in $(PYTHONS); do $$python tests/packaging/try_python.py || exit 1; done

# ---- set-up ------------------------------------------------------------------------------------------

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "neurojit needs Python 3.10 or newer: make PYTHON=/path/to/python3")'
	$(PYTHON) -m venv $(VENV)

# The package, editable. Its build gets its own setuptools, Cython and NumPy from pip.
$(VENV)/.built: $(BUILT_FROM) | $(PY)
	$(PIP_INSTALL) --editable .
	@touch $@

# One stamp for each extra of pyproject.toml; the package is there already, so this builds nothing.
$(VENV)/.has-%: $(VENV)/.built
	$(PIP_INSTALL) 'neurojit[$*]'
	@touch $@

# ---- PeachPy, where the x86-64 encodings come from ---------------------------------------------------

encodings: $(VENV)/.has-test peachpy  ## write the x86-64 encoder table anew, from PeachPy
	$(PY) -m neurojit.asm_templates.x86_64.make_encodings

# Debian's package: PyPI's is for Python 2. Elsewhere set PEACHPY_PATH to a checkout or installation.
# Nobody but the table and its tests needs it, so its absence fails nothing here.
peachpy:
	@test -d $(PEACHPY_PATH)/peachpy || { command -v apt-get dpkg >/dev/null && mkdir -p build/peachpy \
	  && cd build/peachpy && apt-get -qq -o APT::Sandbox::User=root download python3-peachpy && dpkg -x python3-peachpy_*.deb . ; } \
	  || echo "make: no PeachPy (set PEACHPY_PATH to one): the tests that compare with it will be skipped"

clean:  ## remove what was built, and .venv
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .benchmarks .hypothesis
	find neurojit -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +
