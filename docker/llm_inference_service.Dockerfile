# Text in, text out, by a language model on this machine. On a CPU without torch, unless
# ENGINES=transformers; VARIANT=cuda for GPUs, with vLLM.
ARG BASE=infernet-ml-base
FROM ${BASE}
USER 0:0

ARG VARIANT=cpu
# vLLM compiles a part of its kernels with C where they run.
RUN if [ "$VARIANT" = cuda ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
        rm -rf /var/lib/apt/lists/* /var/log/*; \
    fi

ARG ENGINES=
ARG PIP_NO_INDEX=
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=bind,source=docker/wheels,target=/wheels \
    if [ "$VARIANT" = cuda ]; then ENGINES=vllm; fi; \
    /opt/infernet/build/install.sh llm $ENGINES
RUN --mount=type=bind,target=/source --mount=type=bind,source=docker/wheels,target=/wheels \
    /opt/infernet/build/install-project.sh /source

USER 10001:10001
ENTRYPOINT ["/opt/infernet/build/entrypoint.sh", "llm_inference_service"]
