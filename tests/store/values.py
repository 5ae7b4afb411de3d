"""Values for the store's tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from opencertd.acme.states import (
    Account,
    AccountStatus,
    Authorization,
    AuthorizationStatus,
    Challenge,
    ChallengeStatus,
    Order,
    OrderStatus,
)
from opencertd.errors import Refusal, RefusalKind
from opencertd.model.certificates import (
    CertificateIntent,
    CertificateRecord,
    IssuerRecord,
    IssuerRole,
    Revocation,
    RevocationReason,
)
from opencertd.model.names import AltName, AltNameKind
from opencertd.model.requester import ANY_NAME, Proof, Requester
from opencertd.store.certificates import SqlCertificateStore

NOW = datetime(2026, 6, 1, 12, 0, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
LONG_AGO = NOW - timedelta(days=365)
COMPROMISED = Revocation(NOW, RevocationReason.KEY_COMPROMISE)

ANN = Requester(Proof.PASSWORD, "ann", "Ann", ANY_NAME)

ROOT = IssuerRecord("aa" * 16, "rsa-root", IssuerRole.ROOT, b"root", "rsa-root.pem", None)
ISSUER = IssuerRecord("bb" * 16, "rsa", IssuerRole.ISSUING, b"issuing", "rsa.pem", ROOT.id, (b"root", b"\x00\xff"))
OTHER = IssuerRecord("cc" * 16, "ecdsa", IssuerRole.ISSUING, b"other", "ecdsa.pem", None)


def dns(name: str) -> AltName:
    return AltName(AltNameKind.DNS, name)


def intent(serial: int = 1, **changes: Any) -> CertificateIntent:
    values: dict[str, Any] = {
        "issuer_id": ISSUER.id,
        "serial": serial,
        "profile": "default",
        "requester": "password:ann",
        "requester_label": "Ann",
        "subject": "CN=a.example",
        "names": (dns("a.example"), AltName(AltNameKind.IP, "2001:db8::1")),
        "spki_sha256": "ab" * 32,
        "not_before": NOW - timedelta(minutes=1),
        "not_after": NOW + timedelta(days=90),
        "tbs_der": b"tbs",
        "owner": "node/0",
        "intended_at": NOW,
    }
    return CertificateIntent(**{**values, **changes})


async def issue(store: SqlCertificateStore, serial: int, **changes: Any) -> CertificateRecord:
    record = await store.reserve(intent(serial, **changes), None, LONG_AGO)
    return await store.complete(record.id, b"certificate %d" % serial, NOW)


def account(account_id: str = "ann", thumbprint: str = "thumb-ann", **changes: Any) -> Account:
    values: dict[str, Any] = {
        "id": account_id,
        "status": AccountStatus.VALID,
        "jwk": {"kty": "EC", "x": "é"},
        "thumbprint": thumbprint,
        "contact": ("mailto:ann@example.com",),
        "terms_agreed": True,
        "created_at": NOW,
    }
    return Account(**{**values, **changes})


def order(
    order_id: str = "o1", account_id: str = "ann", names: tuple[str, ...] = ("a.example", "*.b.example")
) -> Order:
    authorizations = tuple(
        _authorization(f"{order_id}-a{number}", account_id, name) for number, name in enumerate(names)
    )
    return Order(
        id=order_id,
        account_id=account_id,
        profile="default",
        names=tuple(dns(name) for name in names),
        status=OrderStatus.PENDING,
        expires=NOW + timedelta(days=7),
        created_at=NOW,
        authorizations=authorizations,
    )


def _authorization(authorization_id: str, account_id: str, name: str) -> Authorization:
    return Authorization(
        id=authorization_id,
        account_id=account_id,
        name=dns(name.removeprefix("*.")),
        wildcard=name.startswith("*."),
        status=AuthorizationStatus.PENDING,
        expires=NOW + timedelta(days=1),
        challenges=tuple(
            Challenge(f"{authorization_id}-{kind}", authorization_id, kind, f"token-{kind}", ChallengeStatus.PENDING)
            for kind in ("http-01", "dns-01")
        ),
    )


async def refused(deed: Any) -> Refusal:
    """The refusal that awaiting `deed` ends in."""
    try:
        await deed
    except Refusal as refusal:
        return refusal
    raise AssertionError("nothing was refused")


async def refusal_kind(deed: Any) -> RefusalKind:
    return (await refused(deed)).kind
