# `make demo` and `make test` need Python 3.11 to 3.13 and a C compiler, and make everything else in $(VENV) themselves.
#
# PYTHON names the Python to use, ARGS is appended to the command of `demo` and `test`, UV_TORCH_BACKEND=cpu spares the
# download of CUDA, MLNET_EXTENSIONS=skip does without a C compiler. Everything is installed in the versions of
# constraints.txt; with CONSTRAINTS= (nothing) in the newest that pyproject.toml allows.

VENV ?= .venv
ARGS ?=
CONSTRAINTS ?= constraints.txt
RESOLUTION ?= highest
# Four on two cores: most of the integration tests wait for processes and networks.
JOBS ?= 4
BIN := $(VENV)/bin
UV := $(BIN)/uv
PINNED := $(if $(CONSTRAINTS),--constraints $(CONSTRAINTS) --build-constraints $(CONSTRAINTS))
INSTALL = $(UV) pip install --python $(BIN)/python $(PINNED) --resolution $(RESOLUTION)
# Idle workers take over from busy ones; those of one file stay together until then, for what they share.
PYTEST = $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal
BUILD_INPUTS := pyproject.toml setup.py $(CONSTRAINTS) $(wildcard $(addprefix ext/,session/*.[ch] session/*.pyx kernels/*.h kernels/*/*.[ch] kernels/*/*.pyx))
SESSION_SOURCES := $(filter-out ext/session/session.c,$(wildcard ext/session/*.c))
export MLNET_EXTENSIONS ?= require
# The tests and the demonstration start many processes; none of them should compile anew what another has imported.
export PYTHONDONTWRITEBYTECODE :=
export PYTHONPYCACHEPREFIX ?= $(abspath $(VENV))/pycache

.DEFAULT_GOAL := help
.PHONY: help demo test circumstances test-fast coverage coverage-protocol test-latest test-oldest update simulate fuzz fuzz-session lint docs load bench bench-tunnel bench-training soak sanitize format wheel clean
.DELETE_ON_ERROR:

help:
	@echo 'make demo          five nodes on this machine train a model of handwritten digits'
	@echo 'make test          run the tests (JOBS=1: one after the other; else four at once)'
	@echo 'make test-fast     run those that need no network, and compare the golden dialogues'
	@echo 'make test-latest   run the tests with the newest versions that pyproject.toml allows, make test-oldest with the oldest'
	@echo 'make coverage      run the tests, show what share of the lines and branches they run, and whether it is enough'
	@echo 'make coverage-protocol  the same for the state machines by their own tests only, with the branches that are left'
	@echo 'make update        renew the versions in constraints.txt (ARGS=--keep: add what it lacks, renew nothing)'
	@echo 'make circumstances run whole tasks in each odd directory, environment and terminal by itself'
	@echo 'make simulate      run the protocol under faults over 10,000 seeds, on all cores'
	@echo 'make fuzz          feed a million mutated messages to codec and state machines'
	@echo 'make soak          an hour of churn and hostile peers, and whether a node grows (ARGS="--seconds 60")'
	@echo 'make load          load a node with ghz, beside a bare gRPC server (ARGS="--scenario status", --short, --json)'
	@echo 'make fuzz-session  feed a million frames to the native byte path under sanitizers (needs gcc; ARGS=SEED)'
	@echo 'make lint          check style and types'
	@echo 'make docs          build the documents into build/site; a dead link fails'
	@echo 'make bench         compare the kernels and the codec with other libraries (ARGS=--json)'
	@echo 'make bench-tunnel  compare gRPC through the tunnel with gRPC directly and over other libp2ps'
	@echo 'make bench-training  what a step of training costs by way of the tunnel (Linux, as root)'
	@echo 'make sanitize      test the kernels under AddressSanitizer and UndefinedBehaviorSanitizer (needs gcc)'
	@echo 'make format        put the code into the style that lint checks'
	@echo 'make wheel         build the source distribution and the wheel into dist/'
	@echo 'make clean         remove everything that the above made, but not the models in mlnet-*/'

demo: $(VENV)/.installed
	$(BIN)/mlnet-node demo $(ARGS)

test: $(VENV)/.developer
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/.developer
	$(PYTEST) tests/unit tests/property tests/simulation/test_golden.py $(ARGS)

coverage: $(VENV)/.developer
	rm -rf build/coverage
	$(PYTEST) --cov --cov-report= $(ARGS)
	$(BIN)/coverage json --quiet
	.ci/coverage build/coverage/report.json --least mlnet=92 --least mlnet.protocol=97

coverage-protocol: $(VENV)/.developer
	rm -rf build/coverage
	$(PYTEST) --cov --cov-report= tests/unit/protocol tests/property tests/simulation $(ARGS)
	$(BIN)/coverage json --quiet
	.ci/coverage build/coverage/report.json --least mlnet.protocol=97 --missing mlnet.protocol

test-latest:
	$(MAKE) test VENV=$(VENV)-latest CONSTRAINTS=

test-oldest:
	$(MAKE) test VENV=$(VENV)-oldest CONSTRAINTS= RESOLUTION=lowest-direct

update: $(UV)
	.ci/update $(UV) $(ARGS)

circumstances: $(VENV)/.developer
	MLNET_CIRCUMSTANCES=all $(BIN)/pytest tests/integration/test_circumstances.py $(ARGS)

simulate: $(VENV)/.installed
	$(BIN)/mlnet-node simulate --seeds 10000 $(ARGS)

fuzz: $(VENV)/.developer
	$(BIN)/python tests/simulation/fuzz.py 1000000

soak: $(VENV)/.developer
	PYTHONPATH=tests $(BIN)/python tests/soak/run.py $(ARGS)

load: $(VENV)/.developer
	PYTHONPATH=tests $(BIN)/python tests/load/run.py $(ARGS)

fuzz-session:
	@mkdir -p build
	gcc -std=gnu11 -O1 -g -Wall -Wextra -fsanitize=address,undefined -fno-sanitize-recover=all -Wl,--wrap=clock_gettime \
		-Iext/session tests/fuzz/session.c $(SESSION_SOURCES) -pthread -o build/fuzz-session
	build/fuzz-session 1000000 $(ARGS)

lint: $(VENV)/.developer
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/cython-lint ext
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml mlnet.kernels._borda mlnet.kernels._pingmatrix \
		mlnet.kernels._segmenthash mlnet.kernels._signatures \
		mlnet.net.muxer._session

# The warning is about a future version of MkDocs, which pyproject.toml does not allow.
docs: $(VENV)/.developer
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

bench: $(VENV)/.developer
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/bench.py $(ARGS)

bench-tunnel: $(VENV)/.developer
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/tunnel.py $(ARGS)

bench-training: $(VENV)/.developer
	PYTHONPATH=tests $(BIN)/python tests/benchmarks/training.py $(ARGS)

sanitize: $(VENV)/.developer
	.ci/sanitize $(BIN)/python $(ARGS)

format: $(VENV)/.developer
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

wheel: $(UV)
	$(UV) build --python $(BIN)/python $(if $(CONSTRAINTS),--build-constraints $(CONSTRAINTS)) --out-dir dist

clean:
	rm -rf $(VENV) $(VENV)-latest $(VENV)-oldest build dist *.egg-info mlnet/kernels/*.so mlnet/net/muxer/*.so .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mlnet tests -name __pycache__ -prune -exec rm -rf {} +

$(UV):
	@.ci/make-venv $(VENV) $(CONSTRAINTS)

$(VENV)/.installed: $(UV) $(BUILD_INPUTS)
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.developer: $(VENV)/.installed
	$(INSTALL) --group dev
	@touch $@
