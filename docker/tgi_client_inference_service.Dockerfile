# Passes texts to a TGI server. No torch.
ARG BASE=infernet-ml-base
FROM ${BASE}
USER 0:0

ARG PIP_NO_INDEX=
RUN --mount=type=bind,source=docker/wheels,target=/wheels /opt/infernet/build/install.sh tgi
RUN --mount=type=bind,target=/source --mount=type=bind,source=docker/wheels,target=/wheels \
    /opt/infernet/build/install-project.sh /source

USER 10001:10001
ENTRYPOINT ["/opt/infernet/build/entrypoint.sh", "tgi_client_inference_service"]
