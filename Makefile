# make demo    the main job on a real file, with the embedded lab
# make test    every check: ruff, mypy, pytest
# make lowest  the same tests with the lowest allowed versions of the dependencies
# make bench, make fuzz, make soak: measurements and long runs, apart from the tests

PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)

.PHONY: demo test lint types pytest system lowest bench fuzz soak clean

demo: .venv/run.stamp
	@$(BIN)/python demo/demo.py

test: lint types pytest

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/test.stamp
	$(BIN)/mypy

pytest: .venv/test.stamp .venv-awscli/stamp system
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q

# Java for Spark, a browser for the HTML reports: found, or installed where nobody has to be asked.
system:
	@$(PYTHON) tests/system.py java chromium

# boto3 pins botocore, and so does the AWS CLI, to another release: it lives apart.
.venv-awscli/stamp:
	$(PYTHON) -m venv .venv-awscli
	.venv-awscli/bin/pip install --quiet --upgrade pip
	.venv-awscli/bin/pip install --quiet 'awscli>=1.45'
	@touch $@

.venv/pip.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sealwax needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	@touch $@

.venv/run.stamp: .venv/pip.stamp pyproject.toml
	$(BIN)/pip install --quiet --editable .
	@touch $@

.venv/test.stamp: .venv/run.stamp
	$(BIN)/pip install --quiet --group test
	@touch $@

# The lowest versions that pyproject.toml allows, read from it.
.venv-lowest/stamp: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --upgrade pip
	$(PYTHON) -c 'import tomllib; print(*(d.replace(">=", "==") for d in tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]), sep="\n")' > .venv-lowest/lowest.txt
	.venv-lowest/bin/pip install --quiet --constraint .venv-lowest/lowest.txt --editable . --group test
	@touch $@

lowest: .venv-lowest/stamp .venv-awscli/stamp system
	.venv-lowest/bin/pip list --format=freeze | grep -E '^(boto3|botocore|click|cryptography|rich)=='
	.venv-lowest/bin/pytest -n $(WORKERS) --dist worksteal -q

.venv/bench.stamp: .venv/test.stamp
	$(BIN)/pip install --quiet --group bench
	@touch $@

bench: .venv/bench.stamp
	@$(BIN)/python -m benchmarks

.venv/fuzz.stamp: .venv/run.stamp
	$(BIN)/pip install --quiet --group fuzz
	@touch $@

# New inputs go to .fuzz, beside the kept corpus and not into it; what breaks a rule is left there as crash-*.
SECONDS_EACH ?= 60

fuzz: .venv/fuzz.stamp
	@set -e; for target in header payload armor context context_file foreign; do \
	  echo "== $$target, $(SECONDS_EACH) s"; \
	  mkdir -p .fuzz/$$target; \
	  $(BIN)/python -m fuzz $$target -max_total_time=$(SECONDS_EACH) -rss_limit_mb=512 -timeout=10 -max_len=65536 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=.fuzz/$$target- .fuzz/$$target fuzz/corpus/$$target; \
	done

soak: .venv/test.stamp system
	$(BIN)/pytest -n $(WORKERS) --dist worksteal -q -m soak
	$(BIN)/python -m tests.soak_lab
	$(BIN)/python -m tests.soak_keys 10
	$(BIN)/python -m tests.soak_forks
	$(BIN)/python -m tests.soak_fleet
	$(BIN)/python -m tests.soak_spark

clean:
	rm -rf .venv .venv-* .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
