# make run           segment both hippocampi of a sample head into output/
# make app           open Slicer's views in the browser   ARGS="scan.nii.gz"
# make test          run every test                       ARGS="-k geometry"
# make lint          run ruff and mypy
# make format        let ruff format and mend the code
# make study         repeat a run of the study of data efficiency and compare
#                    RUN=small/hippocampus_mr/mae/n4/s0   DATA=folder of data
# make study-report  draw its tables and plots from its result files
# make clean         remove .venv and what builds and tests left
#
# The first use makes .venv, and again when pyproject.toml or constraints.txt
# change: app adds Slicer's MRML classes, test and lint also Qt, CMake and
# Chromium, each with a few system libraries (as root).
# EXTRAS=openvino,demo leaves PyTorch out: segmenting works, training does not.
# PYTHON=/path/to/python3 chooses the interpreter (3.10 or newer).

VENV := .venv
READY := $(VENV)/.ready
APP_READY := $(VENV)/.ready-app
TEST_READY := $(VENV)/.ready-test
BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
ARGS ?=
PYTHON ?=
EXTRAS ?= train,demo
RUN ?=
DATA ?= $(or $(MAESEGMENT_DATA),../shared/data)
# One process more than there are cores, since tests often wait for programs of their own, up to four, each with one
# thread: more threads than cores wait for each other most of the time. A file's tests stay together, since they share
# what their fixtures made, and files keep their order: the slow ones come first. A process that dies ends the run: with
# another in its place the rest may wait for ever, and the name of the test is not printed.
SIDE_BY_SIDE = -n $$(cores=$$(getconf _NPROCESSORS_ONLN); echo $$((cores < 3 ? cores + 1 : 4))) \
  --dist loadfile --no-loadscope-reorder --max-worker-restart 0
STUDY = $(BIN)/python -m model_training.studies.data_efficiency

.DEFAULT_GOAL := help
.PHONY: help run app test lint format study study-report clean
.DELETE_ON_ERROR:

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

run: $(READY)
	$(BIN)/maesegment demo $(ARGS)

app: $(APP_READY)
	$(BIN)/maesegment app $(ARGS)

# Hundreds of processes load the library: that is compiled once, also where the environment forbids to keep it.
test: $(TEST_READY)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

lint: $(TEST_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy MAESegmentLib MAESegment model_training Testing

study: $(READY)
	@if [ -z "$(RUN)" ]; then $(STUDY) list; echo "Choose a run: make study RUN=small/hippocampus_mr/mae/n4/s0"; \
	else $(STUDY) repeat --data "$(DATA)" --work runs/data_efficiency $(RUN); fi

study-report: $(READY)
	$(STUDY) report

format: $(TEST_READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis

# An interpreter in pyenv's style may be on PATH and still not run, so each candidate is tried.
define FIND_PYTHON
for candidate in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.10; do \
  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; then python="$$candidate"; break; fi; \
done; \
if [ -z "$$python" ]; then \
  echo "No Python 3.10 or newer was found. Install one (Debian: apt-get install python3 python3-venv) or set PYTHON=/path/to/python3." >&2; exit 1; \
fi
endef

# Debian ships Python without ensurepip; root can have it installed, anyone else is told how.
define ENSURE_VENV
if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
  package="python$$("$$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv"; \
  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then apt-get update -q && apt-get install -y -q "$$package"; \
  else echo "$$python cannot make virtual environments. Run: sudo apt-get install $$package" >&2; exit 1; fi; \
fi
endef

$(READY): pyproject.toml constraints.txt
	@set -e; $(FIND_PYTHON); \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  $(ENSURE_VENV); \
	  echo "Making $(VENV) with $$("$$python" --version); the first time takes some minutes."; \
	  "$$python" -m venv --clear $(VENV); \
	fi
	$(PIP_INSTALL) -e ".[$(EXTRAS)]"
	@touch $@

$(APP_READY): $(READY) Testing/system_packages.sh
	$(PIP_INSTALL) -e ".[$(EXTRAS),web]"
	bash Testing/system_packages.sh $(BIN)/python views
	@touch $@

$(TEST_READY): $(READY) Testing/system_packages.sh
	$(PIP_INSTALL) -e ".[train,demo,slicer,openvino,dev]"
	bash Testing/system_packages.sh $(BIN)/python views panel browser
	@touch $@
