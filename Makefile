# From a bare python3 and a C compiler: each target makes the virtual environment it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# setuptools warns of every editable install.
INSTALL := PYTHONWARNINGS=ignore::UserWarning $(BIN)/pip install --quiet

.PHONY: demo test fuzz bench lint size clean

demo: $(VENV)/demo.done
	$(BIN)/cnnfast demo

test: $(VENV)/test.done build/keras/3.8
	CNNFAST_KERAS_VERSIONS=build/keras $(BIN)/pytest

# 10,000 random calls, where `make test` makes 1,500.
fuzz: $(VENV)/test.done
	CNNFAST_FUZZ=10000 $(BIN)/pytest tests/test_fuzz.py

bench: $(VENV)/bench.done
	mkdir -p build
	$(BIN)/cnnfast bench --peers --json build/benchmark.json --png build/roofline.png

lint: $(VENV)/lint.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	rm -rf build/types && CNNFAST_NO_EXTENSIONS=1 $(INSTALL) --no-deps --target build/types .
	MYPYPATH=build/types $(BIN)/mypy -p cnnfast

# Sizes of the plain install, NumPy and cnnfast alone: downloads and files on disk.
size: $(BIN)/python
	rm -rf build/size && mkdir -p build/size
	$(BIN)/pip wheel --quiet --wheel-dir build/size/wheels .
	$(INSTALL) --no-compile --no-index --find-links build/size/wheels --target build/size/installed cnnfast
	du -sh --apparent-size build/size/wheels/*.whl build/size/installed

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --upgrade pip

# Editable installs build the extensions in place; a changed source builds them again.
SOURCES := pyproject.toml setup.py $(wildcard kernels/cython_cpu/*.p* kernels/cython_cpu/*.h)

$(VENV)/demo.done: $(BIN)/python $(SOURCES)
	$(INSTALL) --editable '.[numba,demo]'
	touch $@

$(VENV)/test.done: $(BIN)/python $(SOURCES)
	$(INSTALL) --editable '.[test]'
	touch $@

# The oldest Keras that is served; the newest is in the environment.
build/keras/3.8: $(VENV)/test.done
	$(INSTALL) --no-deps --target $@ 'keras==3.8.*'
	touch $@

$(VENV)/bench.done: $(BIN)/python $(SOURCES)
	$(INSTALL) --editable '.[numba,bench]'
	touch $@

$(VENV)/lint.done: $(VENV)/test.done
	$(INSTALL) --group lint
	touch $@

clean:
	rm -rf $(VENV) build dist out *.egg-info kernels/cython_cpu/*.so
