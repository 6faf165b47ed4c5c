# vsproxy in a container.
#
#   docker build -t vsproxy .
#   docker run -p 80:80 -p 443:443 -v ./lb.toml:/etc/vsproxy/lb.toml:ro vsproxy
#
# The test tests/unit/test_dockerfile.py checks every path, command and port named here.

FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE ./
COPY vsproxy/ vsproxy/
# Wheels of vsproxy, compiled (a failed compile fails the build), and of all that it needs.
RUN pip wheel --wheel-dir /wheels .

FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels vsproxy \
    && vsproxy --version
RUN useradd --system --no-create-home --shell /usr/sbin/nologin vsproxy
COPY deploy/docker/lb.toml /etc/vsproxy/lb.toml
# Ports below 1024 without root: Docker sets net.ipv4.ip_unprivileged_port_start=0 in the container (since
# 20.10), so no capability is needed. Elsewhere set that sysctl, or bind higher ports in lb.toml.
USER vsproxy
EXPOSE 80 443
# The admin port stays inside the container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9900/healthz', timeout=2)"]
# vsproxy then stops accepting and finishes what is in flight, within shutdown_timeout.
STOPSIGNAL SIGTERM
ENTRYPOINT ["vsproxy", "--config", "/etc/vsproxy/lb.toml"]
