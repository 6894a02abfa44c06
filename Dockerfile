# Multi-stage: the first stage has pip and makes an environment at its final place, the second takes only that.
#   docker build --build-arg REVISION="$(git rev-parse HEAD)" -t webhook-sidecar .
# BASE_IMAGE is any image with Python 3.11 or newer as python3; pin the digest of the one that you have tested. Where it has no
# venv module, BUILD_IMAGE names one with the same Python that does.
ARG BASE_IMAGE=docker.io/library/python:3.13-slim
ARG BUILD_IMAGE=${BASE_IMAGE}

FROM ${BUILD_IMAGE} AS build
# EXTRAS=crypto for providers that sign with a private key.
ARG EXTRAS=
# For those who build behind a mirror, or from a folder of wheels.
ARG PIP_INDEX_URL PIP_FIND_LINKS PIP_NO_INDEX
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python3 -m venv /opt/webhook-sidecar
WORKDIR /src
# Dependencies first: this layer stays while only our own code changes. Nothing but what the lock file has, to the byte.
COPY requirements/lock.txt requirements/lock-crypto.txt ./
RUN /opt/webhook-sidecar/bin/pip install --quiet --only-binary :all: --require-hashes --requirement "lock${EXTRAS:+-$EXTRAS}.txt"
COPY pyproject.toml ./
COPY README.md LICENSE ./
COPY sidecar sidecar
# Compiled by pip: on a read-only root nothing could be compiled later. pip itself does not go into the image.
RUN /opt/webhook-sidecar/bin/pip install --quiet --no-deps . \
 && /opt/webhook-sidecar/bin/pip uninstall --quiet --yes pip setuptools \
 && rm -f /opt/webhook-sidecar/bin/activate* /opt/webhook-sidecar/bin/Activate.ps1

FROM ${BASE_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=
ARG CREATED=
LABEL org.opencontainers.image.title="webhook-sidecar" \
      org.opencontainers.image.description="A webhook gateway that runs next to your service: verified, on disk, acknowledged, delivered." \
      org.opencontainers.image.source="https://example.org/webhook-sidecar" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
ENV PATH=/opt/webhook-sidecar/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONFAULTHANDLER=1 \
    WEBHOOK_SIDECAR_REVISION=${REVISION}
COPY --from=build /opt/webhook-sidecar /opt/webhook-sidecar
COPY deploy/sbom.cdx.json /opt/webhook-sidecar/sbom.cdx.json
# For those who mount nothing there; a volume takes over these rights.
RUN mkdir -p /etc/webhook-sidecar /var/lib/webhook-sidecar && chown 65532:65532 /var/lib/webhook-sidecar
# A number: runAsNonRoot cannot verify a name.
USER 65532:65532
WORKDIR /var/lib/webhook-sidecar
EXPOSE 8787 9787
STOPSIGNAL SIGTERM
# For Docker and Compose; Kubernetes has its own probes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=6 CMD ["webhook-sidecar", "healthcheck", "--config", "/etc/webhook-sidecar/config.toml"]
# It handles its signals and has no children, so it can be process 1 without a helper.
ENTRYPOINT ["webhook-sidecar"]
CMD ["run", "--config", "/etc/webhook-sidecar/config.toml"]
