"""The logs of `[ct]` in the settings, as the core asks them."""

from __future__ import annotations

from collections.abc import Mapping

from cryptography import x509
from twisted.internet.interfaces import IReactorTime

from opencertd.client.ct import LogClient
from opencertd.clock import Clock
from opencertd.errors import StartError
from opencertd.issuance.profiles import Profile
from opencertd.issuance.timestamps import TransparencyLog
from opencertd.issuance.transparency import PrecertificateStore, Transparency
from opencertd.issuance.transparency_table import LogTable, TransparencyTable, parse_log_key


def build_transparency(
    table: TransparencyTable, store: PrecertificateStore, clock: Clock, reactor: IReactorTime
) -> Transparency | None:
    """None when there are no logs. Raises StartError for trust anchors that cannot be read."""
    if not table.logs:
        return None
    logs = tuple(
        TransparencyLog(log.url, parse_log_key(log.key), LogClient(log.url, reactor, table.seconds, anchors(log)).ask)
        for log in table.logs
    )
    return Transparency(
        logs=logs, required=table.required, seconds=table.seconds, store=store, clock=clock, reactor=reactor
    )


def anchors(log: LogTable) -> tuple[x509.Certificate, ...] | None:
    """What the log's TLS must lead to. Raises StartError."""
    if log.trust_anchors is None:
        return None
    try:
        return tuple(x509.load_pem_x509_certificates(log.trust_anchors.read_bytes()))
    except OSError as error:
        raise StartError(f"cannot read {log.trust_anchors}, trust anchors of a log: {error.strerror}") from None
    except ValueError:
        raise StartError(f"{log.trust_anchors}, trust anchors of a log, holds no certificates in PEM") from None


def check_profiles(profiles: Mapping[str, Profile], table: TransparencyTable) -> None:
    """Raise StartError for a profile that wants timestamps of more logs than there are."""
    for name, profile in profiles.items():
        asked = profile.certificate_transparency
        needed = table.required if asked is True else int(asked)
        if asked and needed > len(table.logs):
            raise StartError(
                f"the profile {name!r} cannot be kept: 'profiles.{name}.certificate_transparency' wants timestamps of "
                f"{needed} logs, and 'ct.logs' names {len(table.logs)}"
            )
