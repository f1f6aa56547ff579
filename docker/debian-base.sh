#!/bin/bash
# docker/debian-base.sh [NAME]: make an image with Debian's Python 3.11 (infernet-debian), by debootstrap
# from the mirror that this machine's apt uses: a BASE_IMAGE where no registry can be reached.
#
#   CACHE  where its file system is kept, for the next time (.images)
set -euo pipefail
cd "$(dirname "$0")/.."
export BUILDAH_ISOLATION=${BUILDAH_ISOLATION:-chroot}

cache=${CACHE:-.images}
packages=python3-venv,ca-certificates
file="$cache/debian-bookworm.tar"
if [ ! -f "$file" ]; then
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' |
        awk '$2 == "bookworm" && $3 == "main" { print $1; exit }')
    [ -n "$mirror" ] || { echo "apt has no mirror of bookworm: run apt-get update" >&2; exit 1; }
    mkdir -p "$cache"
    root=$(mktemp -d "$cache/debian.XXXXXX")
    trap 'rm -rf "$root"' EXIT
    debootstrap --variant=minbase --include="$packages" bookworm "$root/system" "$mirror" > "$cache/debootstrap.log"
    # What differs from one time to the next, and who this machine is.
    rm -rf "$root"/system/var/{cache/apt,lib/apt/lists,log}/* "$root"/system/etc/{hostname,resolv.conf,machine-id}
    rm -rf "$root"/system/etc/apt/sources.list
    tar -C "$root/system" --sort=name --exclude './dev/*' -cf "$file.part" .
    mv "$file.part" "$file"
fi
container=$(buildah from scratch)
trap 'buildah rm "$container" > /dev/null; rm -rf "${root:-}"' EXIT
buildah add --quiet "$container" "$file" / > /dev/null
buildah config --cmd bash --env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$container"
buildah commit --quiet --format docker "$container" "${1:-infernet-debian}"
