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
# Without tests, sources of C, headers and what only a debugger reads.
RUN /pip/bin/pip --python /opt/heliograph/bin/python install --no-compile --no-deps . \
    && find /opt/heliograph/lib -type d -name tests -prune -exec rm -r {} + \
    && find /opt/heliograph/lib -name '*.pyx' -delete -o -name '*.pxd' -delete -o -name '*.c' -delete \
        -o -name '*.h' -delete -o -name '*.pyi' -delete \
    && { command -v strip || { apt-get update && apt-get install -y --no-install-recommends binutils; }; } \
    # Libraries that auditwheel has moved, in *.libs, don't survive it.
    && find /opt/heliograph/lib -name '*.so' -not -path '*.libs/*' -exec strip --strip-unneeded {} +

FROM ${BASE} AS thin
COPY --from=build /opt/heliograph /opt/heliograph
RUN groupadd --system --gid 10001 heliograph \
    && useradd --system --uid 10001 --gid 10001 --home-dir /var/lib/heliograph heliograph \
    # What a server has no use for, such as all that is setuid; some bases have less of it.
    && dpkg --remove --force-depends python3-distutils python3-lib2to3 python3-pip-whl \
        python3-setuptools-whl python3-venv python3.11-venv \
    && dpkg --remove --force-depends --force-remove-essential --force-remove-protected \
        adduser apt bsdutils debconf debian-archive-keyring e2fsprogs gpgv init-system-helpers \
        libapt-pkg6.0 libblkid1 libdb5.3 libext2fs2 libfdisk1 libgcrypt20 libgnutls30 libhogweed6 \
        libmount1 libnettle8 libp11-kit0 libpam-modules libpam-modules-bin libpam-runtime libpam0g \
        libsemanage2 libsepol2 libsmartcols1 libss2 libsystemd0 libudev1 libunistring2 login logsave \
        mount ncurses-bin openssl passwd perl-base sysvinit-utils tzdata util-linux util-linux-extra \
    && rm -rf /usr/share/doc /usr/share/locale /usr/share/man /var/lib/apt /var/cache/* \
        /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/2to3* /usr/local/bin/pydoc* \
    && for part in ensurepip idlelib lib2to3 pydoc_data site-packages test tkinter turtledemo; do \
        rm -rf /usr/lib/python3*/"$part" /usr/local/lib/python3*/"$part" || exit; \
    done
# Compiled once, what of it is loaded: who runs it may not write there.
RUN /opt/heliograph/bin/python -c 'import alembic.command, heliograph.app, heliograph.cli.serve' \
    && install -d -m 0750 -o 10001 -g 10001 /var/lib/heliograph

# Of what was removed nothing is left in a layer below.
FROM scratch
COPY --from=thin / /
# Not all engines keep the owners of what they copy.
COPY --from=thin --chown=10001:10001 /var/lib/heliograph /var/lib/heliograph
# Where the authorities are that it trusts was said by the package openssl.
ENV PATH=/opt/heliograph/bin:/usr/local/bin:/usr/bin:/bin LANG=C.UTF-8 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt SSL_CERT_DIR=/etc/ssl/certs \
    APP_ENV=production DATA_DIRECTORY=/var/lib/heliograph LOG_FORMAT=json PYTHONDONTWRITEBYTECODE=1
USER heliograph
WORKDIR /var/lib/heliograph
VOLUME /var/lib/heliograph
EXPOSE 8000 1883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen('http://127.0.0.1:' + os.environ.get('PORT', '8000') + '/health', timeout=4)"]
ENTRYPOINT ["heliograph"]
CMD ["serve"]
