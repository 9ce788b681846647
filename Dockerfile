# The server as an image: ./scripts/build. It runs as a user of its own, and writes to
# /var/lib/heliograph and /tmp alone.
ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
# Where there is no index: --build-arg PIP_NO_INDEX=1 --build-arg PIP_FIND_LINKS=/wheels
# --volume FOLDER:/wheels
ARG PIP_NO_INDEX
ARG PIP_FIND_LINKS
ARG COMMIT_SHA
ARG BRANCH_NAME
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /sources
RUN python3 -m venv --without-pip /opt/heliograph && python3 -m venv /pip
COPY requirements.txt ./
RUN /pip/bin/pip --python /opt/heliograph/bin/python install --no-compile --require-hashes \
    --no-deps --requirement requirements.txt
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src src
RUN /pip/bin/pip --python /opt/heliograph/bin/python install --no-compile --no-deps . \
    # Tests, sources of C and headers of the packages, which nothing here reads.
    && find /opt/heliograph/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/heliograph/lib -name '*.pyx' -delete -o -name '*.pxd' -delete -o -name '*.c' -delete \
        -o -name '*.h' -delete -o -name '*.pyi' -delete \
    # Compiled once: who runs it may not write there.
    && /opt/heliograph/bin/python -c 'import alembic.command, heliograph.app, heliograph.cli.serve'

FROM ${BASE}
COPY --from=build /opt/heliograph /opt/heliograph
RUN groupadd --system --gid 10001 heliograph \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/heliograph heliograph \
    && install -d -m 0750 -o heliograph -g heliograph /var/lib/heliograph
ENV PATH=/opt/heliograph/bin:$PATH APP_ENV=production DATA_DIRECTORY=/var/lib/heliograph \
    LOG_FORMAT=json PYTHONDONTWRITEBYTECODE=1
USER heliograph
WORKDIR /var/lib/heliograph
VOLUME /var/lib/heliograph
EXPOSE 8000 1883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/health', timeout=4)"]
ENTRYPOINT ["heliograph"]
CMD ["serve"]
