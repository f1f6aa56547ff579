#!/bin/sh
# constraints.sh VARIANT [EXTRA…]: inside a build, holds constraints.txt beside it to torch for CPUs (cpu) or
# for GPUs (cuda), for this image and those made of it.
set -eu
build=$(dirname "$0")

case "$1" in
cpu) # the plain torch of an index may bring CUDA along, 3 GB of it
    sed -i 's/^torch==[0-9.]*$/&+cpu/' "$build/constraints.txt"
    ;;
cuda) # a CPU build, which docker/wheels may have, is the higher version to pip
    sed -i 's/^torch==\([0-9.]*\)$/&,!=\1+cpu/' "$build/constraints.txt"
    case " $* " in
    *" vllm "*) # it pins older ones of these, and brings what else is of CUDA
        sed -i '/^\(llguidance\|numpy\)==/d' "$build/constraints.txt"
        ;;
    *)
        cat "$build/cuda-constraints.txt" >> "$build/constraints.txt"
        ;;
    esac
    ;;
esac
