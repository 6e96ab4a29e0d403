# One verb each; every one installs what it needs. PYTHON=python3.12 chooses another interpreter.
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help run setup data password test cluster-test stress bench lint train pins clean

help:
	@echo "make run           set up, then serve on http://127.0.0.1:8000 (PORT=... changes it)"
	@echo "make setup         set up without serving"
	@echo "make data          fetch MNIST and verify it"
	@echo "make password      set the administrator's password"
	@echo "make test          lint and run every test, in a real browser too"
	@echo "make cluster-test  the tests of many machines, played on this one: under ten minutes"
	@echo "make stress        the long tests of faults and load: an hour, one after the other"
	@echo "make bench         measure how fast it is, as one table"
	@echo "make lint          lint and check types alone"
	@echo "make train         train the standard preset into standard.safetensors"
	@echo "make pins          write the pinned requirements anew, after requirements/*.in were changed"
	@echo "make clean         remove the virtual environment (instance/ holds your data and stays)"

run: .venv/ready
	@exec python -m webapp run

setup: .venv/ready
	@python -m webapp setup

data: .venv/ready
	@python -m model data

password: .venv/ready
	@python -m webapp password

train: .venv/ready
	@python -m model train --preset standard

# Training threads that spin while they wait slow down whatever runs beside them, and hundreds of processes import the
# same modules: they are compiled once.
test: export OMP_WAIT_POLICY = passive
test: export PYTHONDONTWRITEBYTECODE =
test: lint
	@python -m model data
	@scripts/browser.sh
	@scripts/cluster.sh
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

cluster-test: export OMP_WAIT_POLICY = passive
cluster-test: .venv/ready-dev
	@python -m model data
	@scripts/cluster.sh
	python -m pytest -m 'cluster and not stress' -s -v --durations 20

# Alone and with what they print, since they measure time and tell how far they are.
stress: export OMP_WAIT_POLICY = passive
stress: .venv/ready-dev
	@python -m model data
	@command -v wrk >/dev/null || scripts/apt.sh wrk
	@scripts/browser.sh
	@scripts/cluster.sh
	python -m pytest -m stress -s -v --timeout 1800

# Some minutes; anything else that the machine does shows in the figures.
bench: .venv/ready-dev
	@python -m model data
	@command -v wrk >/dev/null || scripts/apt.sh wrk
	@scripts/browser.sh
	@python -m benchmarks

lint: .venv/ready-dev
	ruff check
	mypy
	lint-imports

pins:
	@PYTHON=$(PYTHON) scripts/pins.sh

clean:
	rm -rf .venv

.venv/ready: requirements.txt requirements/run.in
	@scripts/venv.sh $(PYTHON)
	@scripts/packages.sh requirements.txt
	@command -v npm >/dev/null || scripts/packages.sh requirements/node.txt
	@touch $@

.venv/ready-dev: requirements-dev.txt .venv/ready
	@scripts/packages.sh requirements-dev.txt
	@touch $@
