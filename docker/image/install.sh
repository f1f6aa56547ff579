#!/bin/sh
# install.sh [EXTRA…]: inside a build, installs what these extras need, at the tested versions.
set -eu
build=$(dirname "$0")

"$build/constraints.sh" "${VARIANT:-}" "$@"
python "$build/requirements.py" "$build/pyproject.toml" "$@" > /tmp/requirements.txt
pip install --no-cache-dir --no-compile --find-links /wheels --requirement /tmp/requirements.txt || {
    echo "Where a build reaches no index: docker/wheels.sh ${*:-classic}, then PIP_NO_INDEX=1." >&2
    [ "${VARIANT:-}" != cpu ] || echo "If it is a CPU build of torch that was not found: put its" \
        "wheel into docker/wheels, or give the CPU index that pytorch.org names as" \
        "PIP_EXTRA_INDEX_URL, or build with VARIANT=cuda." >&2
    exit 1
}
rm /tmp/requirements.txt
PYTHONHASHSEED=0 python "$build/compile.py"
