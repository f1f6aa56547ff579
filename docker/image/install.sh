#!/bin/sh
# install.sh [EXTRA…]: inside a build, installs what these extras need, at the tested versions.
set -eu
build=$(dirname "$0")

if [ "${VARIANT:-}" = cpu ]; then # the plain torch of an index may bring CUDA along, 3 GB of it
    sed -i 's/^torch==[0-9.]*$/&+cpu/' "$build/constraints.txt"
fi
python "$build/requirements.py" "$build/pyproject.toml" "$@" > /tmp/requirements.txt
pip install --no-cache-dir --no-compile --find-links /wheels --requirement /tmp/requirements.txt || {
    echo "If it is a CPU build of torch that was not found: put its wheel into docker/wheels, or give" \
        "the CPU index that pytorch.org names as PIP_EXTRA_INDEX_URL, or build with VARIANT=cuda." >&2
    exit 1
}
rm /tmp/requirements.txt
PYTHONHASHSEED=0 python "$build/compile.py"
