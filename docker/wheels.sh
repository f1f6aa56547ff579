#!/bin/bash
# docker/wheels.sh [EXTRA…]: download into docker/wheels what images with these extras are built from,
# by this machine's pip and its settings. `PIP_NO_INDEX=1 ./image-build.sh` then needs no network.
#
#   PYTHON  the Python whose pip is used (python3)
#   WHEELS  another folder
set -euo pipefail
cd "$(dirname "$0")"

required=$(mktemp)
trap 'rm "$required"' EXIT
python=${PYTHON:-python3}
"$python" image/requirements.py ../pyproject.toml > "$required"
"$python" image/requirements.py ../pyproject.toml "$@" >> "$required"
download() {
    "$python" -m pip download --quiet --dest "${WHEELS:-wheels}" --only-binary :all: --python-version 3.11 "$@"
}
download --constraint ../constraints.txt --requirement "$required"
download --requirement image/build-constraints.txt
