"""RFC 8738: certificates for IP addresses."""

from __future__ import annotations

from opencertd.model.names import AltNameKind
from opencertd.validation.verdict import FailedProof
from tests.acme.conformance.people import NEW_ORDER, authorization, registered
from tests.acme.conformance.test_rfc8555_challenges import ALL
from tests.acme.rig import Client, Reply, Rig
from tests.conformance import shows
from tests.validation.certificates import challenge_certificate
from tests.validation.servers import ChallengeTls, FakeResolver, listening, site
from tests.validation.test_http01 import good_site, question, validator
from tests.validation.test_tlsalpn01 import KEY_AUTHORIZATION, ask, quiet

ADDRESSES = ("127.0.0.1", "::1")


async def ordered(value: str) -> tuple[Client, Reply]:
    client = await registered(Rig(terms=ALL))
    return client, await client.post(NEW_ORDER, {"identifiers": [{"type": "ip", "value": value}]})


@shows("8738 §3/1")
async def test_3_type_ip() -> None:
    for value in ("192.0.2.7", "2001:db8::7"):
        client, order = await ordered(value)
        assert (await authorization(client, order))["identifier"] == {"type": "ip", "value": value}


@shows("8738 §3/2")
async def test_3_one_spelling() -> None:
    for value in ("192.0.2.07", "192.0.2", "0xc0000207", "2001:DB8::7", "2001:db8:0:0::7", "[2001:db8::7]"):
        assert (await ordered(value))[1].problem == "malformed", value


async def asked_by_http(address: str) -> tuple[FakeResolver, list[tuple[str, str, str]], int]:
    web, resolver = good_site(), FakeResolver()
    with listening(site(web), address) as port:
        assert await validator(port, resolver).validate(question(address, AltNameKind.IP)) is None
    return resolver, web.seen, port


@shows("8738 §4/1")
async def test_4_no_dns() -> None:
    for address in ADDRESSES:
        resolver, _, _ = await asked_by_http(address)
        assert resolver.asked == []


@shows("8738 §4/2")
async def test_4_the_address_itself() -> None:
    for address, other in (ADDRESSES, ADDRESSES[::-1]):
        with listening(site(good_site()), address) as port:
            failed = await validator(port).validate(question(other, AltNameKind.IP))
        assert isinstance(failed, FailedProof)


@shows("8738 §5/1")
async def test_5_host() -> None:
    _, ((host, *_),), port = await asked_by_http("127.0.0.1")
    assert host == f"127.0.0.1:{port}"


@shows("8738 §5/2")
async def test_5_canonical() -> None:
    _, ((host, *_),), port = await asked_by_http("::1")
    assert host == f"[::1]:{port}"


@shows("8738 §6/1")
async def test_6_the_certificate() -> None:
    for names, right in ((["127.0.0.1"], True), (["127.0.0.2"], False), (["127.0.0.1", "a.test"], False), ([], False)):
        with listening(quiet(), tls=ChallengeTls(challenge_certificate(KEY_AUTHORIZATION, names))) as port:
            assert (await ask(port, "127.0.0.1", AltNameKind.IP) is None) is right, names


@shows("8738 §6/2")
async def test_6_the_reverse_name() -> None:
    reverse = ("1.0.0.127.in-addr.arpa", "1." + "0." * 31 + "ip6.arpa")
    for address, name in zip(ADDRESSES, reverse, strict=True):
        tls = ChallengeTls(challenge_certificate(KEY_AUTHORIZATION, [address]))
        with listening(quiet(), address, tls=tls) as port:
            assert await ask(port, address, AltNameKind.IP) is None
        assert tls.names == [name]


@shows("8738 §7/1")
async def test_7_never_by_dns() -> None:
    client, order = await ordered("192.0.2.7")
    assert [each["type"] for each in (await authorization(client, order))["challenges"]] == ["http-01", "tls-alpn-01"]
