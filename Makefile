# make demo: the bundled strategy judged on the bundled simulated sample.
# make test: everything set up, and all tests. Needs Python 3.11 or newer, pip and make, nothing else.
PYTHON ?= python3
PIP = -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES = pyproject.toml constraints.txt

.PHONY: demo test fast lint clean

demo: .venv/ready
	.venv/bin/finsignal demo

test: .venv-dev/ready
	.venv-dev/bin/python -m pytest -n 2

fast: .venv-dev/ready
	.venv-dev/bin/python -m pytest -m "not slow" -n 2

lint: .venv-dev/ready
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/mypy

# The demo needs no PyTorch; the tests train, so they have an environment of their own.
.venv/ready: $(SOURCES)
	$(PYTHON) -m venv .venv
	.venv/bin/python $(PIP) --editable ".[backtest]"
	touch $@

.venv-dev/ready: $(SOURCES)
	$(PYTHON) -m venv .venv-dev
	.venv-dev/bin/python $(PIP) --editable ".[all]"
	touch $@

clean:
	rm -rf .venv .venv-dev runs build *.egg-info
