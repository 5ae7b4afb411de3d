"""`[tokens]`: what bearer tokens of the `authority` say, and where its keys are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from cryptography import x509
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from opencertd.errors import StartError

_HOST = re.compile(r"([a-z0-9-]+(\.[a-z0-9-]+)*|\[[0-9a-f:]+\])(:[0-9]{1,5})?")
_MOST_BYTES = 1 << 20


def _host(text: str) -> str:
    if not _HOST.fullmatch(text.lower()):
        raise ValueError("must be the name of a host, with :PORT unless that is 443")
    return text.lower().removesuffix(":443")


def _claim(text: str) -> str:
    if not text or len(text) > 255 or not text.isprintable():
        raise ValueError("must be the name of a claim, or names with dots between them for one inside others")
    return text


Claim = Annotated[str, AfterValidator(_claim)]


class TokenSettings(BaseModel):
    """`roles_claim`, `names_claim`: see `Claims`. `leeway_seconds`: how far clocks may differ. `key_hosts`: hosts
    besides the authority's that its keys may be at. `trust_anchors`: a PEM file of CAs for its TLS; None: the system's.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    roles_claim: Claim = "roles"
    names_claim: Claim | None = None
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 60
    key_hosts: tuple[Annotated[str, AfterValidator(_host)], ...] = ()
    trust_anchors: Path | None = None

    def anchors(self) -> list[x509.Certificate] | None:
        """The CAs of the file. Raises StartError."""
        if self.trust_anchors is None:
            return None
        try:
            with self.trust_anchors.open("rb") as file:
                return x509.load_pem_x509_certificates(file.read(_MOST_BYTES))
        except OSError as error:
            raise StartError(f"tokens.trust_anchors: {self.trust_anchors} cannot be read: {error.strerror}") from None
        except ValueError:
            raise StartError(f"tokens.trust_anchors: {self.trust_anchors} holds no PEM certificates") from None
