"""The way to a relay: TCP, TLS 1.3, and a certificate that is either the web's or pinned."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

TIMEOUT = 90.0
"""Seconds without a byte after which a connection is given up. A long poll may be silent for 60."""


class Untrusted(Exception):
    """Whoever answered is not the relay that is meant. Nothing was sent, and trying again does not help."""


@dataclass(frozen=True)
class Place:
    """Where a relay is reached, and how it is recognised there.

    With a `pin` that key is accepted and no other. Without, the certificate has to be for the URL's host, from an
    authority of the web, or of the file `authorities` (PEM) instead. `address` is for a host that is not in DNS.
    """

    url: str
    pin: str | None = None
    authorities: str | None = None
    address: tuple[str, int] | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    def connect(self) -> ssl.SSLSocket:
        """A connection to the relay and to nobody else. ALPN stays out: `postrider/1` would say that we are a relay."""
        context = ssl.create_default_context(cafile=self.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if self.pin is not None:
            # The key is compared below, before a byte is written; names and dates do not matter then.
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        plain = socket.create_connection(self.address or (self.host, urlsplit(self.url).port or 443), TIMEOUT)
        try:
            # Small requests leave at once.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            secure = context.wrap_socket(plain, server_hostname=self.host)
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise Untrusted(f"{self.url}: {error.verify_message}") from error
        except OSError:
            plain.close()
            raise
        if self.pin is not None and not hmac.compare_digest(_pin_of(secure), self.pin):
            secure.close()
            raise Untrusted(f"{self.url} shows a key other than the pinned one")
        return secure


def _pin_of(connection: ssl.SSLSocket) -> str:
    """The SHA-256 of the certificate's SubjectPublicKeyInfo."""
    certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True) or b"")
    key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(key).hexdigest()


class Connection(http.client.HTTPConnection):
    """HTTP/1.1 over `Place.connect`. It connects by itself when there is no connection."""

    def __init__(self, place: Place) -> None:
        super().__init__(place.host)
        self._place = place

    def connect(self) -> None:
        self.sock = self._place.connect()
