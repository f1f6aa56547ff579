# Fine-tunes language models and answers with them: by Unsloth with VARIANT=cuda, else by TRL.
ARG BASE=infernet-ml-base
FROM ${BASE}
USER 0:0

ARG VARIANT=cpu
# Triton, which Unsloth's kernels are written in, compiles a part of them with C where they run.
RUN if [ "$VARIANT" = cuda ]; then \
        apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && \
        rm -rf /var/lib/apt/lists/* /var/log/*; \
    fi

ARG PIP_NO_INDEX=
ARG PIP_EXTRA_INDEX_URL=
RUN --mount=type=bind,source=docker/wheels,target=/wheels \
    if [ "$VARIANT" = cuda ]; then unsloth=unsloth; fi; \
    /opt/infernet/build/install.sh trainer ${unsloth:-}
RUN --mount=type=bind,target=/source --mount=type=bind,source=docker/wheels,target=/wheels \
    /opt/infernet/build/install-project.sh /source

USER 10001:10001
ENV PORT=8000 \
    TRAINER_DASHBOARD_PORT=5000
EXPOSE 8000 5000
ENTRYPOINT ["/opt/infernet/build/entrypoint.sh", "unsloth_trainer_service"]
