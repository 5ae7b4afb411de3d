"""Names that an issuer may have: they stand in URLs, in file names and beside those of profiles."""

from __future__ import annotations

from opencertd.errors import StartError
from opencertd.issuance.profile_file import NAME, RESERVED
from opencertd.issuance.shipped import shipped_profiles


def check_issuer_name(name: str) -> None:
    """Raise StartError unless an issuer made or brought by a person may have this name.

    A profile of each issuer's name issues by that issuer, so that the names of the shipped ones are taken.
    """
    if not NAME.match(name) or name in RESERVED or name in shipped_profiles((), ("",)):
        raise StartError(
            f"an issuer cannot be named {name[:80]!r}: use small letters, digits, '-', '_' and '.', and neither the "
            "name of a profile nor a word that the URLs of EST and /ca, or the daemon itself, already use"
        )
