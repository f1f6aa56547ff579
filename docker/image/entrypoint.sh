#!/bin/sh
# entrypoint.sh SERVICE [OPTION…]: what an image runs. Without a --bind the service listens on PORT
# (and the dashboard's port, if there is one) of all of the container's addresses.
set -eu

case " $* " in
*" --bind"* | *" -b"*) ;;
*)
    for port in "$PORT" ${TRAINER_DASHBOARD_PORT:-}; do
        set -- "$@" "--bind=0.0.0.0:$port"
    done
    ;;
esac
# In place of this shell: serve is the container's first process, takes its signals and its orphans.
exec serve "$@"
