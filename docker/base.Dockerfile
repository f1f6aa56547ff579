# What every image of a service stands on: Python, an account without rights, the documents' folders
# and the packages that all services need. ./image-build.sh builds it first.
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ENV PATH=/opt/infernet/bin:$PATH \
    HOME=/home/infernet \
    HF_HOME=/mnt/working/huggingface \
    MODELS_PATH=/mnt/working/models \
    PIP_CONSTRAINT=/opt/infernet/build/constraints.txt \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PORT=3000 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1

# Not useradd: it writes today's date into the image.
RUN echo "infernet:x:10001:10001::/home/infernet:/usr/sbin/nologin" >> /etc/passwd && \
    echo "infernet:x:10001:" >> /etc/group && \
    mkdir -p /home/infernet /mnt/input /mnt/output /mnt/working && \
    chown 10001:10001 /home/infernet /mnt/input /mnt/output /mnt/working && \
    python3 -m venv /opt/infernet && \
    find /opt/infernet -name __pycache__ -prune -exec rm -r {} +

COPY pyproject.toml constraints.txt docker/image/ /opt/infernet/build/

ARG EXTRAS=
ARG PIP_NO_INDEX=
RUN --mount=type=bind,source=docker/wheels,target=/wheels /opt/infernet/build/install.sh && \
    if [ -n "$EXTRAS" ]; then /opt/infernet/build/install.sh $EXTRAS; fi

WORKDIR /home/infernet
USER 10001:10001
EXPOSE 3000
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s \
    CMD ["python", "/opt/infernet/build/healthcheck.py"]
