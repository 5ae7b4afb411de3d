"""http-01 over real sockets: what proves, where redirects may lead, and that no server can hold or read out the CA."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import TimeoutError
from twisted.internet.task import deferLater
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure

from opencertd.model.names import AltName, AltNameKind
from opencertd.validation.addresses import parse_network
from opencertd.validation.fetch import REDIRECTS, WebAddress, follow
from opencertd.validation.validator import Validator
from opencertd.validation.verdict import ControlQuestion, FailedProof, FailureKind, Unproven
from tests.validation.certificates import challenge_certificate
from tests.validation.servers import FakeResolver, SilentResolver, Web, https_context, listening, script, site

TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
KEY_AUTHORIZATION = f"{TOKEN}.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
PATH = f"/.well-known/acme-challenge/{TOKEN}"
LOOPBACK = (parse_network("127.0.0.0/8"), parse_network("::1"))
ANSWER = KEY_AUTHORIZATION.encode()


def question(name: str = "a.test", kind: AltNameKind = AltNameKind.DNS, token: str = TOKEN) -> ControlQuestion:
    return ControlQuestion("http-01", AltName(kind, name), token, KEY_AUTHORIZATION)


def validator(port: int, resolver: Any = None, *, seconds: float = 5.0, allow: Any = LOOPBACK) -> Validator:
    from twisted.internet import reactor

    return Validator(
        resolver=resolver or FakeResolver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.1"]}),
        reactor=reactor,
        http01_port=port,
        allow=allow,
        user_agent="tests",
        time_limit=seconds,
    )


async def ask(port: int, resolver: Any = None, **more: Any) -> FailedProof | None:
    return await validator(port, resolver, **more).validate(question())


def good_site() -> Web:
    web = Web()
    web.pages[PATH] = lambda _: ANSWER + b"\n"
    return web


class TestOneServer:
    @pytest_twisted.ensureDeferred
    async def test_the_right_body_proves_and_the_request_names_its_host(self) -> None:
        web = good_site()
        with listening(site(web)) as port:
            assert await ask(port) is None
        assert web.seen == [(f"a.test:{port}", PATH, "tests")]

    @pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
    @pytest_twisted.ensureDeferred
    async def test_an_ip_address_is_asked_without_dns(self, name: str) -> None:
        web = good_site()
        resolver = FakeResolver()
        with listening(site(web), name) as port:
            asked = question(name, AltNameKind.IP)
            assert await validator(port, resolver).validate(asked) is None
        shown = f"[{name}]" if ":" in name else name
        assert resolver.asked == [] and web.seen[0][0] == f"{shown}:{port}"

    @pytest_twisted.ensureDeferred
    async def test_a_wrong_answer_is_told_without_its_body(self) -> None:
        web = Web()
        with listening(site(web)) as port:
            failed = await ask(port)
            assert failed is not None and failed.kind is FailureKind.INCORRECT_RESPONSE
            assert f"http://a.test:{port}{PATH} (at 127.0.0.1:{port}) answered with status 404" in failed.detail
            web.pages[PATH] = lambda _: b"secret-of-an-internal-service"
            failed = await ask(port)
            assert failed is not None and "29 octets" in failed.detail and "secret" not in failed.detail

    @pytest_twisted.ensureDeferred
    async def test_chunked_lengthless_and_compressed_bodies_are_taken_as_they_are(self) -> None:
        head = b"HTTP/1.1 200 OK\r\n"
        chunked = head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(ANSWER), ANSWER)
        with listening(script(chunked)) as port:
            assert await ask(port) is None
        marked = head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s" % (len(ANSWER), ANSWER)
        with listening(script(marked)) as port:
            assert await ask(port) is None

    @pytest_twisted.ensureDeferred
    async def test_a_token_that_would_change_the_url_is_never_sent(self) -> None:
        web = good_site()
        with listening(site(web)) as port:
            for token in ("../x", "a b", "a?b", "", "a\r\nHost: x"):
                failed = await validator(port).validate(question(token=token))
                assert failed is not None and failed.kind is FailureKind.MALFORMED
        assert web.seen == []


class TestRedirects:
    @pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
    @pytest_twisted.ensureDeferred
    async def test_lead_to_another_host_which_is_looked_up_too(self, code: int) -> None:
        web = Web()
        resolver = FakeResolver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.2"]})
        other = Web()
        other.pages["/here?x=1"] = lambda _: ANSWER
        with listening(site(web)) as port, listening(site(other), "127.0.0.2", port):
            web.redirect(PATH, f"http://b.test:{port}/here?x=1", code)
            assert await ask(port, resolver) is None
        assert resolver.asked == ["a.test", "b.test"] and other.seen[0][0] == f"b.test:{port}"

    @pytest_twisted.ensureDeferred
    async def test_may_be_relative_and_ten_in_a_row(self) -> None:
        web = Web()
        with listening(site(web)) as port:
            web.redirect(PATH, "/1")
            for number in range(1, REDIRECTS):
                web.redirect(f"/{number}", str(number + 1))
            web.pages[f"/{REDIRECTS}"] = lambda _: ANSWER
            assert await ask(port) is None
            web.redirect(f"/{REDIRECTS}", "/last")
            web.pages["/last"] = lambda _: ANSWER
            failed = await ask(port)
        assert failed is not None and "redirects more than 10 times" in failed.detail

    @pytest_twisted.ensureDeferred
    async def test_to_https_trust_any_certificate(self, tmp_path: Path) -> None:
        web = Web()
        shown = challenge_certificate("x", ["elsewhere.test"])
        resolver = FakeResolver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.2"]})
        secure = https_context(shown, tmp_path)
        with listening(site(web)) as port, listening(site(good_site()), "127.0.0.2", port, secure):
            web.redirect(PATH, f"https://b.test:{port}{PATH}")
            assert await ask(port, resolver) is None

    @pytest_twisted.ensureDeferred
    async def test_to_https_where_plain_http_is_spoken_fail_as_tls(self) -> None:
        web = Web()
        plain = script(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        resolver = FakeResolver({"a.test": ["127.0.0.1"], "b.test": ["127.0.0.2"]})
        with listening(site(web)) as port, listening(plain, "127.0.0.2", port):
            web.redirect(PATH, f"https://b.test:{port}/")
            failed = await ask(port, resolver)
        assert failed is not None and failed.kind is FailureKind.TLS
        assert "https://b.test" in failed.detail

    @pytest.mark.parametrize(
        ("target", "words"),
        [
            ("http://169.254.169.254/latest/meta-data/", "link-local"),
            ("http://[::ffff:169.254.169.254]/", "link-local"),
            ("http://[fe80::1]/", "link-local"),
            ("http://metadata.test/", "169.254.169.254 (a link-local address)"),
            ("http://0.0.0.0/", "unspecified"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_to_a_refused_address_are_not_followed(self, target: str, words: str) -> None:
        web = Web()
        resolver = FakeResolver({"a.test": ["127.0.0.1"], "metadata.test": ["169.254.169.254"]})
        with listening(site(web)) as port:
            web.redirect(PATH, target)
            failed = await ask(port, resolver)
        assert failed is not None and failed.kind is FailureKind.CONNECTION
        assert words in failed.detail and "unless its settings allow it" in failed.detail

    @pytest_twisted.ensureDeferred
    async def test_do_not_tell_where_inside_a_site_they_led(self) -> None:
        web = Web()
        with listening(site(web)) as port:
            web.redirect(PATH, f"http://b.test:{port}/login?session=secret")
            failed = await ask(port)
        assert failed is not None and "secret" not in failed.detail and "login" not in failed.detail
        assert f"http://b.test:{port}, where http://a.test:{port}{PATH} redirects to," in failed.detail

    FROM = WebAddress("http", AltName(AltNameKind.DNS, "a.test"), 80, "/x/y?q")

    @pytest.mark.parametrize(
        ("location", "leads_to"),
        [
            ("/z", "http://a.test/z"),
            ("z", "http://a.test/x/z"),
            ("?r", "http://a.test/x/y?r"),
            ("//b.test", "http://b.test/"),
            ("https://B.Test./p#fragment", "https://b.test/p"),
            ("http://b.test:443/", "http://b.test:443/"),
            ("https://10.0.0.1/", "https://10.0.0.1/"),
            ("http://[fd00:0::1]:5002/", "http://[fd00::1]:5002/"),
            ("http://user:password@b.test/", "http://b.test/"),
            (" http://b.test/ ", "http://b.test/"),
        ],
    )
    def test_are_resolved(self, location: str, leads_to: str) -> None:
        assert str(follow(self.FROM, location.encode(), frozenset({80, 443, 5002}))) == leads_to

    @pytest.mark.parametrize(
        ("location", "words"),
        [
            ("", "to what is no URL"),
            ("http://b.test/\r\nX: y", "to what is no URL"),
            ("http://b.test/a b", "to what is no URL"),
            ("http://b.test/ü", "to what is no URL"),
            ("http://b.test/" + "a" * 3000, "to what is no URL"),
            ("http://b.test:x/", "to what is no URL"),
            ("http://b.test:99999/", "to what is no URL"),
            ("http://[::1/", "to what is no URL"),
            ("ftp://b.test/", "by the scheme 'ftp'"),
            ("file:///etc/passwd", "by the scheme 'file'"),
            ("javascript:x", "by the scheme 'javascript'"),
            ("http://b.test:8080/", "to port 8080; only 80, 443, 5002 are followed"),
            ("http://b.test:22/", "to port 22"),
            ("http://b.test:0/", "to port 0"),
            ("http://b..test/", "to a host that is none"),
            ("http://0x7f.1/", "to a host that is none"),
            ("http://2130706433/", "to a host that is none"),
            ("http://[fe80::1%25eth0]/", "to a host that is none"),
        ],
    )
    def test_that_validation_does_not_follow_are_told_why(self, location: str, words: str) -> None:
        with pytest.raises(Unproven) as told:
            follow(self.FROM, location.encode("utf-8"), frozenset({80, 443, 5002}))
        assert told.value.proof.detail.startswith("http://a.test redirects ")
        assert words in told.value.proof.detail

    def test_the_schemes_own_port_is_left_out_of_the_host_header(self) -> None:
        host = AltName(AltNameKind.DNS, "a.test")
        assert WebAddress("http", host, 80, "/").authority == "a.test"
        assert WebAddress("https", host, 443, "/").authority == "a.test"
        assert WebAddress("https", host, 80, "/").authority == "a.test:80"


class TestAddresses:
    @pytest_twisted.ensureDeferred
    async def test_a_refused_address_is_never_connected_to(self) -> None:
        web = good_site()
        with listening(site(web)) as port:
            failed = await ask(port, allow=())
        assert web.seen == []
        assert failed is not None and failed.kind is FailureKind.CONNECTION
        assert "a.test is at 127.0.0.1 (a loopback address)" in failed.detail

    @pytest_twisted.ensureDeferred
    async def test_of_several_addresses_only_the_open_ones_are_used(self) -> None:
        bad, good = Web(), good_site()
        resolver = FakeResolver({"a.test": ["127.0.0.1", "127.0.0.2"]})
        with listening(site(bad)) as port, listening(site(good), "127.0.0.2", port):
            assert await ask(port, resolver, allow=(parse_network("127.0.0.2"),)) is None
        assert bad.seen == []

    @pytest_twisted.ensureDeferred
    async def test_a_name_rebound_after_the_check_leads_to_the_checked_address(self) -> None:
        inside, outside = Web(), good_site()
        resolver = FakeResolver({"a.test": [["127.0.0.2"], ["127.0.0.1"]]})
        with listening(site(inside)) as port, listening(site(outside), "127.0.0.2", port):
            assert await ask(port, resolver, allow=(parse_network("127.0.0.2"),)) is None
            assert resolver.asked == ["a.test"] and inside.seen == []
            failed = await ask(port, resolver, allow=(parse_network("127.0.0.2"),))
        assert failed is not None and "127.0.0.1 (a loopback address)" in failed.detail and inside.seen == []

    @pytest_twisted.ensureDeferred
    async def test_a_name_rebound_between_redirects_is_checked_again(self) -> None:
        web, inside = Web(), good_site()
        resolver = FakeResolver({"a.test": [["127.0.0.2"], ["127.0.0.1"]]})
        with listening(site(inside)) as port, listening(site(web), "127.0.0.2", port):
            web.redirect(PATH, f"http://a.test:{port}{PATH}")
            failed = await ask(port, resolver, allow=(parse_network("127.0.0.2"),))
        assert failed is not None and "loopback" in failed.detail and inside.seen == []

    @pytest_twisted.ensureDeferred
    async def test_ipv6_is_preferred(self) -> None:
        old, new = Web(), good_site()
        resolver = FakeResolver({"a.test": ["127.0.0.1", "::1"]})
        with listening(site(old)) as port, listening(site(new), "::1", port):
            assert await ask(port, resolver) is None
        assert old.seen == [] and len(new.seen) == 1

    @pytest_twisted.ensureDeferred
    async def test_ipv4_is_used_when_ipv6_does_not_take_the_connection(self) -> None:
        resolver = FakeResolver({"a.test": ["::1", "127.0.0.1"]})
        with listening(site(good_site())) as port:
            assert await ask(port, resolver) is None

    @pytest_twisted.ensureDeferred
    async def test_when_none_takes_it_each_is_named(self) -> None:
        resolver = FakeResolver({"a.test": ["::1", "127.0.0.1"]})
        with listening(site(Web())) as port:
            pass
        failed = await ask(port, resolver)
        assert failed is not None and failed.kind is FailureKind.CONNECTION
        assert failed.detail == (
            f"cannot connect for a.test: [::1]:{port} refused the connection; 127.0.0.1:{port} refused the connection"
        )

    def test_silent_addresses_share_the_time_and_are_few(self) -> None:
        reactor = MemoryReactorClock()
        resolver = FakeResolver({"a.test": [f"10.0.0.{n}" for n in range(9)] + [f"fd00::{n}" for n in range(1, 9)]})
        asked = Validator(resolver=resolver, reactor=reactor).validate(question())
        verdict = Deferred.fromCoroutine(asked)
        for count in range(1, 5):
            _, port, factory, patience, _ = reactor.tcpClients[-1]
            assert len(reactor.tcpClients) == count and port == 80
            assert (patience == 2.5) == (count < 4)
            factory.clientConnectionFailed(reactor.connectors[-1], Failure(TimeoutError()))
        assert [client[0] for client in reactor.tcpClients] == ["fd00::1", "fd00::2", "10.0.0.0", "10.0.0.1"]
        failed = verdict.result
        assert isinstance(failed, FailedProof) and failed.detail.count("did not answer") == 4

    @pytest_twisted.ensureDeferred
    async def test_a_name_unknown_to_dns_is_a_failure_of_dns(self) -> None:
        failed = await ask(80, FakeResolver())
        assert failed == FailedProof(FailureKind.DNS, "DNS knows no name a.test (NXDOMAIN)")


HEAD = b"HTTP/1.1 200 OK\r\n"


class TestHostileServers:
    @pytest.mark.parametrize(
        ("first", "again", "kind", "words"),
        [
            (HEAD + b"\r\n", b"x" * 65536, FailureKind.INCORRECT_RESPONSE, "longer than 65536 octets"),
            (HEAD + b"Content-Length: 99999999999\r\n\r\n", b"x" * 9999, FailureKind.INCORRECT_RESPONSE, "longer than"),
            (HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 999, None, ""),
            (HEAD, b"X-Header: y\r\n" * 999, FailureKind.CONNECTION, "more than an answer's headers may hold"),
            (HEAD + b"X-Header: ", b"y" * 9999, FailureKind.CONNECTION, ""),
            (b"", b"y" * 9999, FailureKind.CONNECTION, ""),
            (
                b"",
                b"HTTP/1.1 100 Continue\r\n\r\n" * 99,
                FailureKind.CONNECTION,
                "more than an answer's headers may hold",
            ),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_that_never_stop_are_cut_off_soon(
        self, first: bytes, again: bytes, kind: FailureKind | None, words: str
    ) -> None:
        factory: Any = script(first, again)
        started = time.monotonic()
        with listening(factory) as port:
            failed = await ask(port)
            assert failed is not None and words in failed.detail
            assert kind in (None, failed.kind)
            await deferred_end(factory)
        assert time.monotonic() - started < 3
        assert factory.made[0].sent < 20_000_000  # what sockets buffer, not what ten seconds could carry

    @pytest.mark.parametrize(
        ("first", "again", "words"),
        [
            (b"", b"", "waiting for 127.0.0.1:"),
            (HEAD + b"X-H: ", b"y", "waiting for 127.0.0.1:"),
            (HEAD + b"Content-Length: 200\r\n\r\n", b"x", "reading the answer of"),
            (HEAD + b"\r\n", b"", "reading the answer of"),
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_that_drip_or_say_nothing_are_left_when_time_is_up(
        self, first: bytes, again: bytes, words: str
    ) -> None:
        factory: Any = script(first, again, 0.05)
        with listening(factory) as port:
            started = time.monotonic()
            failed = await ask(port, seconds=0.5)
            assert 0.4 < time.monotonic() - started < 1.5
            await deferred_end(factory)
        assert failed is not None and failed.kind is FailureKind.CONNECTION
        assert failed.detail.startswith(f"gave up after 0.5 seconds while {words}")

    @pytest_twisted.ensureDeferred
    async def test_slow_redirects_together_have_one_time_limit(self) -> None:
        web = Web()

        def slow(request: Any) -> int:
            from twisted.internet import reactor

            def answer(_: object) -> None:
                if request.channel is None:  # the validator has left
                    return
                request.setResponseCode(302)
                request.setHeader(b"Location", PATH.encode())
                request.finish()

            waiting = deferLater(reactor, 0.3, lambda: None)  # type: ignore[arg-type]
            waiting.addCallback(answer)
            return 1  # NOT_DONE_YET

        web.pages[PATH] = slow
        with listening(site(web)) as port:
            started = time.monotonic()
            failed = await ask(port, seconds=1.0)
            assert time.monotonic() - started < 2
            await pause(0.4)
        assert failed is not None and "gave up after 1 seconds" in failed.detail

    @pytest.mark.parametrize(
        "first",
        [
            b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
            b"\x16\x03\x01\x00\x00",
            HEAD + b"no colon in this line\r\n\r\n",
            HEAD + b"Content-Length: -5\r\n\r\nx",
            HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
            HEAD + b"Transfer-Encoding: rot13\r\n\r\nx",
            HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
            b"HTTP/1.1 abc\r\n\r\n",
            b"HTTP/x 200 OK\r\n\r\n",
            b"HTTP/1.1 302 Found\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: \xff\xfe\r\n\r\n",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            HEAD + b"Content-Length: 0\r\n\r\n",
        ],
    )
    @pytest_twisted.ensureDeferred
    async def test_that_speak_something_else_are_a_failure_with_words(self, first: bytes) -> None:
        with listening(script(first)) as port:
            failed = await ask(port, seconds=0.7)
        assert failed is not None and "a.test" in failed.detail
        assert "inside the CA" not in failed.detail and "OpenSSH" not in failed.detail

    @pytest_twisted.ensureDeferred
    async def test_that_hang_up_early_are_a_failure_with_words(self) -> None:
        class HangUp(Web):
            def render_GET(self, request: Any) -> int:
                request.transport.abortConnection()
                return 1

        with listening(site(HangUp())) as port:
            failed = await ask(port)
        assert failed is not None and "broke off" in failed.detail

        class CutShort(Web):
            def render_GET(self, request: Any) -> int:
                request.setHeader(b"Content-Length", b"500")
                request.write(ANSWER)
                request.transport.loseConnection()
                return 1

        with listening(site(CutShort())) as port:
            failed = await ask(port)
        assert failed is not None and failed.kind is FailureKind.CONNECTION


class TestTheValidatorItself:
    @pytest_twisted.ensureDeferred
    async def test_a_silent_resolver_is_a_failure_of_dns(self) -> None:
        failed = await ask(80, SilentResolver(), seconds=0.2)
        assert failed == FailedProof(
            FailureKind.DNS, "gave up after 0.2 seconds while looking up the addresses of a.test"
        )

    @pytest.mark.parametrize("first", [b"", HEAD + b"\r\n"])
    @pytest_twisted.ensureDeferred
    async def test_being_cancelled_is_no_verdict(self, first: bytes) -> None:
        factory: Any = script(first)
        with listening(factory) as port:
            asking = Deferred.fromCoroutine(validator(port).validate(question()))
            await pause(0.2)
            asking.cancel()
            with pytest.raises(CancelledError):
                await asking
            await deferred_end(factory)

    def test_being_cancelled_while_connecting_is_no_verdict(self) -> None:
        reactor = MemoryReactorClock()
        resolver = FakeResolver({"a.test": ["10.0.0.1", "10.0.0.2"]})
        asking = Deferred.fromCoroutine(Validator(resolver=resolver, reactor=reactor).validate(question()))
        asking.cancel()
        assert isinstance(asking.result, Failure) and asking.result.check(CancelledError)
        asking.addErrback(lambda _: None)
        assert len(reactor.tcpClients) == 1

    def test_time_up_while_connecting_is_a_verdict_and_tries_no_further(self) -> None:
        reactor = MemoryReactorClock()
        resolver = FakeResolver({"a.test": ["10.0.0.1", "10.0.0.2"]})
        asking = Deferred.fromCoroutine(Validator(resolver=resolver, reactor=reactor).validate(question()))
        reactor.advance(10.1)
        assert isinstance(asking.result, FailedProof) and "connecting to 10.0.0.1:80" in asking.result.detail
        assert len(reactor.tcpClients) == 1

    @pytest_twisted.ensureDeferred
    async def test_a_fault_of_ours_is_a_failure_that_sends_to_the_log(self) -> None:
        class Broken(FakeResolver):
            def addresses(self, name: str) -> Any:
                raise RuntimeError("secret detail")

        failed = await ask(80, Broken())
        assert failed is not None and "log says more" in failed.detail and "secret" not in failed.detail

    @pytest_twisted.ensureDeferred
    async def test_many_at_once(self) -> None:
        web = good_site()
        with ExitStack() as stack:
            port = stack.enter_context(listening(site(web)))
            asking = validator(port)
            running = [Deferred.fromCoroutine(asking.validate(question())) for _ in range(50)]
            assert [await each for each in running] == [None] * 50


async def pause(seconds: float) -> None:
    from twisted.internet import reactor

    await deferLater(reactor, seconds)  # type: ignore[arg-type]


async def deferred_end(factory: Any) -> None:
    """Wait until the server has seen the end of all connections: the validator leaves none behind."""
    deadline = time.monotonic() + 2
    while any(made.running for made in factory.made):
        assert time.monotonic() < deadline
        await pause(0.02)
