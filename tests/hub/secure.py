"""The Hub on loopback behind TLS, with certificates of an authority that nobody else knows."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

import trustme

from tests.hub.loopback import LoopbackHub

if TYPE_CHECKING:
    from pathlib import Path


class SecureHub(LoopbackHub):
    """Both servers over TLS; ``authority`` is the file that a client has to be told to trust."""

    def __init__(self, folder: Path) -> None:
        """Make the authority and its certificates."""
        super().__init__()
        issuer = trustme.CA()
        self.authority = folder / "authority.pem"
        issuer.cert_pem.write_to_path(str(self.authority))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issuer.issue_cert("127.0.0.1", "hub.invalid", "cdn.invalid").configure_cert(context)
        for server in self._servers:
            # The handshake is left to the thread of the connection, or one client stops all.
            server.socket = context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
            server.url = server.url.replace("http:", "https:")
        self.endpoint, self.cdn_endpoint = (server.url for server in self._servers)
        self.answers.endpoint, self.answers.cdn_endpoint = self.endpoint, self.cdn_endpoint
