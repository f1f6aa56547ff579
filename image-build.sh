#!/bin/bash
# ./image-build.sh [SERVICE…]: build the images of these services, or of all, and the base they share.
#
#   VARIANT=cuda         with CUDA, for the services with torch (cpu)
#   BASE_IMAGE           an image with Python 3.11 and its venv module (python:3.11-slim)
#   PIP_EXTRA_INDEX_URL  for VARIANT=cpu: the CPU index that pytorch.org names
#   PIP_NO_INDEX=1       build from docker/wheels alone, which docker/wheels.sh fills
set -euo pipefail
cd "$(dirname "$0")"
. docker/engine.sh

build() { # NAME, then options of the engine
    local options=(--tag "$(image "$1")" --file "docker/${1#infernet-ml-}.Dockerfile")
    local name
    for name in PIP_NO_INDEX PIP_EXTRA_INDEX_URL; do
        [ -z "${!name:-}" ] || options+=(--build-arg "$name=${!name}")
    done
    case $engine in
    docker) options+=(--build-arg "SOURCE_DATE_EPOCH=$(epoch)") ;;
    *) options+=(--format docker --timestamp "$(epoch)") ;;
    esac
    "$engine" build "${options[@]}" "${labels[@]}" "${@:2}" .
}

labels=(
    --label "org.opencontainers.image.version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' src/ml/__init__.py)"
    --label "org.opencontainers.image.revision=$(git describe --always --dirty --exclude='*' --abbrev=40 2> /dev/null || echo unknown)"
    --label "org.opencontainers.image.licenses=MIT"
)
if [ $# -eq 0 ]; then
    set -- "${services[@]}"
fi
for service; do
    known "$service"
done

engine=$(engine)
build infernet-ml-base ${BASE_IMAGE:+--build-arg "BASE_IMAGE=$BASE_IMAGE"}
for service; do
    build "$service" --build-arg "BASE=$(image infernet-ml-base)" \
        ${VARIANT:+--build-arg "VARIANT=$VARIANT"} --label "org.opencontainers.image.title=$service"
done
