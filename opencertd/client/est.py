"""An EST client (RFC 7030): the CA's certificates and wishes, enrolment and re-enrolment, with patience for a 202."""

from __future__ import annotations

import base64
import enum
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from urllib.parse import quote, unquote, urlsplit

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from opencertd.asn1.cms import decode_certs_only
from opencertd.asn1.csr_attributes import decode_csr_attributes
from opencertd.asn1.transfer import decode_transfer
from opencertd.client.errors import ClientError, StillPending
from opencertd.client.generated import Generated, read_generated
from opencertd.client.http import Answer, HttpsClient, LinkedBody
from opencertd.client.redirects import readable
from opencertd.clock import Clock
from opencertd.errors import Refusal

WELL_KNOWN = "/.well-known/est"
_ENROLMENT_HEADERS = {"Content-Type": "application/pkcs10", "Content-Transfer-Encoding": "base64"}
_DEFAULT_PAUSE = 30
_LONGEST_CHAIN = 10


def parse_est_url(text: str) -> str:
    """The URL under which a server's EST operations lie, from what a person types.

    `ca.example`, `https://ca.example:5001` and `https://ca.example/.well-known/est/LABEL` are understood.
    Raises ClientError.
    """
    url = text.strip() if "://" in text else f"https://{text.strip()}"
    try:
        parts = urlsplit(url)
        port, host = parts.port, (parts.hostname or "").encode("idna").decode()
    except ValueError:
        raise ClientError(f"{text!r} is not a URL") from None
    if parts.scheme != "https":
        raise ClientError(f"{text!r} must begin with https://, since EST is only spoken over TLS")
    if not host or parts.username is not None or parts.query or parts.fragment:
        raise ClientError(f"{text!r} must be https://HOST, https://HOST:PORT or that and {WELL_KNOWN}/LABEL")
    path = parts.path.rstrip("/") or WELL_KNOWN
    label = re.fullmatch(re.escape(WELL_KNOWN) + r"(?:/([^/]+))?", path)
    if label is None:
        raise ClientError(f"the path of {text!r} must be empty, {WELL_KNOWN} or {WELL_KNOWN}/LABEL")
    netloc = (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
    return f"https://{netloc}{WELL_KNOWN}" + (f"/{quote(unquote(label[1]))}" if label[1] else "")


@dataclass(frozen=True)
class Enrolled:
    """The certificate for the key that asked, and what else the server sent with it."""

    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...]


@dataclass(frozen=True)
class Patience:
    """How long to ask again after a 202: `seconds` in all; `before_pause` is told each pause in seconds."""

    seconds: float = 0.0
    before_pause: Callable[[int], None] = lambda _: None


CsrMaker = Callable[[str | None], x509.CertificateSigningRequest]
"""Makes the request with this challengePassword, or without one."""

Wish = x509.CertificateSigningRequest | CsrMaker
"""A request as it stands, which cannot be linked to a connection any more, or what makes one."""


class Linking(enum.Enum):
    """Whether requests are linked to the TLS connection they go by (RFC 7030 §3.5). WANTED: as csrattrs asks."""

    WANTED = "wanted"
    ALWAYS = "always"
    NEVER = "never"


class EstClient:
    """Speaks to one EST server under `base_url` (see `parse_est_url`). Every method raises ClientError.

    `linking` needs an `http` on a `Line`, unless it is NEVER or all wishes are ready requests.
    """

    def __init__(
        self,
        http: HttpsClient,
        base_url: str,
        *,
        reactor: IReactorTime,
        clock: Clock,
        patience: Patience = Patience(),
        linking: Linking = Linking.WANTED,
    ) -> None:
        self._linking = linking
        self._http = http
        self._base_url = base_url
        self._reactor = reactor
        self._clock = clock
        self._patience = patience

    async def cacerts(self) -> tuple[x509.Certificate, ...]:
        """The CA's certificates (RFC 7030 §4.1), in the order of the answer."""
        return self._certificates(await self._http.get(f"{self._base_url}/cacerts"))

    async def csrattrs(self) -> bytes | None:
        """What the CA wants in a request (§4.5), as CsrAttrs in DER; None when it wants nothing in particular."""
        answer = await self._http.get(f"{self._base_url}/csrattrs")
        if answer.status == 204 or (answer.status == 200 and not answer.body.strip()):
            return None
        if answer.status != 200:
            raise self._refused(answer)
        try:
            data = decode_transfer(answer.body)
            decode_csr_attributes(data)
        except (ValueError, Refusal):
            raise ClientError("the server's answer holds no request attributes that can be read") from None
        return data

    async def simpleenroll(self, wish: Wish) -> Enrolled:
        """A certificate for what `wish` asks (§4.2.1). Raises StillPending when the patience has run out."""
        return await self._enrol("simpleenroll", wish)

    async def simplereenroll(self, wish: Wish) -> Enrolled:
        """A new certificate for the one that TLS shows (§4.2.2): `wish` has its Subject and SubjectAltName."""
        return await self._enrol("simplereenroll", wish)

    async def serverkeygen(self, wish: Wish) -> Generated:
        """A key made by the server, of the kind of `wish`'s at best, and its certificate for what that asks (§4.4)."""
        answer = await self._decided("serverkeygen", await self._body(wish))
        if answer.status != 200:
            raise self._refused(answer)
        return read_generated(answer.header("Content-Type") or "", answer.body)

    async def _enrol(self, operation: str, wish: Wish) -> Enrolled:
        spki = _spki(wish(None) if callable(wish) else wish)
        return _chosen(self._certificates(await self._decided(operation, await self._body(wish))), spki)

    async def _body(self, wish: Wish) -> bytes | LinkedBody:
        if callable(wish):
            maker = wish
            return (lambda text: _encoded(maker(text))) if await self._links() else _encoded(maker(None))
        if self._linking is Linking.ALWAYS:
            raise ClientError("a request that is made already cannot be linked to a connection: let it be made now")
        return _encoded(wish)

    async def _links(self) -> bool:
        """Whether to link requests; a server that does not say what it wants does not want that."""
        if self._linking is not Linking.WANTED:
            return self._linking is Linking.ALWAYS
        answer = await self._http.get(f"{self._base_url}/csrattrs")
        if answer.status == 401 and self._http.credentials is not None:
            raise self._refused(answer)
        if answer.status != 200:
            return False
        try:
            return decode_csr_attributes(decode_transfer(answer.body)).challenge_password
        except (ValueError, Refusal):
            return False

    async def _decided(self, operation: str, body: bytes | LinkedBody) -> Answer:
        """The answer, once it is no 202 any more."""
        url = f"{self._base_url}/{operation}"
        until = self._reactor.seconds() + self._patience.seconds
        answer = await self._http.post(url, _ENROLMENT_HEADERS, body)
        while answer.status == 202:
            pause = self._retry_after(answer)
            if self._reactor.seconds() + pause > until:
                raise StillPending(f"the CA has not decided yet: ask again in {pause} seconds", pause)
            self._patience.before_pause(pause)
            await deferLater(self._reactor, pause)
            answer = await self._http.post(url, _ENROLMENT_HEADERS, body)
        return answer

    def _certificates(self, answer: Answer) -> tuple[x509.Certificate, ...]:
        if answer.status != 200:
            raise self._refused(answer)
        try:
            found = decode_certs_only(decode_transfer(answer.body))
            return tuple(x509.load_der_x509_certificate(one) for one in found)
        except (ValueError, Refusal):
            kind = readable(answer.header("Content-Type") or "of no type", 80)
            raise ClientError(f"the server's answer ({kind}) holds no certificates that can be read") from None

    def _refused(self, answer: Answer) -> ClientError:
        words = _words(answer)
        if answer.status == 401 and self._http.credentials is not None:
            return ClientError(f"the server does not accept this user and password{words}")
        if answer.status == 401:
            return ClientError(f"the server wants a password or another client certificate{words}")
        if answer.status == 404 and not words:
            return ClientError("the server has no EST at this URL (HTTP 404)")
        if answer.status in {429, 503}:
            return ClientError(f"the server is busy, try again in {self._retry_after(answer)} seconds{words}")
        return ClientError(f"the server refused (HTTP {answer.status}){words}")

    def _retry_after(self, answer: Answer) -> int:
        """Seconds of a Retry-After (RFC 9110 §10.2.3), at least one; the default for what cannot be read."""
        value = (answer.header("Retry-After") or "").strip()
        if re.fullmatch(r"[0-9]{1,9}", value):
            return max(1, int(value))
        try:
            moment = parsedate_to_datetime(value)
        except (ValueError, OverflowError):
            return _DEFAULT_PAUSE
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return max(1, int((moment - self._clock.now()).total_seconds()))


def _words(answer: Answer) -> str:
    """`: ` and the server's own sentence, when it sent text for people; otherwise nothing."""
    if not (answer.header("Content-Type") or "").lower().startswith("text/plain"):
        return ""
    sentence = readable(answer.body.decode("utf-8", "replace")).rstrip(".")
    return f": {sentence}" if sentence else ""


def _encoded(csr: x509.CertificateSigningRequest) -> bytes:
    return base64.encodebytes(csr.public_bytes(Encoding.DER))


def _chosen(certificates: Sequence[x509.Certificate], wanted: bytes | None) -> Enrolled:
    for certificate in certificates:
        if _spki(certificate) == wanted:
            return Enrolled(certificate, tuple(other for other in certificates if other != certificate))
    raise ClientError("the server sent a certificate for another key than the one that asked")


def _spki(holder: x509.Certificate | x509.CertificateSigningRequest) -> bytes | None:
    try:
        return holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return None


def issuing_chain(
    certificate: x509.Certificate, candidates: Sequence[x509.Certificate]
) -> tuple[x509.Certificate, ...]:
    """The CA certificates above `certificate`, nearest first, without the self-signed root (RFC 8446 §4.4.2)."""
    chain: list[x509.Certificate] = []
    while len(chain) < _LONGEST_CHAIN:
        below = chain[-1] if chain else certificate
        above = next((one for one in candidates if one != below and _issued(one, below)), None)
        if above is None or above.subject == above.issuer:
            break
        chain.append(above)
    return tuple(chain)


def _issued(issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
