# make demo | test | check | bench: each does its own set-up. VENV can be set to use another environment.
VENV   ?= .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.edged-installed
OUT    ?= demo-out
SEAMS  ?= 24

.PHONY: setup demo test test-systemd check bench bench-far bench-cell bench-detect bench-delivery fuzz demo-model clean
.DEFAULT_GOAL := setup

setup: $(STAMP)

$(STAMP): pyproject.toml setup.py $(wildcard pipelines/selective_scan/kernel*) constraints.txt .ci/setup
	bash .ci/setup $(VENV)
	touch $@

demo: setup
	$(VENV)/bin/edged demo --seams $(SEAMS) --out $(OUT)

# One process a core; the tests of a file stay together. A cell at real time beside other tests may lose its pace: what
# failed is named and runs once more, alone, and must pass there.
test: setup
	$(PY) -m pytest -n auto --maxprocesses 4 --dist loadfile || \
	  { echo "== once more, alone: what failed beside other tests"; $(PY) -m pytest --last-failed --last-failed-no-failures none; }

# As root: boots Debian in a container and lets its systemd run edged (docs/systemd.md). Not part of `make test`.
test-systemd: setup
	VENV=$(VENV) bash systemd/test/boot-test.sh

check: setup
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	PATH="$(abspath $(VENV))/bin:$$PATH" $(VENV)/bin/lint-imports
	bash .ci/check-units

# Benchmarks print tables; none of them is a test.
bench: setup
	for script in tests/bench/bench_*.py; do \
	  echo "== $$script"; PYTHONPATH=. OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(PY) $$script || exit 1; \
	done

# About an hour: realised false alarms at real time, written to docs/results.md.
bench-far: setup
	$(VENV)/bin/edged bench far --out bench-out --results docs/results.md

# Half an hour: the virtual cell's validity report, written to docs/virtual-cell.md and its figures.
bench-cell: setup
	$(VENV)/bin/edged bench cell --json docs/virtual-cell.json --work bench-work --docs docs

# Ten minutes or so, most of it waiting for the journal's disk: delivery under kills, written to docs/results.md.
bench-delivery: setup
	$(VENV)/bin/edged bench delivery --out bench-out --results docs/results.md

# Nonsense at every socket and bridge: no crash, no growth, counters that tell. Another SEED is other nonsense.
MINUTES ?= 10
SEED    ?= 1
fuzz: setup
	PYTHONPATH=. OMP_NUM_THREADS=1 $(PY) -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)

# Under an hour with --quick; docs/results.md says what the committed figures were made with.
bench-detect: setup
	$(VENV)/bin/edged bench detect --quick --json docs/detection.json --work bench-work --docs docs

# The model that ships with edged: simulated good seams only, then training; writes pipelines/demo_model/.
# PIPELINE and PAIR make another detector's: make demo-model PIPELINE=mafr PAIR=rgb,proc
PIPELINE ?= causal_hm
PAIR     ?=
comma    := ,
MODEL    := pipelines/demo_model$(if $(PAIR),s/$(PIPELINE)-$(subst $(comma),-,$(PAIR)))
demo-model: setup
	$(PY) -m edged.demo_model --work demo-model-work --out $(MODEL) --pipeline $(PIPELINE) $(if $(PAIR),--pair $(PAIR))

clean:
	rm -rf $(VENV) $(OUT) bench-work build *.egg-info
