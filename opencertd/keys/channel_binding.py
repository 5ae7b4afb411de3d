"""What names a TLS connection at both its ends and nowhere else (RFC 5929 tls-unique, RFC 9266 tls-exporter).

tls-unique is the Finished message that the client sent, which is the first one of a full handshake; neither our
listeners nor our clients resume sessions. TLS 1.3 has no such message that would do, and exports a value of its own.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field

from OpenSSL import SSL

TLS_UNIQUE = "tls-unique"
TLS_EXPORTER = "tls-exporter"
_EXPORTER_LABEL = b"EXPORTER-Channel-Binding"
_EXPORTER_OCTETS = 32


@dataclass(frozen=True)
class ChannelBinding:
    """`kind`: tls-unique or tls-exporter; `value`: its octets."""

    kind: str
    value: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """As a request's challengePassword holds it: base64 in one line (RFC 7030 §3.5)."""
        return base64.b64encode(self.value).decode()


def channel_binding(connection: SSL.Connection, *, client: bool) -> ChannelBinding | None:
    """The binding of a connection, of which `client` says the end that is ours; None until the handshake is over."""
    if connection.get_protocol_version() < SSL.TLS1_3_VERSION:
        finished = connection.get_finished() if client else connection.get_peer_finished()
        return ChannelBinding(TLS_UNIQUE, finished) if finished else None
    if connection.get_peer_finished() is None:
        return None
    return ChannelBinding(TLS_EXPORTER, connection.export_keying_material(_EXPORTER_LABEL, _EXPORTER_OCTETS))
