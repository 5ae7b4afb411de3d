"""What is asked for and deliberately not done, and why. `docs/est-conformance.md` tells users the same."""

from __future__ import annotations

from collections.abc import Mapping

NOT_DONE: Mapping[str, str] = {
    "7030 §3.3/3": (
        "A resumed session carries a client certificate that nobody has looked at again, and has no channel binding of "
        "its own. Clients keep their connections open instead."
    ),
    "7030 §3.5/2": (
        'There are no such responses, since Full CMC is left out (§4.3); the sentence that refuses says "popFailed".'
    ),
    "7030 §4.3.2/1": (
        "Full CMC is optional (§4.3) and is left out: fullcmc is answered with 501 and a sentence that says which "
        "operations there are."
    ),
    "7030 §4.5.1/1": (
        "They tell how this CA's certificates are made, profile by profile, so they are told to those who say who they "
        'are. csrattrs = "anonymous" opens them to everybody, for devices that ask before they have a credential.'
    ),
    "9908 §3.4/9": (
        "A template can name one kind of key. Where a profile takes several it names none: to name one of them would "
        "send clients away that have another. A key of another kind is refused in words that say which are taken."
    ),
}
