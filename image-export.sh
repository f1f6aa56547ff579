#!/bin/bash
# ./image-export.sh [SERVICE…]: write SERVICE.tar.gz, which `docker load` reads, and print its SHA-256;
# by default the trainer's. The same image gives the same file.
set -euo pipefail
cd "$(dirname "$0")"
. docker/engine.sh

save() {
    case $engine in
    docker) docker save "$1" ;;
    podman) podman save --format docker-archive "$1" ;;
    buildah)
        folder=$(mktemp -d)
        buildah push --quiet "$1" "docker-archive:$folder/image.tar" > /dev/null
        cat "$folder/image.tar"
        rm -r "$folder"
        ;;
    esac
}

if [ $# -eq 0 ]; then
    set -- unsloth_trainer_service
fi
for service; do
    known "$service"
done
engine=$(engine)
for service; do
    save "$(image "$service")" | python3 docker/normalise.py "$(image "$service")" "$(epoch)" |
        gzip --no-name > "$service.tar.gz.part"
    mv "$service.tar.gz.part" "$service.tar.gz"
    sha256sum "$service.tar.gz" | cut -d' ' -f1
done
