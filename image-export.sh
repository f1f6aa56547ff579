#!/bin/bash
# ./image-export.sh [SERVICE…]: write SERVICE.tar.gz, which `docker load` reads, and print its SHA-256;
# by default the trainer's. The same image gives the same file. TMPDIR has room for twice the image.
set -euo pipefail
cd "$(dirname "$0")"
. docker/engine.sh

save() { # NAME, FILE
    case $engine in
    docker) docker save --output "$2" "$1" ;;
    podman) podman save --quiet --format docker-archive --output "$2" "$1" ;;
    buildah) buildah push --quiet "$1" "docker-archive:$2" ;;
    esac
}

if [ $# -eq 0 ]; then
    set -- unsloth_trainer_service
fi
for service; do
    known "$service"
done
engine=$(engine)
folder=$(mktemp -d)
trap 'rm -rf "$folder" "$service.tar.gz.part"' EXIT
for service; do
    save "$(image "$service")" "$folder/saved.tar" > /dev/null
    python3 docker/normalise.py "$folder/saved.tar" "$(image "$service")" "$(epoch)" |
        gzip --no-name > "$service.tar.gz.part"
    mv "$service.tar.gz.part" "$service.tar.gz"
    rm "$folder/saved.tar"
    sha256sum "$service.tar.gz" | cut -d' ' -f1
done
