# Text in, text out, by a language model on this machine. On a CPU without torch, unless
# ENGINES=transformers; VARIANT=cuda for GPUs, with vLLM.
ARG BASE=infernet-ml-base
FROM ${BASE}
USER 0:0

ARG VARIANT=cpu
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
