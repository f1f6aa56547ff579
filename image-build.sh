#!/bin/bash
# ./image-build.sh [SERVICE…]: build the images of these services, or of all, and the base they share.
#
#   VARIANT=cuda         with CUDA, for the services with torch (cpu)
#   ENGINES=transformers for the LLM service: also the engine that needs torch, as cuda has it
#   EXTRAS=otel          in all images: what OpenTelemetry's traces need
#   BASE_IMAGE           an image with Python 3.11 and its venv module (python:3.11-slim)
#   PIP_EXTRA_INDEX_URL  for VARIANT=cpu: the CPU index that pytorch.org names
#   PIP_NO_INDEX=1       without CUDA: build from docker/wheels alone, which docker/wheels.sh fills
set -euo pipefail
cd "$(dirname "$0")"
. docker/engine.sh

build() { # NAME, then options of the engine
    local file="docker/${1#infernet-ml-}.Dockerfile" name
    local options=(--tag "$(image "$1")" --file "$file")
    for name in BASE_IMAGE EXTRAS VARIANT ENGINES PIP_NO_INDEX PIP_EXTRA_INDEX_URL; do
        if [ -n "${!name:-}" ] && grep -q "^ARG $name=" "$file"; then
            options+=(--build-arg "$name=${!name}")
        fi
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

case ${VARIANT:=cpu} in
cpu) ;;
cuda) unset PIP_EXTRA_INDEX_URL ;; # it has packages without CUDA that pip would prefer
*) fail "VARIANT is cpu or cuda, not $VARIANT" ;;
esac

engine=$(engine)
export DOCKER_BUILDKIT=1 # an older docker has it, and builds without mounts unless it is told
build infernet-ml-base
for service; do
    build "$service" --build-arg "BASE=$(image infernet-ml-base)" \
        --label "org.opencontainers.image.title=$service"
done
