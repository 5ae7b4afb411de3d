"""The ceremony: an offline root is made, signs one issuing CA, and goes; a transcript tells what was done.

The root's key is never in the state directory: it is made in memory, written encrypted to where it is to be kept, and
read back before anything is signed by it.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import make_url

from opencertd import __version__
from opencertd.asn1 import dn, pem
from opencertd.clock import Clock
from opencertd.desk.deeds import Desk
from opencertd.desk.key_custody import leave_status
from opencertd.errors import StartError
from opencertd.first_start import at_once, run_now
from opencertd.issuance.ceremony import issuer_record
from opencertd.issuance.hierarchy import CaWish
from opencertd.issuance.issuers import Issuer, Issuers
from opencertd.issuance.key_types import KeyType
from opencertd.keys.files import encode_private_key, read_private_key, write_secret
from opencertd.keys.kinds import PrivateKey, label_of, scheme_of
from opencertd.keys.signer import Signer, SoftwareSigner
from opencertd.model.certificates import HierarchyChange, IssuerRecord, IssuerRole


@dataclass(frozen=True)
class CeremonyPlan:
    """What is to be made. `root_key`: the file for the root's key, encrypted with `passphrase`.

    `status_for`: how long the root's first CRL and its OCSP responder last.
    """

    name: str
    root: CaWish
    issuing: CaWish
    key_type: KeyType
    root_key: Path
    passphrase: bytes
    status_for: timedelta
    transcript: Path

    @property
    def root_name(self) -> str:
        """The root's name as an issuer."""
        return f"{self.name}-root"


class Transcript:
    """What was done when, line by line."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """A step, with the time."""
        self._lines.append(f"{self._clock.now():%Y-%m-%d %H:%M:%SZ}  {text}")

    def add(self, text: str) -> None:
        """Something that belongs to the step before."""
        self._lines.extend(f"                      {line}" for line in text.splitlines())

    def encode(self) -> bytes:
        """The whole text."""
        return ("\n".join(self._lines) + "\n").encode()


def hold_ceremony(desk: Desk, plan: CeremonyPlan) -> tuple[IssuerRecord, IssuerRecord]:
    """Make root and issuing CA; answers their records. The transcript and the root's signature of it are files.

    Raises StartError; what was done by then is in the transcript all the same.
    """
    for path in (plan.root_key, plan.transcript, signature_file(plan.transcript)):
        if path.exists():
            raise StartError(f"{path} exists already: a ceremony replaces nothing")
        if not os.access(path.absolute().parent, os.W_OK | os.X_OK):
            raise StartError(f"{path} cannot be written: its directory must exist and be writable")
    transcript = Transcript(desk.clock)
    key: PrivateKey | None = None
    try:
        _begin(transcript, desk, plan)
        key = plan.key_type.root.make()
        transcript.say(f"made the root's key in memory: {label_of(key.public_key())}")
        _keep_root_key(transcript, plan, key)
        signer = SoftwareSigner(key, at_once, scheme_of(key.public_key(), plan.key_type.scheme))
        root = _make_root(transcript, desk, plan, signer)
        issuing = _make_issuing(transcript, desk, plan, root, signer)
        transcript.say("the root's key is nowhere now but in its file; the state directory never had it")
        _end(transcript, plan, signer)
    except BaseException as error:
        transcript.say(f"BROKEN OFF: {error or type(error).__name__}")
        raise
    finally:
        write_secret(plan.transcript, transcript.encode(), shared=False)
        if key is not None:
            _sign_transcript(plan, key, transcript)
    return root, issuing


def signature_file(transcript: Path) -> Path:
    """Where the root's signature of a transcript is."""
    return transcript.with_name(f"{transcript.name}.sig")


def _begin(transcript: Transcript, desk: Desk, plan: CeremonyPlan) -> None:
    settings = desk.settings
    transcript.say(f"ceremony of the CA {dn.format_dn(plan.root.subject)}")
    transcript.add(f"held by {desk.by.label} (login {getpass.getuser()}) on the host {socket.gethostname()}")
    transcript.add(f"opencertd {__version__}, process {os.getpid()}, node {desk.state.node()}")
    transcript.add(f"state directory {desk.state.path.resolve()}")
    transcript.add(f"database {make_url(settings.database_url()).render_as_string(hide_password=True)}")
    issuers = desk.issuers()
    if issuers.by_name(plan.root_name) or issuers.by_name(plan.name):
        raise StartError(f"there is an issuer {plan.name!r} or {plan.root_name!r} already")


def _keep_root_key(transcript: Transcript, plan: CeremonyPlan, key: PrivateKey) -> None:
    try:
        write_secret(plan.root_key, encode_private_key(key, plan.passphrase), shared=False)
    except OSError as error:
        raise StartError(f"cannot write {plan.root_key}: {error.strerror}") from None
    if read_private_key(plan.root_key, plan.passphrase).public_key() != key.public_key():
        raise StartError(f"the key that was read back from {plan.root_key} is another one")
    transcript.say(f"wrote it encrypted to {plan.root_key}, and read it back with the passphrase")
    transcript.add(f"SHA-256 of the file: {_sha256(plan.root_key.read_bytes())}")
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    transcript.add(f"SHA-256 of its public key: {_sha256(spki)}")


def _make_root(transcript: Transcript, desk: Desk, plan: CeremonyPlan, signer: Signer) -> IssuerRecord:
    async def make() -> IssuerRecord:
        der = await desk.signing().self_sign(plan.root.terms(signer.public_key, desk.clock.now()), signer)
        certificate = x509.load_der_x509_certificate(der)
        made = issuer_record(plan.root_name, IssuerRole.ROOT, certificate, scheme=plan.key_type.scheme)
        record = replace(made, key_reference=None)
        desk.check_rules((record,))
        change = HierarchyChange("ceremony", added=(record,))
        await desk.stores.hierarchy.change(change, desk.by, issuer=record.name)
        return record

    record = run_now(make())
    transcript.say(f"the root signed itself; it is the issuer {record.name} of this CA, without its key")
    _tell(transcript, record)
    return record


def _make_issuing(
    transcript: Transcript, desk: Desk, plan: CeremonyPlan, root: IssuerRecord, signer: Signer
) -> IssuerRecord:
    def load() -> Issuers:
        """The issuers, with the root's key at hand for as long as the ceremony lasts."""
        issuers = desk.issuers()
        present = (_with_key(one, signer) if one.id == root.id else one for one in issuers.all())
        return Issuers(tuple(present), issuers.cross_certificates)

    deeds = desk.deeds(load)
    run_now(deeds.note_certificates())
    key_type = plan.key_type
    record = run_now(deeds.create_under(plan.name, plan.issuing, key_type.issuing, key_type.scheme, plan.root_name))
    transcript.say(f"made the key of the issuing CA, {record.key_reference}, and the root signed its certificate")
    _tell(transcript, record)
    issuers = load()
    left = leave_status(desk, issuers, _only(issuers.by_name(root.name)), plan.status_for)
    transcript.say(f"the root signed its CRL number {left.crl_number}, which holds until {left.crl_until:%Y-%m-%d}")
    transcript.say(f"the root signed an OCSP responder for this node, until {left.ocsp_until:%Y-%m-%d}")
    desk.publish_anchors()
    anchors = desk.state.trust_anchors
    transcript.say(f"wrote what clients are to trust to {anchors}")
    transcript.add(f"SHA-256 of the file: {_sha256(anchors.read_bytes())}")
    return record


def _only(issuer: Issuer | None) -> Issuer:
    if issuer is None:
        raise StartError("the root that was just made is not in the store any more")
    return issuer


def _with_key(issuer: Issuer, signer: Signer) -> Issuer:
    return replace(issuer, signer=signer, record=replace(issuer.record, key_reference="at the ceremony"))


def _tell(transcript: Transcript, record: IssuerRecord) -> None:
    certificate = x509.load_der_x509_certificate(record.certificate_der)
    transcript.add(f"subject {dn.format_dn(certificate.subject)}")
    transcript.add(f"serial {certificate.serial_number:x}, key {label_of(certificate.public_key())}")
    valid = (
        f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%SZ} to {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%SZ}"
    )
    transcript.add(f"valid {valid}")
    transcript.add(f"SHA-256 of the certificate: {_sha256(record.certificate_der)}")
    transcript.add(pem.encode_certificates((record.certificate_der,)).decode())


def _end(transcript: Transcript, plan: CeremonyPlan, signer: Signer) -> None:
    transcript.say(f"end; the root's key signs this text: {signature_file(plan.transcript)}")
    transcript.add("to check it, with the root's certificate from above in root.pem:")
    transcript.add("openssl x509 -in root.pem -noout -pubkey > root.pub")
    transcript.add(check_command(plan, "root.pub"))


def check_command(plan: CeremonyPlan, public_key: str) -> str:
    """How openssl verifies the signature of a transcript."""
    signature, family = signature_file(plan.transcript), plan.key_type.issuer
    if family not in {"ecdsa", "rsa", "rsa-pss"}:
        return f"openssl pkeyutl -verify -pubin -inkey {public_key} -rawin -in {plan.transcript} -sigfile {signature}"
    padding = " -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:32" if family == "rsa-pss" else ""
    return f"openssl dgst -{_digest_of(plan)} -verify {public_key} -signature {signature}{padding} {plan.transcript}"


def _digest_of(plan: CeremonyPlan) -> str:
    words: dict[str, str] = {"EC P-384": "sha384", "EC P-521": "sha512"}
    return words.get(plan.key_type.root.label, "sha256")


def _sign_transcript(plan: CeremonyPlan, key: PrivateKey, transcript: Transcript) -> None:
    scheme = scheme_of(key.public_key(), plan.key_type.scheme)
    write_secret(signature_file(plan.transcript), scheme.sign(key, transcript.encode()), shared=False)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
