"""A TLS client that writes its own records once the handshake is over, so that it may say what no library says.

The handshake is Python's; the keys come from its key log, the records from here: RFC 8446 section 7.3 for TLS 1.3,
RFC 5246 section 6.3 and RFC 5288 for TLS 1.2. The suites are those with AES-GCM.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
from pathlib import Path

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

APPLICATION_DATA, HANDSHAKE, ALERT = 23, 22, 21
_HEADER = 5
_NO_UPDATE_WANTED, _UPDATE_WANTED = b"\x18\x00\x00\x01\x00", b"\x18\x00\x00\x01\x01"


class RecordClient:
    """Connected to `port` of this machine and through the handshake, of which `hello` was the first message."""

    def __init__(self, port: int, context: ssl.SSLContext, directory: Path, version: ssl.TLSVersion) -> None:
        log = directory / f"keys-{id(self)}"
        log.unlink(missing_ok=True)
        context.keylog_filename = str(log)
        context.minimum_version = context.maximum_version = version
        context.set_ciphers("ECDHE+AES128+AESGCM")
        self._thirteen = version == ssl.TLSVersion.TLSv1_3
        self.plain = socket.create_connection(("127.0.0.1", port), 20)
        self.hello = self._server_hello = b""
        self._shake(context)
        secrets = {}
        for line in log.read_text().splitlines():
            if not line.startswith("#"):
                label, _, secret = line.split()
                secrets[label] = bytes.fromhex(secret)
        suite = self.tls.cipher()
        assert suite is not None
        assert "AES" in suite[0]
        self._hash = "sha384" if suite[0].endswith("SHA384") else "sha256"
        self._key_size = suite[2] // 8
        if self._thirteen:
            self._secret = secrets["CLIENT_TRAFFIC_SECRET_0"]
            self._take_keys()
        else:
            self._take_old_keys(secrets["CLIENT_RANDOM"])

    def _shake(self, context: ssl.SSLContext) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                data = outgoing.read()
                self.hello = self.hello or data[_HEADER:]
                self.plain.sendall(data)
                data = self.plain.recv(65536)
                self._server_hello = self._server_hello or data[_HEADER:]
                incoming.write(data)
        self.plain.sendall(outgoing.read())

    def _take_keys(self) -> None:
        self._key = self._expand(b"key", self._key_size)
        self._iv = self._expand(b"iv", 12)
        self._number = 0

    def _expand(self, label: bytes, length: int) -> bytes:
        """HKDF-Expand-Label of the secret, with an empty context; no more than one block is ever needed."""
        name = b"tls13 " + label
        info = length.to_bytes(2, "big") + bytes([len(name)]) + name + b"\0\x01"
        return hmac.digest(self._secret, info, self._hash)[:length]

    def _take_old_keys(self, master: bytes) -> None:
        # Both randoms stand behind type, length and version of a message.
        seed = b"key expansion" + self._server_hello[6:38] + self.hello[6:38]
        block, step = b"", seed
        while len(block) < 2 * self._key_size + 8:
            step = hmac.digest(master, step, self._hash)
            block += hmac.digest(master, step + seed, self._hash)
        self._key = block[: self._key_size]
        self._iv = block[2 * self._key_size : 2 * self._key_size + 4]
        # The Finished was number 0.
        self._number = 1

    def record(self, kind: int, content: bytes, padding: int = 0) -> bytes:
        """One record with `content`, 16 KiB at most. Only TLS 1.3 has padding: so many zeros."""
        sequence = self._number.to_bytes(8, "big")
        self._number += 1
        if self._thirteen:
            inner = content + bytes([kind]) + bytes(padding)
            header = bytes([APPLICATION_DATA]) + b"\x03\x03" + (len(inner) + 16).to_bytes(2, "big")
            nonce = bytes(a ^ b for a, b in zip(self._iv, bytes(4) + sequence, strict=True))
            return header + AESGCM(self._key).encrypt(nonce, inner, header)
        about = sequence + bytes([kind]) + b"\x03\x03" + len(content).to_bytes(2, "big")
        sealed = sequence + AESGCM(self._key).encrypt(self._iv + sequence, content, about)
        return bytes([kind]) + b"\x03\x03" + len(sealed).to_bytes(2, "big") + sealed

    def data(self, content: bytes, padding: int = 0) -> bytes:
        """A record of application data."""
        return self.record(APPLICATION_DATA, content, padding)

    def key_update(self, answered: bool) -> bytes:
        """A record that changes our keys, and asks for a change of the server's if it is to be `answered`."""
        data = self.record(HANDSHAKE, _UPDATE_WANTED if answered else _NO_UPDATE_WANTED)
        self._secret = self._expand(b"traffic upd", hashlib.new(self._hash).digest_size)
        self._take_keys()
        return data

    def renegotiation(self) -> bytes:
        """A record that wants to begin again, which only TLS 1.2 knows."""
        return self.record(HANDSHAKE, self.hello)

    def until_cut(self, seconds: float = 30.0) -> bool:
        """Whether the server ends the connection within `seconds`; what it sends is dropped."""
        self.plain.settimeout(seconds)
        try:
            while self.plain.recv(65536):
                pass
        except TimeoutError:
            return False
        except ConnectionError:
            pass
        return True

    def close(self) -> None:
        """Leave."""
        self.plain.close()
