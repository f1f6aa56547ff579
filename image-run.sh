#!/bin/bash
# ./image-run.sh [SERVICE [OPTION…]]: run a service's image, by default the trainer's, on the documents'
# port. The options are those of serve.
#
#   ENV_FILE                its settings (services/SERVICE/.env.example)
#   IMAGE                   another image of this service, such as one of your own
#   INPUT, OUTPUT, WORKING  folders of this machine for /mnt/input, /mnt/output and /mnt/working, which
#                           user 10001 may write to
#   ARTIFACTS               the proof service's folder of artifacts
#   GPUS=all                for images that were built with VARIANT=cuda; not by buildah
set -euo pipefail
here=$(dirname "$0") # no cd: folders and files are named from where the caller is
. "$here/docker/engine.sh"

ports() {
    case $1 in
    classic_ml_inference_service) echo 4998:3000 ;;
    ezkl_proof_service) echo 3003:3000 ;;
    llm_inference_service) echo 4999:3000 ;;
    tgi_client_inference_service) echo 3000:3000 ;;
    unsloth_trainer_service) echo 8000:8000 5000:5000 ;;
    esac
}

folder() { # FOLDER, its place in the container
    [ -n "$1" ] || return 0
    [ -d "$1" ] || fail "there is no folder $1"
    options+=("--volume=$(realpath "$1"):$2")
}

# buildah has no networks of its own and no entry points: the image's command runs on this machine's
# ports. buildah is in a session of its own, where no Ctrl-C reaches it: it would kill the service.
run_with_buildah() {
    local command line port status variables=()
    case " $* " in
    *" --bind"* | *" -b"*) ;;
    *) for port in $(ports "$service"); do set -- "$@" "--bind=0.0.0.0:${port%:*}"; done ;;
    esac
    while IFS= read -r line || [ -n "$line" ]; do
        [[ $line =~ ^[[:space:]]*([A-Za-z_].*)$ ]] && variables+=(--env "${BASH_REMATCH[1]}")
    done < "$env_file"
    trap stop TERM INT HUP
    container=
    trap '[ -z "$container" ] || buildah rm "$container" > /dev/null' EXIT
    container=$(buildah from "$image")
    mapfile -t command < <(buildah inspect --type container \
        --format '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}' "$container" | sed '/^$/d')
    setsid buildah run --network host "${variables[@]}" "${options[@]}" "$container" -- "${command[@]}" "$@" &
    while # a signal ends the first wait and not the service
        status=0
        wait $! || status=$?
        kill -0 $! 2> /dev/null
    do :; done
    exit "$status"
}

stop() {
    [ -n "$(jobs -p)" ] || exit 143
    kill -TERM "$(first_process $!)" 2> /dev/null || true # it may have ended by itself
}

# buildah's own helpers, each with one child, stand between it and the container's first process,
# which may not be there yet.
first_process() {
    local pid parent
    while kill -0 "$1" 2> /dev/null; do
        pid=$1 parent=
        while [[ $(command_line "$pid") == buildah* ]]; do
            parent=$pid
            pid=$(cat "/proc/$parent/task/"*/children 2> /dev/null | cut -d' ' -f1)
        done
        if [[ $(command_line "$parent") == buildah-chroot-exec* && -n $(command_line "$pid") ]]; then
            echo "$pid"
            return
        fi
        sleep 0.1
    done
}

command_line() {
    { tr '\0' ' ' < "/proc/$1/cmdline"; } 2> /dev/null
}

service=${1:-unsloth_trainer_service}
shift $(($# > 0))
known "$service"
env_file=${ENV_FILE:-$here/services/$service/.env.example}
image=${IMAGE:-$(image "$service")}
options=()
folder "${INPUT:-}" /mnt/input:ro
folder "${OUTPUT:-}" /mnt/output
folder "${WORKING:-}" /mnt/working
folder "${ARTIFACTS:-}" /home/infernet/artifacts:ro
[ -z "${WORKING:-}" ] || options+=(--env WORKING_PATH=/mnt/working) # over that of the settings
[ -r "$env_file" ] || fail "there is no file of settings $env_file"
engine=$(engine)
if [ "$engine" = buildah ]; then
    run_with_buildah "$@"
fi
case ${GPUS:+$engine} in
docker) options+=("--gpus=$GPUS") ;;
podman) options+=("--device=nvidia.com/gpu=$GPUS") ;;
esac
for port in $(ports "$service"); do
    options+=("--publish=$port")
done
# The engine's ten seconds to end would cut requests, and jobs that save what they trained.
exec "$engine" run --rm --stop-timeout=105 --env-file "$env_file" "${options[@]}" "$image" "$@"
