"""RFC 7030 §4.5: what a request should hold."""

from __future__ import annotations

import base64
import dataclasses
from typing import Any

from opencertd.est.binding import BindingRule, BindingRules
from tests.conformance import shows
from tests.est.conformance.people import EST, LABELS, Answer, asked, media_type
from tests.est.rig import Rig
from tests.est.test_csrattrs import EKU, extensions, judged

EC = "1.2.840.10045.2.1"
CHALLENGE_PASSWORD = "1.2.840.113549.1.9.7"


async def csrattrs(rig: Rig | None = None, label: str = "", **fields: Any) -> Answer:
    """The answer, of a default profile with those fields."""
    rig = rig or asked()
    changed = dataclasses.replace(rig.authority.profiles["default"], **fields)
    rig.authority.profiles = {**rig.authority.profiles, "default": changed}
    return await rig.ask("GET", f"{EST}{label}/csrattrs", User_Agent="test")


@shows("7030 §4.5.2/1")
async def test_4_5_2_ok() -> None:
    for label in LABELS:
        assert (await csrattrs(label=label))[0].code == 200


@shows("7030 §4.5.2/2")
async def test_4_5_2_nothing_wanted() -> None:
    response, body = await csrattrs(extended_key_usages=())
    assert (response.code, body) == (204, b"")


@shows("7030 §4.5.2/3")
async def test_4_5_2_type() -> None:
    assert media_type(await csrattrs()) == "application/csrattrs"


@shows("7030 §4.5.2/4")
async def test_4_5_2_kinds_of_keys() -> None:
    for kind, oid in [("p-256", EC), ("rsa", "1.2.840.113549.1.1.1"), ("ed25519", "1.3.101.112")]:
        _, body = await csrattrs(key_types=frozenset({kind}))
        _, attributes, template = judged(base64.b64decode(body))
        assert oid in [name for name, _ in attributes]
        assert str(template["subjectPKInfo"]["algorithm"]["algorithm"]) == oid


@shows("7030 §4.5.2/5")
async def test_4_5_2_challenge_password() -> None:
    for rule, told in [(BindingRule.REQUIRED, True), (BindingRule.WHEN_PRESENT, False), (BindingRule.OFF, False)]:
        response, body = await csrattrs(asked(est={"bindings": BindingRules(rule)}))
        oids = judged(base64.b64decode(body))[0] if response.code == 200 else []
        assert (CHALLENGE_PASSWORD in oids) == told


@shows("7030 §4.5.2/6")
async def test_4_5_2_the_structure_of_a_request() -> None:
    """Kinds of keys are attributes, by the algorithm of the key; extensions are in an extension request."""
    _, body = await csrattrs(key_types=frozenset({"p-256"}))
    _, attributes, template = judged(base64.b64decode(body))
    assert attributes[0][0] == EC
    assert EKU in extensions(template)
