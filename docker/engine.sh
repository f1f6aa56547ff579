# Read by image-build.sh, image-run.sh and image-export.sh: what the three share.
# shellcheck shell=bash
#
#   ENGINE        docker, podman or buildah; the first of them that works
#   IMAGE_PREFIX  of the images' names, such as your-registry/
#   IMAGE_TAG     latest

services=()
for _folder in "$(dirname "${BASH_SOURCE[0]}")"/../services/*_service/; do
    services+=("$(basename "$_folder")")
done

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

works() {
    command -v "$1" > /dev/null || return 1
    case $1 in
    buildah) ;; # has no daemon that could be missing
    *) "$1" info > /dev/null 2>&1 ;;
    esac
}

engine() {
    local name
    for name in ${ENGINE:-docker podman buildah}; do
        if works "$name"; then
            echo "$name"
            return
        fi
    done
    fail "none of docker, podman and buildah works here; buildah needs no daemon: apt-get install buildah"
}

image() {
    echo "${IMAGE_PREFIX:-}$1:${IMAGE_TAG:-latest}"
}

known() {
    local name
    for name in "${services[@]}"; do
        [ "$name" != "$1" ] || return 0
    done
    fail "there is no service $1; there are ${services[*]}"
}

# The time that everything in an image bears: the last commit's, or the first that a wheel can bear.
epoch() {
    echo "${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2> /dev/null || echo 315532800)}"
}
