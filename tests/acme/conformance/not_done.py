"""What is asked for and deliberately not done, and why. `docs/acme-conformance.md` tells users the same."""

from __future__ import annotations

from collections.abc import Mapping

NOT_DONE: Mapping[str, str] = {
    "8555 §6.1/6": (
        "Padding, and the other base64 alphabet, are taken in CSRs and in certificates to be revoked: common clients "
        "send them, and DER has only one meaning however it is encoded. In JWS and JWK, where a second spelling of one "
        "text could matter, they are refused."
    ),
    "8555 §7.3.1/4": (
        "Where there are terms, true agrees to them as they are now: a program has no other way, and most clients send "
        "it with each newAccount. It can only add agreement, and changes nothing else."
    ),
    "8555 §7.3.2/3": "For the same reason: an account whose terms changed agrees by an update that says true.",
    "8555 §7.4.1/2": (
        "It is answered with 400 and the type that says why (rejectedIdentifier, unsupportedIdentifier, malformed), as "
        "an order for the same name is: clients go by the type."
    ),
    "8555 §7.4.2/2": (
        "A PEM chain is the only format offered, so there is none for a single certificate that would have to link to "
        "its issuers."
    ),
    "8555 §8/2": (
        "§8.2 asks for the opposite, and is what clients use: while a validation is tried again, the challenge is "
        '"processing" and shows the error of the last attempt.'
    ),
    "8555 §11.2/1": (
        "DNS is asked by UDP with random ports and query identifiers, by TCP where an answer is too long: resolvers in "
        "internal networks often do not answer by TCP. Let the CA ask a resolver on its own machine, and have that one "
        "validate DNSSEC."
    ),
    "8555 §11.2/3": "Which resolvers there are in a network is its operator's: `dns-server` says which to ask.",
}
