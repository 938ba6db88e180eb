# What builds layers of packages: the same Python as workers have, and uv. The context is this folder:
#   docker build -t faas-builder:local -f apps/worker/builder.Dockerfile apps/worker
#
# It is an image of its own, since nothing that workers run installs programs. BASE_IMAGE must be the one of the worker's
# image: packages are built for its Python, which lies at the same place in both.
ARG BASE_IMAGE=python:3.13.14-slim-bookworm@sha256:9d7f287598e1a5a978c015ee176d8216435aaf335ed69ac3c38dd1bbb10e8d64

FROM ${BASE_IMAGE} AS uv
WORKDIR /build
COPY requirements-builder.lock wheel[s]/ ./wheels/
RUN set -eu; \
    python3 -m venv /venv; \
    if ls wheels/*.whl >/dev/null 2>&1; then set -- --no-index --find-links wheels; fi; \
    /venv/bin/pip install --no-cache-dir --only-binary :all: --require-hashes --target /opt/builder "$@" \
      -r wheels/requirements-builder.lock
COPY faas_builder /opt/builder/faas_builder
RUN python3 -m compileall -q /opt/builder

FROM ${BASE_IMAGE}
COPY --from=uv /opt/builder /opt/builder
# New volumes at the two folders belong to the user of builds.
RUN python3 -m venv --without-pip /opt/worker && \
    echo 'faas:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'faas:x:65532:' >> /etc/group && \
    install -d -o 65532 -g 65532 /build /cache
LABEL org.opencontainers.image.title="service-faas builder" \
      org.opencontainers.image.description="Builds the packages of Python functions" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/worker/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 \
    PYTHONPATH=/opt/builder \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /build
USER 65532:65532
CMD ["python3", "-m", "faas_builder", "/build"]
