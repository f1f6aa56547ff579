#!/bin/sh
# install-project.sh FOLDER: inside a build, installs this project from its sources, and writes down
# what is in the image.
set -eu
build=$(dirname "$0")

PIP_CONSTRAINT="$build/build-constraints.txt" \
    pip install --no-cache-dir --no-compile --no-deps --find-links /wheels "$1"
PYTHONHASHSEED=0 python "$build/compile.py"
mkdir -p /usr/share/sbom
python "$build/sbom.py" > /usr/share/sbom/image.cdx.json
