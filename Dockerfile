# One process: `gateway serve`. Mount gateway.toml at /etc/gateway/gateway.toml and give DATABASE_URL; see deploy/.
# deploy/container_steps.sh reads this file and does the same without a container engine.

FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE* ./
COPY locks/build.txt locks/runtime.txt locks/
COPY deploy/install.sh deploy/python.sh deploy/
COPY gateway gateway
COPY resolvers resolvers
COPY permissions permissions
COPY sources sources
# Addresses and credentials of a private index come in as a secret and stay in no layer.
RUN --mount=type=secret,id=pip,target=/etc/pip.conf deploy/install.sh /opt/gateway

FROM python:3.13-slim
# The base image's own pip is of no use here either.
RUN python -m pip uninstall --yes pip && groupadd --gid 10001 gateway \
    && useradd --uid 10001 --gid 10001 --no-create-home --shell /usr/sbin/nologin gateway
COPY --from=build /opt/gateway /opt/gateway
ENV PATH=/opt/gateway/bin:$PATH
ENV GATEWAY_CONFIG=/etc/gateway/gateway.toml
# Nothing is written but to stdout, so the root file system may be read-only.
ENV PYTHONDONTWRITEBYTECODE=1
ENV PYTHONUNBUFFERED=1
WORKDIR /opt/gateway
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health/live', timeout=2)"]
CMD ["gateway", "serve", "--host", "0.0.0.0", "--port", "8000"]
