# Everything a newcomer or a machine runs. `make demo` and `make test` set themselves up.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMPS := $(VENV)/stamps
WORKERS ?= 3

# An editable install reads Python modules from src/, but knows them by a list made when it is installed.
SOURCES := CMakeLists.txt pyproject.toml $(wildcard native/*.hpp native/*.cpp) $(shell find src -name '*.py')

.PHONY: help setup demo test torture check lint types docs sanitize sanitize-addresses sanitize-threads cross cross-run bench bench-backend-search bench-retrieval bench-latency bench-server bench-capacity bench-http bench-first-search bench-peers test-torch test-crewai api dist test-dist clean

help:
	@echo "make demo       set up, then import a conversation, ask it questions and show what is found"
	@echo "make test       set up, then run all tests"
	@echo "make torture    the campaigns of kills, power cuts, damage and many processes in their long form (half an hour)"
	@echo "make check      lint, types, docs, sanitizers, other platforms' compilers and tests"
	@echo "make bench      measure the index beside its peers; VECTORS=file.npy QUERIES=file.npy for your own, LARGEST=10000 for a short run"
	@echo "make bench-retrieval measure what is found of what answers questions; DATA=set.jsonl for sets of your own"
	@echo "make bench-server measure PostgreSQL in bulk, under load and as it grows; DSN=... for a server of yours"
	@echo "make bench-capacity  measure what an entry takes in each backend, and calculate what a billion would"
	@echo "make bench-http measure a served memory under load, for a minute"
	@echo "make bench-first-search measure how long a newcomer waits for a first search, each way there is"
	@echo "make bench-latency   measure how long searches of each mode take; DATA=utterances.jsonl for your own"
	@echo "make bench-peers set up a second environment with other memories and vector stores (1 GB) and measure them beside this one; DATA=folder"
	@echo "make dist       build the sdist, and a wheel from it, into dist/"
	@echo "make test-dist  build both in environments of their own, check them, install and use the wheel without a compiler"
	@echo "make test-torch set up a second environment with torch (some GB) and test what needs it"
	@echo "make test-crewai set up another with CrewAI (1 GB) and test the adapter for it"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"

# The build's own requirements stand in the environment, so that a changed source is compiled alone and not anew.
$(STAMPS)/core: $(BIN)/python $(SOURCES)
	@mkdir -p $(STAMPS)
	$(BIN)/python -m pip install --quiet "scikit-build-core>=0.11.1" "nanobind>=2.4" "numpy>=2.0" "cmake>=3.26" ninja
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[cli,local,openai,ollama,plot,dates,postgres,milvus,server,client]"
	@touch $@

$(STAMPS)/dev: $(STAMPS)/core
	$(BIN)/python -m pip install --quiet --group test --group lint --group docs
	@touch $@

setup: $(STAMPS)/dev

demo: $(STAMPS)/core
	$(BIN)/llmspell-memory demo

test: $(STAMPS)/dev
	$(BIN)/python -m pytest --numprocesses=$(WORKERS) --dist=worksteal

torture: $(STAMPS)/dev
	$(BIN)/python -m pytest tests/faults tests/milvus/test_faults.py --torture

lint: $(STAMPS)/dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(STAMPS)/dev
	$(BIN)/mypy
	$(BIN)/mypy --platform win32 --no-warn-unreachable src
	$(BIN)/mypy --platform darwin --no-warn-unreachable src
	$(BIN)/python -m mypy.stubtest --concise --ignore-disjoint-bases --allowlist tools/stubtest.txt \
		llmspell_memory._core llmspell_memory._pages

# The list of what is public, after a change of it that is meant.
api: $(STAMPS)/dev
	$(BIN)/python tools/public_api.py --write

docs: $(STAMPS)/dev
	$(BIN)/mkdocs build --strict --quiet

# The native core alone, without Python, under the compiler's checkers.
SANITIZED := $(filter-out %bindings.cpp,$(wildcard native/*.cpp)) $(wildcard native/tests/*.cpp)
CXX ?= c++
sanitize: sanitize-addresses sanitize-threads

sanitize-addresses: $(SANITIZED) $(wildcard native/*.hpp)
	@mkdir -p build
	$(CXX) -std=c++20 -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -Inative $(SANITIZED) -o build/stress-asan
	build/stress-asan

sanitize-threads: $(SANITIZED) $(wildcard native/*.hpp)
	@mkdir -p build
	$(CXX) -std=c++20 -O1 -g -fsanitize=thread -Inative $(SANITIZED) -o build/stress-tsan -pthread
	build/stress-tsan

# The same by a compiler for other systems, as whole programs: Windows, macOS on ARM, where the plain kernels become NEON, and
# Linux there. Beside each stands a test of the layer under SQLite, which takes the library that holds SQLite.
COMPILED := x86_64-windows-gnu aarch64-macos
RUN := x86_64-windows-gnu aarch64-linux-musl
CROSS_FLAGS := -std=c++20 -O2 -Wall -Wextra -Werror -Inative
PAGES := sqlite_library sqlite_vfs tests/pages/pages
define CROSS_RULES
build/cross/$(1)/%.o: native/%.cpp $(wildcard native/*.hpp native/tests/*.hpp) | $(STAMPS)/cross
	@mkdir -p $$(dir $$@)
	$(BIN)/python -m ziglang c++ -target $(1) $(CROSS_FLAGS) -c $$< -o $$@
build/cross/$(1)/stress.exe: $(SANITIZED:native/%.cpp=build/cross/$(1)/%.o)
	$(BIN)/python -m ziglang c++ -target $(1) $$^ -o $$@
build/cross/$(1)/pages.exe: $(PAGES:%=build/cross/$(1)/%.o)
	$(BIN)/python -m ziglang c++ -target $(1) $$^ -o $$@
endef
$(foreach target,$(sort $(COMPILED) $(RUN)),$(eval $(call CROSS_RULES,$(target))))

$(STAMPS)/cross: $(BIN)/python
	@mkdir -p $(STAMPS)
	$(BIN)/python -m pip install --quiet --group cross
	@touch $@

cross: $(foreach target,$(COMPILED),build/cross/$(target)/stress.exe build/cross/$(target)/pages.exe)

# What of that Debian's qemu-user-static and wine can run.
cross-run: $(RUN:%=build/cross/%/stress.exe)
	qemu-aarch64-static build/cross/aarch64-linux-musl/stress.exe
	WINEDEBUG=-all wine build/cross/x86_64-windows-gnu/stress.exe

check: lint types docs sanitize cross test

# MEASURED=1 puts the tables into the pages that show them.
BENCH = $(if $(VECTORS),--vectors $(VECTORS)) $(if $(QUERIES),--queries $(QUERIES)) $(if $(LARGEST),--largest $(LARGEST)) \
	$(if $(MEASURED),--write-docs)

$(STAMPS)/bench: $(STAMPS)/core
	$(BIN)/python -m pip install --quiet --group bench
	@touch $@

bench: $(STAMPS)/bench
	$(BIN)/python benchmarks/index.py $(if $(PARTS),--parts $(PARTS)) $(BENCH)

bench-backend-search: $(STAMPS)/bench
	$(BIN)/python benchmarks/backend_search.py $(BENCH)

# DATA=files or folders to measure on; PROVIDERS=hashing,local (minilm needs torch: make test-torch, then VENV=.venv-torch).
bench-retrieval: $(STAMPS)/core
	$(BIN)/python benchmarks/retrieval.py $(or $(DATA),examples) $(if $(PROVIDERS),--providers $(PROVIDERS))

# DATA=a file of utterances; STORE=a file to keep them in, which is used again.
bench-latency: $(STAMPS)/core
	$(BIN)/python benchmarks/latency.py $(DATA) $(if $(STORE),--store $(STORE))

bench-http: $(STAMPS)/core
	$(BIN)/python benchmarks/http_server.py

bench-first-search: $(STAMPS)/core
	$(BIN)/python benchmarks/first_search.py

# DSN=of a server to measure, instead of one started for it; PARTS=bulk,load,growth.
bench-server: $(STAMPS)/dev
	$(BIN)/python benchmarks/server.py $(if $(DSN),--dsn "$(DSN)") $(if $(PARTS),--parts $(PARTS))

# DATA=a file of utterances.
bench-capacity: $(STAMPS)/dev
	$(BIN)/python benchmarks/capacity.py $(if $(DATA),--data $(DATA)) $(if $(MEASURED),--write-docs)

# Other memories and vector stores have an environment of their own. DATA=folder with utterances and their vectors;
# STORES="Chroma; mem0" and SIZES=10000 for less.
bench-peers: build/wheel/built
	$(BIN)/python -m venv $(VENV)-peers
	$(VENV)-peers/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-peers/bin/python -m pip install --quiet --no-compile build/wheel/*.whl --group peers
	$(VENV)-peers/bin/python -m pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	$(VENV)-peers/bin/python benchmarks/peers.py $(if $(DATA),--data $(DATA)) $(if $(STORES),--stores "$(STORES)") \
		$(if $(SIZES),--sizes $(SIZES)) $(if $(MEASURED),--write-docs)

# Environments of their own: torch takes some GB, and CrewAI wants another openai than the OpenAI Agents SDK does. The
# native module is not compiled anew for them, and of Python modules only those are compiled that are imported.
comma := ,

build/wheel/built: $(STAMPS)/core
	rm -rf build/wheel
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/wheel .
	@touch $@

define environment
	$(BIN)/python -m venv $(VENV)-$(1)
	$(VENV)-$(1)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	$(VENV)-$(1)/bin/python -m pip install --quiet --no-compile "$$(ls build/wheel/*.whl)[$(2)]" --group runner $(3)
	$(VENV)-$(1)/bin/python -m pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
endef

test-torch: build/wheel/built
	$(call environment,torch,sentence-transformers,--group torch --constraint tests/optional/torch/constraints.txt)
	HF_HUB_OFFLINE=1 $(VENV)-torch/bin/python -m pytest tests/optional/torch

test-crewai: build/wheel/built $(STAMPS)/dev
	$(call environment,crewai,crewai$(comma)local)
	$(BIN)/mypy --python-executable $(VENV)-crewai/bin/python --cache-dir .mypy_cache/crewai --follow-imports silent \
		src/llmspell_memory/adapters/crewai tests/optional/crewai
	$(VENV)-crewai/bin/python -m pytest tests/optional/crewai

$(STAMPS)/dist: $(STAMPS)/dev
	$(BIN)/python -m pip install --quiet --group dist
	@touch $@

# The wheel is built from the sdist, so that what is published can be built from what is published.
dist: $(STAMPS)/dist
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

test-dist: $(STAMPS)/dist
	$(BIN)/python -m pytest tests/packaging

clean:
	rm -rf build dist site $(VENV) $(VENV)-torch $(VENV)-crewai $(VENV)-peers .mypy_cache .pytest_cache .ruff_cache .hypothesis
