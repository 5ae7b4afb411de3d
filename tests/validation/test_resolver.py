"""The resolver against a real DNS server on loopback: what it finds, what it says when it finds nothing, how long."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from ipaddress import ip_address
from pathlib import Path

import dns.message
import dns.query
import dns.resolver
import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, gatherResults
from twisted.internet.task import deferLater

from opencertd.validation.hosts import addresses_in_hosts
from opencertd.validation.resolver import DnsResolver, DnsServer, LookupFailed, LookupProblem, parse_dns_server
from tests import dns_server
from tests.validation.conftest import MakeResolver


@pytest_twisted.ensureDeferred
async def test_both_families_are_asked_and_ipv6_comes_first(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("a.test", "A", "10.0.0.1")
    zone.add("a.test", "AAAA", "fd00::1")
    assert await resolver.addresses("a.test") == (ip_address("fd00::1"), ip_address("10.0.0.1"))
    assert sorted(query.type for query in zone.queries) == ["A", "AAAA"]


@pytest.mark.parametrize("follows", [True, False])
@pytest_twisted.ensureDeferred
async def test_cnames_are_followed_whether_or_not_the_server_does(make_resolver: MakeResolver, follows: bool) -> None:
    with dns_server.DnsServer(follow=follows) as zone:
        for name, target in (("a.test", "b.test"), ("b.test", "c.other"), ("_acme-challenge.a.test", "t.other")):
            zone.add(name, "CNAME", target)
        zone.add("c.other", "A", "10.0.0.7")
        zone.add("t.other", "TXT", "value")
        resolver = make_resolver(DnsServer("127.0.0.1", zone.port))
        assert await resolver.addresses("a.test") == (ip_address("10.0.0.7"),)
        assert await resolver.texts("_acme-challenge.a.test") == (b"value",)


@pytest.mark.parametrize("follows", [True, False])
@pytest_twisted.ensureDeferred
async def test_cnames_in_a_circle_end(make_resolver: MakeResolver, follows: bool) -> None:
    with dns_server.DnsServer(follow=follows) as zone:
        zone.add("a.test", "CNAME", "b.test")
        zone.add("b.test", "CNAME", "a.test")
        with pytest.raises(LookupFailed) as told:
            await make_resolver(DnsServer("127.0.0.1", zone.port)).texts("a.test")
        assert told.value.problem in (LookupProblem.SERVER_FAILURE, LookupProblem.NO_ANSWER)


@pytest_twisted.ensureDeferred
async def test_a_cname_to_nowhere_is_named(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("a.test", "CNAME", "gone.test")
    with pytest.raises(LookupFailed, match=r"no name a\.test, whose CNAME leads to gone\.test \(NXDOMAIN\)") as told:
        await resolver.texts("a.test")
    assert told.value.problem is LookupProblem.NO_SUCH_NAME


@pytest_twisted.ensureDeferred
async def test_each_txt_record_is_one_text_of_joined_strings(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("t.test", "TXT", '"one" "two"')
    zone.add("t.test", "TXT", "three")
    assert sorted(await resolver.texts("t.test")) == [b"onetwo", b"three"]


@pytest_twisted.ensureDeferred
async def test_what_udp_cannot_hold_comes_by_tcp(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    texts = [f"{number:04}" * 100 for number in range(20)]
    for text in texts:
        zone.add("big.test", "TXT", text)
    assert sorted(await resolver.texts("big.test")) == [text.encode() for text in texts]
    assert [query.transport for query in zone.queries] == ["udp", "udp", "tcp"]  # the reactor's, then a thread's


@pytest_twisted.ensureDeferred
async def test_a_record_just_set_is_seen(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("t.test", "TXT", "before")
    assert await resolver.texts("t.test") == (b"before",)
    zone.remove("t.test")
    zone.add("t.test", "TXT", "after")
    assert await resolver.texts("t.test") == (b"after",)


@pytest.mark.parametrize(
    ("behaviour", "problem", "words"),
    [
        ("NXDOMAIN", LookupProblem.NO_SUCH_NAME, "DNS knows no name a.test (NXDOMAIN)"),
        ("SERVFAIL", LookupProblem.SERVER_FAILURE, "answered SERVFAIL"),
        ("REFUSED", LookupProblem.SERVER_FAILURE, "answered REFUSED"),
        ("SILENCE", LookupProblem.TIMEOUT, "within 1 seconds"),
    ],
)
@pytest.mark.parametrize("what", ["addresses", "texts"])
@pytest_twisted.ensureDeferred
async def test_each_failure_is_told_apart(
    zone: dns_server.DnsServer,
    make_resolver: MakeResolver,
    behaviour: str,
    problem: LookupProblem,
    words: str,
    what: str,
) -> None:
    zone.add("a.test", behaviour)
    resolver = make_resolver(DnsServer("127.0.0.1", zone.port), 1.0)
    with pytest.raises(LookupFailed) as told:
        await getattr(resolver, what)("a.test")
    assert told.value.problem is problem
    assert words in told.value.detail and "a.test" in told.value.detail


@pytest_twisted.ensureDeferred
async def test_a_name_without_such_records_is_told_apart(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    zone.add("a.test", "MX", "10 mail.test.")
    with pytest.raises(LookupFailed, match="neither an A nor an AAAA") as told:
        await resolver.addresses("a.test")
    assert told.value.problem is LookupProblem.NO_ANSWER
    with pytest.raises(LookupFailed, match=r"DNS has no TXT of a\.test"):
        await resolver.texts("a.test")


@pytest_twisted.ensureDeferred
async def test_one_family_is_enough_when_the_other_is_never_answered(make_resolver: MakeResolver) -> None:
    class NoAaaa(dns_server.DnsServer):
        def answer(self, wire: bytes, transport: str) -> bytes | None:
            is_aaaa = dns.message.from_wire(wire).question[0].rdtype == 28
            return None if is_aaaa else super().answer(wire, transport)

    with NoAaaa([dns_server.Record("a.test", "A", "10.0.0.1")]) as zone:
        resolver = make_resolver(DnsServer("127.0.0.1", zone.port), 0.5)
        assert await resolver.addresses("a.test") == (ip_address("10.0.0.1"),)


@pytest_twisted.ensureDeferred
async def test_a_server_that_is_away_or_answers_rubbish_fails_within_the_lifetime(make_resolver: MakeResolver) -> None:
    class Rubbish(dns_server.DnsServer):
        def answer(self, wire: bytes, transport: str) -> bytes | None:
            return wire[:2] + b"\xff" * 20

    with Rubbish() as zone:
        started = time.monotonic()
        with pytest.raises(LookupFailed):
            await make_resolver(DnsServer("127.0.0.1", zone.port), 1.0).texts("a.test")
    with pytest.raises(LookupFailed):
        await make_resolver(DnsServer("127.0.0.1", zone.port), 1.0).addresses("a.test")
    assert time.monotonic() - started < 4


@pytest_twisted.ensureDeferred
async def test_the_reactor_runs_on_while_dns_is_silent(zone: dns_server.DnsServer, make_resolver: MakeResolver) -> None:
    from twisted.internet import reactor

    zone.add("a.test", "SILENCE")
    answer = make_resolver(DnsServer("127.0.0.1", zone.port), 1.0).texts("a.test")
    ticks = 0
    while not answer.called:
        await deferLater(reactor, 0.02)  # type: ignore[arg-type]
        ticks += 1
    assert ticks > 15
    with pytest.raises(LookupFailed):
        await answer


@pytest_twisted.ensureDeferred
async def test_more_questions_than_threads_all_end_in_time(
    zone: dns_server.DnsServer, make_resolver: MakeResolver
) -> None:
    zone.add("a.test", "SILENCE")
    resolver = make_resolver(DnsServer("127.0.0.1", zone.port), 1.0)
    started = time.monotonic()
    answers = [resolver.texts("a.test") for _ in range(60)]
    for answer in answers:
        with pytest.raises(LookupFailed, match="within 1 seconds"):
            await answer
    assert time.monotonic() - started < 3


@pytest_twisted.ensureDeferred
async def test_cancelling_a_question_ends_the_wait(zone: dns_server.DnsServer, make_resolver: MakeResolver) -> None:
    zone.add("a.test", "SILENCE")
    resolver = make_resolver(DnsServer("127.0.0.1", zone.port), 0.5)
    for answer in (resolver.addresses("a.test"), resolver.texts("a.test")):
        answer.cancel()
        with pytest.raises(CancelledError):
            await answer


@pytest_twisted.ensureDeferred
async def test_many_at_once_get_each_their_own_answer(zone: dns_server.DnsServer, resolver: DnsResolver) -> None:
    for number in range(50):
        zone.add(f"{number}.test", "TXT", str(number))
    found = await gatherResults([resolver.texts(f"{number}.test") for number in range(50)])
    assert found == [(str(number).encode(),) for number in range(50)]


@pytest_twisted.ensureDeferred
async def test_a_name_too_long_for_dns_is_a_failure_with_words(resolver: DnsResolver) -> None:
    name = ".".join(["a" * 61] * 4)
    with pytest.raises(LookupFailed, match="_acme-challenge"):
        await resolver.texts(f"_acme-challenge.{name}")


class TestTheMachinesOwn:
    @pytest_twisted.ensureDeferred
    async def test_hosts_file_comes_before_dns(self, make_resolver: MakeResolver, tmp_path: Path) -> None:
        hosts = tmp_path / "hosts"
        hosts.write_text("10.9.8.7 printer.test printer\n")
        assert await make_resolver(None, hosts=hosts).addresses("printer.test") == (ip_address("10.9.8.7"),)

    @pytest_twisted.ensureDeferred
    async def test_hosts_file_is_not_read_when_a_server_is_given(
        self, zone: dns_server.DnsServer, make_resolver: MakeResolver, tmp_path: Path
    ) -> None:
        hosts = tmp_path / "hosts"
        hosts.write_text("10.9.8.7 printer.test\n")
        zone.add("printer.test", "A", "10.1.1.1")
        resolver = make_resolver(DnsServer("127.0.0.1", zone.port), hosts=hosts)
        assert await resolver.addresses("printer.test") == (ip_address("10.1.1.1"),)

    @pytest_twisted.ensureDeferred
    async def test_resolv_conf_names_the_servers(
        self, zone: dns_server.DnsServer, make_resolver: MakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def configured() -> dns.resolver.Resolver:
            resolver = system(configure=False)
            resolver.nameservers, resolver.port = ["127.0.0.1"], zone.port
            return resolver

        system = dns.resolver.Resolver
        monkeypatch.setattr("dns.resolver.Resolver", configured)
        zone.add("a.test", "A", "10.0.0.1")
        assert await make_resolver(None).addresses("a.test") == (ip_address("10.0.0.1"),)

    @pytest_twisted.ensureDeferred
    async def test_a_machine_without_servers_says_so(
        self, make_resolver: MakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none() -> dns.resolver.Resolver:
            raise dns.resolver.NoResolverConfiguration("no nameservers")

        monkeypatch.setattr("dns.resolver.Resolver", none)
        with pytest.raises(LookupFailed, match="this machine names no DNS server"):
            await make_resolver(None).texts("a.test")

    def test_hosts_tables_are_read_leniently(self) -> None:
        table = (
            "# one\n127.0.0.1 localhost\n::1 localhost  # two\nrubbish a.test\n\n10.0.0.1\tA.Test. a\n10.0.0.1 a.test\n"
        )
        assert addresses_in_hosts(table, "localhost") == (ip_address("127.0.0.1"), ip_address("::1"))
        assert addresses_in_hosts(table, "a.test") == (ip_address("10.0.0.1"),)
        assert addresses_in_hosts(table, "two") == ()


class TestServerSettings:
    @pytest.mark.parametrize(
        ("text", "host", "port", "shown"),
        [
            ("10.0.0.1", "10.0.0.1", 53, "10.0.0.1:53"),
            ("10.0.0.1:5353", "10.0.0.1", 5353, "10.0.0.1:5353"),
            ("[fd00::1]:5353", "fd00::1", 5353, "[fd00::1]:5353"),
            ("fd00::1", "fd00::1", 53, "[fd00::1]:53"),
            ("localhost:5353", "localhost", 5353, "localhost:5353"),
        ],
    )
    def test_parse(self, text: str, host: str, port: int, shown: str) -> None:
        server = parse_dns_server(text)
        assert (server.host, server.port, str(server)) == (host, port, shown)

    @pytest.mark.parametrize("text", ["", "10.0.0.1:0", "10.0.0.1:99999", "a b:1", "host:", "http://a/", ":53"])
    def test_what_is_none_is_told_with_what_to_write(self, text: str) -> None:
        with pytest.raises(ValueError, match="write HOST or HOST:PORT"):
            parse_dns_server(text)

    @pytest_twisted.ensureDeferred
    async def test_a_server_may_be_given_by_name(self, zone: dns_server.DnsServer, make_resolver: MakeResolver) -> None:
        zone.add("a.test", "TXT", "x")
        assert await make_resolver(DnsServer("localhost", zone.port)).texts("a.test") == (b"x",)

    @pytest_twisted.ensureDeferred
    async def test_a_machine_that_is_slow_to_know_the_server_is_not_waited_for(
        self, make_resolver: MakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def slow(*_: object, **__: object) -> None:
            time.sleep(2)
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        monkeypatch.setattr("opencertd.validation.resolver.socket.getaddrinfo", slow)
        started = time.monotonic()
        with pytest.raises(LookupFailed, match=r"no answer for a\.test from the DNS server gone\.invalid:53"):
            await make_resolver(DnsServer("gone.invalid"), 0.3).texts("a.test")
        assert time.monotonic() - started < 1.5

    @pytest_twisted.ensureDeferred
    async def test_a_servers_name_that_leads_nowhere_is_a_failure_with_words(
        self, make_resolver: MakeResolver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def nowhere(*_: object, **__: object) -> None:
            raise socket.gaierror(-2, "Name or service not known")

        monkeypatch.setattr("opencertd.validation.resolver.socket.getaddrinfo", nowhere)
        with pytest.raises(LookupFailed, match=r"cannot ask DNS for TXT of a\.test"):
            await make_resolver(DnsServer("gone.invalid")).texts("a.test")


def test_the_server_runs_as_a_script_that_reads_its_file_at_each_question(tmp_path: Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    records = tmp_path / "records"
    command = [sys.executable, str(Path(dns_server.__file__)), "--port", str(port), "--records", str(records)]
    with subprocess.Popen(command) as process:
        try:
            deadline = time.monotonic() + 15
            while True:
                try:
                    reply = dns.query.udp(dns.message.make_query("a.test", "A"), "127.0.0.1", port=port, timeout=0.3)
                    break
                except (dns.exception.Timeout, OSError):
                    assert time.monotonic() < deadline
            assert reply.answer[0][0].to_text() == "127.0.0.1"
            records.write_text("_acme-challenge.a.test TXT abc\n")
            question = dns.message.make_query("_acme-challenge.a.test", "TXT")
            assert dns.query.udp(question, "127.0.0.1", port=port, timeout=2).answer[0][0].strings == (b"abc",)
        finally:
            process.kill()


class TestDnssec:
    """With `dnssec` only what the server says to have validated counts: answers, and answers that there is none."""

    @staticmethod
    def resolver(zone: dns_server.DnsServer, make_resolver: MakeResolver) -> DnsResolver:
        return make_resolver(DnsServer("127.0.0.1", zone.port), dnssec=True)

    @pytest_twisted.ensureDeferred
    async def test_validated_answers_are_taken(self, zone: dns_server.DnsServer, make_resolver: MakeResolver) -> None:
        zone.signed = True
        zone.add("a.test", "TXT", "x")
        zone.add("a.test", "A", "10.0.0.1")
        resolver = self.resolver(zone, make_resolver)
        assert await resolver.texts("a.test") == (b"x",)
        assert await resolver.addresses("a.test") == (ip_address("10.0.0.1"),)
        assert await resolver.caa("a.test") == ()

    @pytest.mark.parametrize("name", ["a.test", "missing.test", "b.test"])
    @pytest_twisted.ensureDeferred
    async def test_others_are_refused_in_words(
        self, zone: dns_server.DnsServer, make_resolver: MakeResolver, name: str
    ) -> None:
        zone.add("a.test", "TXT", "x")
        zone.add("a.test", "A", "10.0.0.1")
        zone.add("b.test", "CNAME", "a.test")
        resolver = self.resolver(zone, make_resolver)
        for asking in (resolver.texts, resolver.addresses, resolver.caa):
            with pytest.raises(LookupFailed) as caught:
                await asking(name)  # type: ignore[operator]
            assert caught.value.problem is LookupProblem.UNSIGNED and "no AD flag" in caught.value.detail

    @pytest_twisted.ensureDeferred
    async def test_a_table_of_hosts_needs_no_signature(self, make_resolver: MakeResolver, tmp_path: Path) -> None:
        hosts = tmp_path / "hosts"
        hosts.write_text("10.0.0.9 a.test\n")
        resolver = make_resolver(None, hosts=hosts, dnssec=True)
        assert await resolver.addresses("a.test") == (ip_address("10.0.0.9"),)
