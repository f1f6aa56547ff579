# Tensors in, tensors and proofs out.
ARG BASE=infernet-ml-base
FROM ${BASE}
USER 0:0

ARG PIP_NO_INDEX=
RUN --mount=type=bind,source=docker/wheels,target=/wheels /opt/infernet/build/install.sh ezkl
RUN --mount=type=bind,target=/source --mount=type=bind,source=docker/wheels,target=/wheels \
    /opt/infernet/build/install-project.sh /source

USER 10001:10001
ENTRYPOINT ["/opt/infernet/build/entrypoint.sh", "ezkl_proof_service"]
