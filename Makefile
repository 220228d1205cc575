# Every target sets up .venv by itself, once, and again only when pyproject.toml or constraints.txt change.
PYTHON ?= python3
VENV   ?= .venv
BUDGET ?= small
ARGS   ?=
DEVICE ?= cpu

BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup test test-faults bench-norms bench-mixtures bench-table1 bench-runs bench-train profile-train docs-protocols docs-site calibration published look figures report lint types check reproduce-table5 reproduce-table6 reproduce-table7 reproduce-table8 reproduce-table8-sample reproduce-densenet reproduce-uan reproduce-dcgan collect wheel gpu-bundle clean

help: ## List the targets
	@echo "make TARGET [BUDGET=smoke|small|full] [ARGS='seeds=0..4 dataset=cifar10 ...']"
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  %-18s %s\n", $$1, $$2}'

setup: $(READY) ## Make the virtual environment (any other target does it too)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "cbnorm needs Python 3.11 or later: make PYTHON=python3.12 ..." >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "python3 cannot make a virtual environment: install its venv package (Debian: python3-venv)" >&2; exit 2; }
	@echo "Installing into $(VENV) (about a minute) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

test: $(READY) ## Run the tests and doctests, a file per core at a time
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not alone" $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "alone and not slow" $(or $(ARGS),tests/runs) || test $$? = 5  # none chosen

test-faults: $(READY) ## Kill sweeps at every moment, let every write fail (about ten minutes)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest tests/faults -m "slow or not slow" -s $(ARGS)

lint: $(READY) ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY) ## Check types
	$(BIN)/mypy

check: lint types test ## All of the above

reproduce-table5: $(READY) ## Train what is missing of Table V and collect it
	$(BIN)/cbnorm reproduce table5 budget=$(BUDGET) $(ARGS)

reproduce-table6: $(READY) ## Train what is missing of Table VI (small: MNIST to USPS) and collect it
	$(BIN)/cbnorm reproduce $(if $(filter small,$(BUDGET)),table6_usps,table6) rows=all budget=$(BUDGET) $(ARGS)

reproduce-table7: $(READY) ## Train what is missing of Table VII (half an hour to an hour at small) and collect it
	$(BIN)/cbnorm reproduce table7 rows=all budget=$(BUDGET) $(ARGS)

reproduce-table8: $(READY) ## Train what is missing of Table VIII and collect it; fetches 0.8 GB unless BUDGET=smoke
	$(BIN)/cbnorm reproduce table8 rows=all budget=$(BUDGET) $(ARGS)

reproduce-table8-sample: $(READY) ## Table VIII's rows on a sample of the pets that you have
	$(BIN)/cbnorm reproduce table8_sample rows=all budget=$(BUDGET) $(ARGS)

reproduce-densenet: $(READY) ## Train what is missing of Fig. 6 to 8 and collect it
	$(BIN)/cbnorm reproduce densenet budget=$(BUDGET) $(ARGS)

reproduce-uan: $(READY) ## Train what is missing of the UAN paper's DenseNets and collect it
	$(BIN)/cbnorm reproduce uan budget=$(BUDGET) $(ARGS)

reproduce-dcgan: $(READY) ## Train what is missing of Fig. 10 and 11 and collect it
	$(BIN)/cbnorm reproduce dcgan budget=$(BUDGET) $(ARGS)

collect: $(READY) ## Rebuild the tables from the runs that are there
	$(BIN)/cbnorm collect all $(ARGS)

bench-norms: $(READY) ## Time every layer against batch normalization (about 12 minutes), fill the cards
	$(BIN)/python benchmarks/bench_norms.py $(ARGS)
	$(BIN)/python benchmarks/fill_cards.py

bench-mixtures: $(READY) ## Time k-means and mixtures against scikit-learn
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_mixtures.py $(ARGS)

bench-table1: $(READY) ## Table I measured: time, memory and values against K, C and n (about 4 minutes)
	$(BIN)/python benchmarks/bench_table1.py $(ARGS)

bench-runs: $(READY) ## What book-keeping costs per run and per record
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_runs.py $(ARGS)

bench-train: $(READY) ## Images per second against a hand-written loop and a plain Lightning script (14 minutes)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bench_train.py --device $(DEVICE) $(ARGS)

profile-train: $(READY) ## Where the time of a training step goes; traces in traces/
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/profile_train.py --device $(DEVICE) $(ARGS)

docs-protocols: $(READY) ## Make docs/protocols.md from the configs
	$(BIN)/python -m cbnorm.report.protocols_page > docs/protocols.md.new && mv docs/protocols.md.new docs/protocols.md

published: $(READY) ## Make all that follows from results/records: tables, pages, what they quote, figures, the README's part, the report
	OMP_NUM_THREADS=1 $(BIN)/python -m cbnorm.report.published

$(VENV)/.ready-docs: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	@touch $@

docs-site: $(VENV)/.ready-docs ## Build the documentation, with API and report, into site/ (half a minute)
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -q -W --keep-going -d $(VENV)/doctrees docs site
	OMP_NUM_THREADS=1 $(BIN)/cbnorm report out=site/report.html

calibration: $(READY) ## How often verdicts err and what they find, by simulation (docs/statistics.md)
	OMP_NUM_THREADS=1 $(BIN)/python -m cbnorm.report.calibration $(ARGS)

look: $(READY) ## Look at what the networks of runs/ see, for figures 1, 2 and 9 (half a minute each, two for a DenseNet)
	OMP_NUM_THREADS=1 $(BIN)/cbnorm look table5 $(ARGS)
	OMP_NUM_THREADS=1 $(BIN)/cbnorm look densenet $(ARGS)

figures: $(READY) ## Draw what the published records can show, into results/figures
	OMP_NUM_THREADS=1 $(BIN)/cbnorm figures $(ARGS)

report: $(READY) ## Put all evidence into one page, results/report.html
	OMP_NUM_THREADS=1 $(BIN)/cbnorm report $(ARGS)

wheel: $(READY) ## Build the wheel into dist/
	$(BIN)/python -m build --wheel --outdir dist .

gpu-bundle: $(READY) ## Pack source, wheels and data for a machine without network, in parts of at most 60 MB
	$(BIN)/python scripts/gpu_bundle.py $(ARGS)

clean: ## Remove what was built; runs and data stay
	rm -rf $(VENV) dist build site .mypy_cache .pytest_cache .ruff_cache .hypothesis
