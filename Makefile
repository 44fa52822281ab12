# Each target sets up what it needs. `make demo` and `make test` are all that a fresh machine takes.
SHELL := /bin/bash
PYTHON := .venv/bin/python
INSTALLED := .venv/.installed

# Docker's or Debian's registry binary may be in here, see `registry`.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DEBIAN_FRONTEND := noninteractive
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_ROOT_USER_ACTION := ignore
# The tests start hundreds of Pythons: each would compile regdata for itself.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo lab report test check lint bench clean pictures style registry tools

demo: $(INSTALLED) registry  ## clean a sample registry by the condition `autobuild`
	@$(PYTHON) -m regdata.demo run

lab: $(INSTALLED) registry  ## JupyterLab on the sample registry
	@$(PYTHON) -m regdata.demo lab

report: $(INSTALLED)  ## explore and capacity as HTML pages, for the conf.json at hand or REGDATA_CONF
	@$(PYTHON) -m regdata.command.pages

pictures: $(INSTALLED) registry  ## the README's pictures, from a fresh sample registry
	@$(PYTHON) -m tests.benchmarks.pictures

# Most tests wait, for a registry or a kernel, as long as they work; neighbours share what their module set up.
test: $(INSTALLED) registry tools
	@$(PYTHON) -m pytest -q -n $$((2 * $$(nproc))) --dist worksteal

# Few examples, and nothing that starts a registry, a kernel or a browser, or takes seconds by itself.
check: $(INSTALLED) style  ## what to run after each change: lint without the tests' types, and the quick tests
	@$(PYTHON) -m mypy --no-error-summary
	@PROPERTY_EXAMPLES=5 $(PYTHON) -m pytest -q -n auto -m 'not real and not slow'

lint: $(INSTALLED) style
	@$(PYTHON) -m mypy --no-error-summary -p regdata -p tests

style: $(INSTALLED)
	@$(PYTHON) -m ruff check -q
	@$(PYTHON) -m ruff format --check -q
	@said=$$(.venv/bin/lint-imports --no-logo) || { echo "$$said"; exit 1; }

bench: TOOLS := skopeo wrk
bench: $(INSTALLED) registry tools
	@$(PYTHON) -m tests.benchmarks

clean:  ## what make, the tools and the demo made; never reports/, never .venv
	rm -rf demo bench build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name .venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

$(INSTALLED): pyproject.toml
	@echo "setting up .venv"
	@python3 -c 'import ensurepip' 2>/dev/null || [ "$$(id -u)" != 0 ] || \
	    { apt-get -qq update && apt-get -qq install -y python3-venv >/dev/null; }
	@python3 -m venv .venv
	@.venv/bin/pip install -qq --no-compile -e '.[dev]'
	@$(PYTHON) -m compileall -qq -j 0 .venv/lib || true  # as pip would, but on all cores
	@touch $@

# Debian's package would start a service on port 5000, now and at every boot: only its binary is
# taken, and Docker's image gives the same binary.
registry: $(INSTALLED)
	@set -e; \
	! command -v docker-registry >/dev/null || exit 0; \
	! command -v registry >/dev/null || exit 0; \
	folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "fetching Debian's docker-registry"; \
	    apt-get -qq update; \
	    (cd "$$folder" && apt-get -qq -o APT::Sandbox::User=root download docker-registry); \
	    dpkg -x "$$folder"/docker-registry_*.deb "$$folder"; \
	    cp "$$folder"/usr/bin/docker-registry .venv/bin/; \
	elif [ "$$(uname -s)" = Linux ] && docker info >/dev/null 2>&1; then \
	    echo "fetching Docker's registry:2"; \
	    docker pull -q registry:2 >/dev/null; \
	    id=$$(docker create registry:2); \
	    docker cp "$$id":/bin/registry .venv/bin/registry >/dev/null; \
	    docker rm "$$id" >/dev/null; \
	else \
	    echo "error: no docker-registry or registry on PATH: install Debian's docker-registry" >&2; \
	    exit 1; \
	fi

TOOLS := skopeo chromium nginx htpasswd
tools: | $(INSTALLED)
	@set -e; \
	missing=; for tool in $(TOOLS); do command -v $$tool >/dev/null || missing+=" $$tool"; done; \
	packages=$${missing/htpasswd/apache2-utils}; \
	if [ ! "$$missing" ]; then \
	    exit 0; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "installing$$missing"; \
	    apt-get -qq update; \
	    apt-get -qq install -y --no-install-recommends $$packages >/dev/null; \
	else \
	    echo "error: no$$missing on PATH: install what Debian has as$$packages" >&2; \
	    exit 1; \
	fi
