# make demo      the main job on a real file and a database, with the embedded lab
# make quick     what a change is tried with: no Java, no browser, nothing slow
# make test      every check: ruff, mypy, pytest
# make coverage  the tests again, and which lines of the package they have run
# make dist      builds and checks what is released: a commit gives the same bytes wherever and whenever it is built
# make sbom      lists what a release brings along, in build/sbom
# make extras    installs the wheel with each of its extras, one after the other, where nothing else is
# make wheel     tests what the wheel of make dist installs, where src is not
# make lowest    the same tests with the lowest allowed versions of the dependencies
# make django    the tests of Django with its newest release, which may need a newer Python than the package: make django PYTHON=python3.14
# make upgrade   renew requirements/, the pins of all that is installed here
# make mutants   break the library in 200 small ways, and count how many the tests notice
# make docs      the site, in build/site
# make bench, make fuzz, make soak: measurements and long runs, apart from the tests

PYTHON ?= python3
BIN := .venv/bin
RELEASE := .venv-release/bin
# One more than there are cores: a test also waits, for a program that it started or for another thread.
WORKERS ?= $(shell expr 1 + $$(nproc 2>/dev/null || sysctl -n hw.ncpu))
PYTEST = pytest -n $(WORKERS) --dist worksteal -q
NPM := tests/foreign/npm
QUICK := -m 'not (slow or java or browser or soak)'
# Nothing is installed or built with what is not in requirements/, where each file has its hash.
PIP := -m pip install --quiet --disable-pip-version-check --no-build-isolation
INSTALL := $(PIP) --require-hashes --requirement
EDITABLE := $(PIP) --no-deps --editable .

.PHONY: demo docs quick test lint types pytest coverage system npm dist sbom extras wheel lowest django upgrade mutants bench fuzz soak clean

demo: .venv/run.stamp
	@$(BIN)/python demo/demo.py

quick: lint types .venv/test.stamp .venv-awscli/stamp .venv-s3ec/stamp
	$(BIN)/$(PYTEST) $(QUICK)

test: lint types pytest

lint: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/[!c]*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml

types: .venv/test.stamp
	$(BIN)/mypy

pytest: .venv/test.stamp .venv-awscli/stamp .venv-s3ec/stamp .venv-docs/stamp system $(NPM)/node_modules/stamp
	$(BIN)/$(PYTEST)

coverage: .venv/test.stamp .venv-awscli/stamp .venv-s3ec/stamp .venv-docs/stamp system $(NPM)/node_modules/stamp
	$(BIN)/$(PYTEST) --cov --cov-report=term:skip-covered

# The wheel is built from the source archive, as pip would.
dist: .venv-release/stamp
	rm -rf dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(RELEASE)/python -m build --no-isolation --outdir dist
	$(RELEASE)/twine check --strict dist/*
	$(RELEASE)/check-wheel-contents dist/*.whl
	$(RELEASE)/python -m tests.release dist

sbom: dist
	rm -rf build/sbom
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(RELEASE)/python -m tests.sbom dist build/sbom

extras: dist
	$(RELEASE)/python -m tests.extras dist

# What git has is copied, so that nothing is found that nobody gets.
wheel: dist .venv-awscli/stamp .venv-s3ec/stamp
	rm -rf build/wheel .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/python $(INSTALL) requirements/run.txt
	.venv-wheel/bin/python $(INSTALL) requirements/test.txt
	.venv-wheel/bin/python $(PIP) --no-deps dist/*.whl
	mkdir -p build/wheel
	git ls-files -z ':!src' | tar -cf - --null -T - | tar -xf - -C build/wheel
	ln -s ../../.venv-awscli build/wheel/.venv-awscli
	ln -s ../../.venv-s3ec build/wheel/.venv-s3ec
	cd build/wheel && ../../.venv-wheel/bin/$(PYTEST) $(QUICK)

# Java for Spark, a browser for the HTML reports, an editor, two databases, Node.js: found, or installed where nobody has to be asked.
system:
	@$(PYTHON) tests/system.py java chromium vim postgresql mariadb node

# The AWS Encryption SDK for JavaScript, which the tests exchange messages with.
npm: $(NPM)/node_modules/stamp

$(NPM)/node_modules/stamp: $(NPM)/package.json $(NPM)/package-lock.json | system
	npm ci --prefix $(NPM) --ignore-scripts --no-audit --no-fund --silent
	@touch $@

.venv-release/stamp: requirements/release.txt
	$(PYTHON) -m venv .venv-release
	.venv-release/bin/python $(INSTALL) requirements/release.txt
	@touch $@

.venv-awscli/stamp: requirements/awscli.txt
	$(PYTHON) -m venv .venv-awscli
	.venv-awscli/bin/python $(INSTALL) requirements/awscli.txt
	@touch $@

.venv-s3ec/stamp: requirements/s3ec.txt
	$(PYTHON) -m venv .venv-s3ec
	.venv-s3ec/bin/python $(INSTALL) requirements/s3ec.txt
	@touch $@

.venv/venv.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sealwax needs Python 3.11 or newer: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/run.stamp: .venv/venv.stamp pyproject.toml requirements/run.txt
	$(BIN)/python $(INSTALL) requirements/run.txt
	$(BIN)/python $(EDITABLE)
	@touch $@

.venv/test.stamp: .venv/run.stamp requirements/test.txt
	$(BIN)/python $(INSTALL) requirements/test.txt
	@touch $@

.venv-lowest/stamp: pyproject.toml requirements/run.txt requirements/lowest.txt
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/python $(INSTALL) requirements/run.txt
	.venv-lowest/bin/python $(INSTALL) requirements/lowest.txt
	.venv-lowest/bin/python $(EDITABLE)
	@touch $@

lowest: .venv-lowest/stamp .venv-awscli/stamp .venv-s3ec/stamp .venv-docs/stamp system $(NPM)/node_modules/stamp
	.venv-lowest/bin/pip list --format=freeze | grep -iE '^(boto3|botocore|click|cryptography|psycopg|pymysql|rich|sqlalchemy)=='
	.venv-lowest/bin/$(PYTEST)

# Above what test.txt has, which is the release with long-term support.
.venv-django/stamp: pyproject.toml requirements/run.txt requirements/test.txt requirements/django.txt
	$(PYTHON) -m venv .venv-django
	.venv-django/bin/python $(INSTALL) requirements/run.txt
	.venv-django/bin/python $(INSTALL) requirements/test.txt
	.venv-django/bin/python $(INSTALL) requirements/django.txt
	.venv-django/bin/python $(EDITABLE)
	@touch $@

django: .venv-django/stamp system
	.venv-django/bin/python -m django --version
	.venv-django/bin/$(PYTEST) tests/django

# Each file is resolved for all Pythons and systems at once. What is in several files has one version in all of them, but for lowest.txt,
# in which the package's own dependencies, SQLAlchemy and the drivers are the lowest that pyproject.toml allows.
PIN = .venv-upgrade/bin/uv pip compile --quiet --universal --python-version 3.11 --upgrade --generate-hashes --no-annotate \
  --custom-compile-command 'make upgrade'

upgrade:
	$(PYTHON) -m venv .venv-upgrade
	.venv-upgrade/bin/python $(PIP) --upgrade 'uv>=0.9.17'
	$(PIN) pyproject.toml --group test --output-file requirements/test.txt
	$(PIN) pyproject.toml --extra sql --group build --constraint requirements/test.txt --output-file requirements/run.txt
	$(PIN) --group release --constraint requirements/test.txt --output-file requirements/release.txt
	$(PIN) --group bench --constraint requirements/test.txt --output-file requirements/bench.txt
	$(PIN) --group fuzz --constraint requirements/test.txt --output-file requirements/fuzz.txt
	$(PIN) --group docs --output-file requirements/docs.txt
	$(PIN) --group awscli --output-file requirements/awscli.txt
	$(PIN) --group s3ec --output-file requirements/s3ec.txt
	echo 'django>=6' | $(subst 3.11,3.12,$(PIN)) - --output-file requirements/django.txt
	$(PYTHON) -c 'import re, tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; e = p["optional-dependencies"]; print(*(re.sub(r"\[.*\]", "", d).replace(">=", "==") for d in p["dependencies"] + e["postgresql"] + e["mysql"]), sep="\n")' > .venv-upgrade/lowest.txt
	$(PIN) pyproject.toml --group test --constraint .venv-upgrade/lowest.txt --output-file requirements/lowest.txt

.venv/bench.stamp: .venv/test.stamp requirements/bench.txt
	$(BIN)/python $(INSTALL) requirements/bench.txt
	@touch $@

bench: .venv/bench.stamp .venv-s3ec/stamp
	@$(BIN)/python -m benchmarks

.venv/fuzz.stamp: .venv/run.stamp requirements/fuzz.txt
	$(BIN)/python $(INSTALL) requirements/fuzz.txt
	@touch $@

# New inputs go to .fuzz, beside the kept corpus and not into it; what breaks a rule is left there as crash-*.
SECONDS_EACH ?= 60

fuzz: .venv/fuzz.stamp
	@set -e; for target in header payload armor context context_file foreign esdk s3ec scripts record key_row; do \
	  echo "== $$target, $(SECONDS_EACH) s"; \
	  mkdir -p .fuzz/$$target; \
	  $(BIN)/python -m fuzz $$target -max_total_time=$(SECONDS_EACH) -rss_limit_mb=512 -timeout=10 -max_len=65536 \
	    -verbosity=0 -print_final_stats=1 -artifact_prefix=.fuzz/$$target- .fuzz/$$target fuzz/corpus/$$target; \
	done

.venv-docs/stamp: requirements/docs.txt
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python $(INSTALL) requirements/docs.txt
	@touch $@

docs: .venv/test.stamp .venv-docs/stamp
	$(BIN)/python docs/make_site.py
	.venv-docs/bin/zensical build --strict --clean --config-file build/site.toml

# In build/mutants. Takes most of an hour on two cores.
mutants: .venv/test.stamp
	$(BIN)/python -m tests.mutants

soak: .venv/test.stamp .venv-s3ec/stamp system $(NPM)/node_modules/stamp extras
	$(BIN)/$(PYTEST) -m soak
	$(BIN)/python -m tests.soak_lab
	$(BIN)/python -m tests.soak_keys 10
	$(BIN)/python -m tests.soak_forks
	$(BIN)/python -m tests.soak_records 10
	$(BIN)/python -m tests.soak_fleet
	$(BIN)/python -m tests.soak_reseal
	$(BIN)/python -m tests.soak_moving
	$(BIN)/python -m tests.soak_spark

clean:
	rm -rf .venv .venv-* $(NPM)/node_modules .fuzz .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
