#!/bin/bash
# ./image-run.sh [SERVICE [OPTION…]]: run a service's image, by default the trainer's, on the documents'
# port. The options are those of serve.
#
#   ENV_FILE                its settings (services/SERVICE/.env.example)
#   IMAGE                   another image of this service, such as one of your own
#   INPUT, OUTPUT, WORKING  folders of this machine for /mnt/input, /mnt/output and /mnt/working, which
#                           user 10001 may write to
set -euo pipefail
cd "$(dirname "$0")"
. docker/engine.sh

ports() {
    case $1 in
    classic_ml_inference_service) echo 4998:3000 ;;
    ezkl_proof_service) echo 3003:3000 ;;
    llm_inference_service) echo 4999:3000 ;;
    tgi_client_inference_service) echo 3000:3000 ;;
    unsloth_trainer_service) echo 8000:8000 5000:5000 ;;
    esac
}

volumes() {
    [ -z "${INPUT:-}" ] || echo "--volume=$(realpath "$INPUT"):/mnt/input:ro"
    [ -z "${OUTPUT:-}" ] || echo "--volume=$(realpath "$OUTPUT"):/mnt/output"
    [ -z "${WORKING:-}" ] || echo "--volume=$(realpath "$WORKING"):/mnt/working"
}

# buildah has no networks of its own and no entry points: the image's command runs on this machine's
# ports, and a signal goes to it and not to buildah, which would kill it.
run_with_buildah() {
    local command first line port status variables=()
    case " $* " in
    *" --bind"* | *" -b"*) ;;
    *) for port in $(ports "$service"); do set -- "$@" "--bind=0.0.0.0:${port%:*}"; done ;;
    esac
    while IFS= read -r line; do
        [[ $line =~ ^[A-Za-z_] ]] && variables+=(--env "$line")
    done < "$env_file"
    container=$(buildah from "$image")
    trap 'buildah rm "$container" > /dev/null' EXIT
    mapfile -t command < <(buildah inspect --type container \
        --format '{{range .Docker.Config.Entrypoint}}{{println .}}{{end}}' "$container" | sed '/^$/d')
    buildah run --network host "${mounts[@]}" "${variables[@]}" "$container" -- "${command[@]}" "$@" &
    trap 'first=$(first_process $!) && kill -TERM "$first"' TERM INT
    while # a signal ends the first wait and not the service
        status=0
        wait $! || status=$?
        kill -0 $! 2> /dev/null
    do :; done
    exit "$status"
}

# buildah's own helpers, each with one child, stand between it and the container's first process.
first_process() {
    local pid=$1
    while [[ $(< "/proc/$pid/comm") == buildah* || $(tr '\0' ' ' < "/proc/$pid/cmdline") == buildah-* ]]; do
        pid=$(cat "/proc/$pid/task/"*/children | tr -d ' ')
    done
    echo "$pid"
}

service=${1:-unsloth_trainer_service}
shift $(($# > 0))
known "$service"
env_file=${ENV_FILE:-services/$service/.env.example}
image=${IMAGE:-$(image "$service")}
engine=$(engine)
mapfile -t mounts < <(volumes)
if [ "$engine" = buildah ]; then
    run_with_buildah "$@"
fi
# The engine's ten seconds to end would cut requests, and jobs that save what they trained.
exec "$engine" run --rm --stop-timeout=105 "${mounts[@]}" --env-file "$env_file" \
    $(for port in $(ports "$service"); do echo "--publish=$port"; done) "$image" "$@"
