"""Bearer tokens (RFC 6750) are JWTs of one OpenID Connect authority, meant for this CA by their audience.

A token counts when its signature, issuer, audience and times are right (RFC 7519 §4.1, RFC 8725 §3) and its algorithm
is one that the key is for.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import jwt

from opencertd.clock import Clock
from opencertd.errors import Refusal, RefusalKind, StartError
from opencertd.model.requester import Proof, Requester
from opencertd.web.authority import Authority, VerifyingKey
from opencertd.web.claims import Claims

LEEWAY = timedelta(seconds=60)

ALGORITHMS = frozenset({"RS256", "PS256", "ES256", "ES384", "EdDSA"})
"""Signatures by a public key only: `none` and the HS family (a public key as a shared secret) have no place here."""


class BearerVerifier:
    """Judges the tokens of an authority that are meant for `audience`. StartError when there is no audience.

    `leeway`: how far the clocks of this CA and of the authority may differ.
    """

    def __init__(
        self,
        authority: Authority,
        audience: str,
        *,
        clock: Clock,
        claims: Claims = Claims(),  # noqa: B008  (a frozen value)
        leeway: timedelta = LEEWAY,
    ) -> None:
        if not audience:
            raise StartError("bearer tokens need an audience: a token for another service must not count here")
        self._authority = authority
        self._audience = audience
        self._clock = clock
        self._meanings = claims
        self._leeway = leeway.total_seconds()

    async def verify(self, token: str) -> Requester:
        """Who the token speaks of. Refusal UNAUTHENTICATED, or UNAVAILABLE when the authority cannot be asked."""
        kid, algorithm = _parse_header(token)
        issuer, keys = await self._authority.keys_for(kid, algorithm)
        if not keys:
            raise _refuse("the token's key is not one of the authority's")
        for key in keys:
            claims = self._claims(token, key, algorithm, issuer)
            if claims is not None:
                _check_times(claims, self._clock.now().timestamp(), self._leeway)
                return self._requester(claims)
        raise _refuse("the token's signature is wrong")

    def _claims(self, token: str, key: VerifyingKey, algorithm: str, issuer: str) -> dict[str, Any] | None:
        """The claims, or None when `key` did not sign them. Times are not judged here: PyJWT has its own clock."""
        try:
            return jwt.decode(
                token,
                key.key,
                algorithms=[algorithm],
                audience=self._audience,
                issuer=issuer,
                options={
                    "require": ["exp", "iss", "aud", "sub"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidSignatureError:
            return None
        except jwt.InvalidAudienceError:
            raise _refuse("the token is for another audience") from None
        except jwt.InvalidIssuerError:
            raise _refuse("the token is from another issuer") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refuse(f"the token has no {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise _refuse("the token cannot be read") from None

    def _requester(self, claims: dict[str, Any]) -> Requester:
        subject, name = claims["sub"], claims.get("preferred_username")
        if not (isinstance(subject, str) and subject.isprintable() and 0 < len(subject) <= 255):
            raise _refuse("the token's subject cannot be used")
        named = isinstance(name, str) and name.isprintable() and 0 < len(name) <= 255
        return Requester(
            proof=Proof.BEARER_TOKEN,
            id=f"{claims['iss']}|{subject}",
            label=str(name) if named else subject,
            grant=self._meanings.grant_of(claims),
            roles=self._meanings.roles_of(claims),
        )


def _parse_header(token: str) -> tuple[str | None, str]:
    """Key id and algorithm as the token claims them: read first, so that nonsense makes nobody fetch anything."""
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, ValueError, RecursionError):
        raise _refuse("the token is no signed JWT") from None
    kid, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise _refuse(f"the token's algorithm is none of {', '.join(sorted(ALGORITHMS))}")
    if "crit" in header:
        raise _refuse("the token has critical extensions")
    return kid, algorithm


def _check_times(claims: dict[str, Any], now: float, leeway: float) -> None:
    """exp, nbf and iat are numbers of seconds (RFC 7519 §2, NumericDate)."""
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e11:
            raise _refuse(f"the token's {name} is no time")
    if claims["exp"] + leeway <= now:
        raise _refuse("the token has expired")
    if max(claims.get("nbf", 0), claims.get("iat", 0)) > now + leeway:
        raise _refuse("the token is not valid yet")


def _refuse(detail: str) -> Refusal:
    return Refusal(RefusalKind.UNAUTHENTICATED, detail)
