"""DNS as validation asks it: addresses, TXT and CAA records of a name, within seconds.

A server that settings name by its address is asked by a datagram (`dns_udp.py`); where that is not enough, and for the
machine's own servers, threads ask.

Nothing is remembered between questions: a record that has just been set must be seen. Search lists are never used: a
certificate's name is absolute.
"""

from __future__ import annotations

import enum
import ipaddress
import re
import secrets
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeAlias, TypeVar, cast

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.resolver
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from opencertd.validation import dns_udp
from opencertd.validation.addresses import Address
from opencertd.validation.caa import CaaRecord
from opencertd.validation.dns_wire import Plain, encode_question
from opencertd.validation.hosts import addresses_in_hosts

T = TypeVar("T")
Records: TypeAlias = tuple[dns.rdata.Rdata, ...]

LOOKUP_SECONDS = 5.0
THREADS = 64
"""More than a few accounts' validations need while they wait for servers that do not answer."""

CNAME_HOPS = 8  # as far as common resolvers follow
HOSTS_FILE_LIMIT = 1024 * 1024


class LookupProblem(enum.Enum):
    """Why DNS gave nothing."""

    NO_SUCH_NAME = "no such name"
    NO_ANSWER = "no record of this type"
    TIMEOUT = "timeout"
    SERVER_FAILURE = "server failure"
    UNSIGNED = "not validated by DNSSEC"


class LookupFailed(Exception):  # noqa: N818  (an ordinary answer of DNS)
    """DNS gave nothing: the problem, and words that name what was asked and of whom."""

    def __init__(self, problem: LookupProblem, detail: str) -> None:
        super().__init__(detail)
        self.problem = problem
        self.detail = detail


class Resolver(Protocol):
    """Asks DNS. All methods follow CNAMEs. They fail with `LookupFailed`; `addresses` and `texts` also for nothing."""

    def addresses(self, name: str) -> Deferred[tuple[Address, ...]]:
        """The addresses of `name`, at least one."""

    def texts(self, name: str) -> Deferred[tuple[bytes, ...]]:
        """The TXT records of `name`, at least one; the strings of each joined."""

    def caa(self, name: str) -> Deferred[tuple[CaaRecord, ...]]:
        """The CAA records of `name`; none when DNS says that there are none."""


@dataclass(frozen=True)
class DnsServer:
    """A recursive DNS server: an address or host name, and a port."""

    host: str
    port: int = 53

    @property
    def is_address(self) -> bool:
        """Whether no name must be looked up to ask it."""
        try:
            return not getattr(ipaddress.ip_address(self.host), "scope_id", None)
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_dns_server(text: str) -> DnsServer:
    """`10.0.0.1`, `10.0.0.1:5353`, `[fd00::1]:53`, `fd00::1` or `name:port`. Raises `ValueError` in words."""
    trimmed = text.strip()
    try:
        return DnsServer(str(ipaddress.ip_address(trimmed.strip("[]"))))
    except ValueError:
        pass
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", trimmed)
    port = int(match[2] or 53) if match else 0
    if match is None or not 0 < port < 65536:
        raise ValueError(f"{text!r} is not a DNS server: write HOST or HOST:PORT, such as 127.0.0.1:5353")
    return DnsServer(match[1].strip("[]"), port)


class DnsResolver:
    """Asks `server`, or the machine's own hosts file and resolvers when it is None.

    `reactor` provides `IReactorTime`, `IReactorFromThreads` and `IReactorCore`; the threads start with the first
    question and end with the reactor, or by `stop`. `lifetime`: seconds for one question, all servers, retries and
    CNAMEs included. `dnssec`: whether only answers are taken that the server says to have validated (the AD flag, RFC
    6840 §5.8); the hosts file counts as if validated. `sources`: own addresses to ask from, one of a family at most.
    """

    def __init__(
        self,
        reactor: Any,
        server: DnsServer | None = None,
        *,
        lifetime: float = LOOKUP_SECONDS,
        hosts: Path = Path("/etc/hosts"),
        dnssec: bool = False,
        sources: tuple[Address, ...] = (),
    ) -> None:
        self._dnssec = dnssec
        self._sources: dict[int, str] = {address.version: str(address) for address in sources}
        self._reactor = reactor
        self._server = server
        self._lifetime = lifetime
        self._hosts = hosts
        self._pool = ThreadPool(0, THREADS, name="dns")

    def stop(self) -> None:
        """End the threads; waits for a question under way."""
        if self._pool.started:
            self._pool.stop()

    def addresses(self, name: str) -> Deferred[tuple[Address, ...]]:
        """See `Resolver`."""
        return Deferred.fromCoroutine(self._addresses(name))

    def texts(self, name: str) -> Deferred[tuple[bytes, ...]]:
        """See `Resolver`."""
        return Deferred.fromCoroutine(self._texts(name))

    def caa(self, name: str) -> Deferred[tuple[CaaRecord, ...]]:
        """See `Resolver`."""
        return Deferred.fromCoroutine(self._caa(name))

    async def _texts(self, name: str) -> tuple[bytes, ...]:
        found = await self._found(name, dns.rdatatype.TXT)
        return tuple(b"".join(getattr(record, "strings", ())) for record in found)

    async def _caa(self, name: str) -> tuple[CaaRecord, ...]:
        try:
            found = await self._found(name, dns.rdatatype.CAA)
        except LookupFailed as failure:
            if failure.problem in (LookupProblem.NO_SUCH_NAME, LookupProblem.NO_ANSWER):
                return ()
            raise
        return tuple(map(_caa_record, found))

    async def _addresses(self, name: str) -> tuple[Address, ...]:
        if self._server is None:
            found = await self._in_thread(name, lambda ends: self._in_hosts_file(name))
            if found:
                return found
        families = (dns.rdatatype.AAAA, dns.rdatatype.A)
        both = [Deferred.fromCoroutine(self._found(name, family)) for family in families]
        addresses: list[Address] = []
        failures: list[LookupFailed] = []
        for good, result in await DeferredList(both, consumeErrors=True):
            if good:
                addresses.extend(ipaddress.ip_address(record.to_text()) for record in result)
            elif isinstance(result, Failure) and isinstance(result.value, LookupFailed):
                failures.append(result.value)
            else:
                cast(Failure, result).raiseException()  # cancelled
        if addresses:  # one family is enough: there are servers that never answer for AAAA
            return tuple(addresses)
        raise _most_telling(name, failures)

    async def _found(self, name: str, kind: dns.rdatatype.RdataType) -> Records:
        """The records of `name`. Raises `LookupFailed`."""
        began = self._reactor.seconds()
        if self._server is not None and self._server.is_address:
            found = await self._by_datagram(self._server, name, kind)
            if found is not None:
                return found
        spent = self._reactor.seconds() - began
        return await self._in_thread(name, lambda ends: self._ask(name, kind, ends), self._lifetime - spent)

    async def _by_datagram(self, server: DnsServer, name: str, kind: dns.rdatatype.RdataType) -> Records | None:
        """The records as a single datagram tells of them; None when it does not."""
        what = f"{dns.rdatatype.to_text(kind)} of {name}"
        version = _version(server.host)
        try:
            asked = dns.name.from_text(name)
        except dns.exception.DNSException as error:
            raise self._translated(error, name, what) from error
        if self._sources and version not in self._sources:
            return None
        question = encode_question(secrets.randbits(16), asked, kind, dnssec=self._dnssec)
        patience, source = min(dns_udp.PATIENCE, self._lifetime / 2), self._sources.get(version)
        response = await dns_udp.ask(
            self._reactor, question, server.host, server.port, patience=patience, source=source
        )
        match response:
            case None:
                return None
            case Plain(flags, records):
                self._check_signed(flags, what)
                return records or self._none(name, what, asked)
        try:
            if response.rcode() == dns.rcode.NXDOMAIN:
                raise self._no_such_name(_nxdomain(asked, response), name, what)
            answer = dns.resolver.Answer(asked, kind, dns.rdataclass.IN, cast(dns.message.QueryMessage, response))
        except dns.exception.DNSException:
            return None
        return self._records(answer, name, what)

    def _in_thread(self, name: str, ask: Callable[[float], T], seconds: float | None = None) -> Deferred[T]:
        """`ask` in a thread; it is given the monotonic time at which its answer is no longer waited for."""
        lifetime = self._lifetime if seconds is None else seconds
        if not self._pool.started and not self._pool.joined:
            self._pool.start()
            self._reactor.addSystemEventTrigger("during", "shutdown", self.stop)

        def too_late(result: object, seconds: float) -> NoReturn:
            raise self._timed_out(name)

        answer = deferToThreadPool(self._reactor, self._pool, ask, time.monotonic() + lifetime)
        # dnspython keeps to the lifetime by itself, give or take; this one also counts the wait for a thread
        return answer.addTimeout(lifetime + 0.5, self._reactor, too_late)

    def _in_hosts_file(self, name: str) -> tuple[Address, ...]:
        try:
            with self._hosts.open(encoding="utf-8", errors="replace") as table:
                return addresses_in_hosts(table.read(HOSTS_FILE_LIMIT), name)
        except OSError:
            return ()

    def _ask(self, name: str, kind: dns.rdatatype.RdataType, ends: float) -> Records:
        """In a thread: the records of `name`. Raises `LookupFailed`."""
        what = f"{dns.rdatatype.to_text(kind)} of {name}"
        try:
            asked = dns.name.from_text(name)
            resolver = self._configured()
            for _ in range(CNAME_HOPS + 1):
                left = ends - time.monotonic()
                if left <= 0:
                    raise self._timed_out(what)
                answer = resolver.resolve(
                    asked, kind, search=False, raise_on_no_answer=False, lifetime=left, source=self._source(resolver)
                )
                found = self._records(answer, name, what)
                if found is not None:
                    return found
                asked = answer.canonical_name  # this server leaves following CNAMEs to us
        except dns.resolver.NXDOMAIN as error:
            raise self._no_such_name(error, name, what) from error
        except dns.exception.DNSException as error:
            raise self._translated(error, name, what) from error
        except OSError as error:
            raise LookupFailed(LookupProblem.SERVER_FAILURE, f"cannot ask DNS for {what}: {error}") from error
        raise LookupFailed(LookupProblem.SERVER_FAILURE, f"{name} leads through more than {CNAME_HOPS} CNAMEs")

    def _records(self, answer: dns.resolver.Answer, name: str, what: str) -> Records | None:
        """The records of an answer, or None when it only leads on. Raises `LookupFailed`."""
        self._check_signed(answer.response.flags, what)
        if answer.rrset is not None:
            return tuple(answer.rrset)
        return None if answer.canonical_name != answer.qname else self._none(name, what, answer.qname)

    def _none(self, name: str, what: str, asked: dns.name.Name) -> NoReturn:
        raise LookupFailed(LookupProblem.NO_ANSWER, f"DNS has no {what}{_by_alias(name, asked)}")

    def _no_such_name(self, error: dns.resolver.NXDOMAIN, name: str, what: str) -> LookupFailed:
        for response in error.responses().values():  # type: ignore[no-untyped-call]
            self._check_signed(response.flags, what)
        return self._translated(error, name, what)

    def _configured(self) -> dns.resolver.Resolver:
        """As settings say, or as `/etc/resolv.conf` says now: machines move between networks."""
        if self._server is None:
            resolver = dns.resolver.Resolver()
        else:
            resolver = dns.resolver.Resolver(configure=False)
            kind = socket.SOCK_DGRAM
            found = socket.getaddrinfo(self._server.host, self._server.port, type=kind)
            resolver.nameservers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
            resolver.port = self._server.port
        if self._dnssec:
            resolver.use_edns(0, dns.flags.DO, dns.message.DEFAULT_EDNS_PAYLOAD)
            resolver.flags = dns.flags.RD | dns.flags.AD
        if self._sources:
            resolver.nameservers = [each for each in resolver.nameservers if _version(each) in self._sources]
        return resolver

    def _source(self, resolver: dns.resolver.Resolver) -> str | None:
        """The own address to ask from. With sources of both families the first server's family decides."""
        if not self._sources:
            return None
        versions = [_version(each) for each in resolver.nameservers]
        if not versions:
            raise LookupFailed(LookupProblem.SERVER_FAILURE, "no DNS server is of a family that this CA asks from here")
        resolver.nameservers = [each for each in resolver.nameservers if _version(each) == versions[0]]
        return self._sources[versions[0]]

    def _check_signed(self, flags: int, what: str) -> None:
        if self._dnssec and not flags & dns.flags.AD:
            raise LookupFailed(
                LookupProblem.UNSIGNED,
                f"DNS answers for {what} without DNSSEC (no AD flag), which this CA's settings require",
            )

    def _timed_out(self, what: str) -> LookupFailed:
        whom = f"the DNS server {self._server}" if self._server else "this machine's DNS servers"
        return LookupFailed(
            LookupProblem.TIMEOUT, f"no answer for {what} from {whom} within {self._lifetime:g} seconds"
        )

    def _translated(self, error: dns.exception.DNSException, name: str, what: str) -> LookupFailed:
        match error:
            case dns.resolver.NXDOMAIN():
                alias = _by_alias(name, error.canonical_name)
                return LookupFailed(LookupProblem.NO_SUCH_NAME, f"DNS knows no name {name}{alias} (NXDOMAIN)")
            case dns.exception.Timeout():
                return self._timed_out(what)
            case dns.resolver.NoNameservers():
                told = "; ".join(_told(entry) for entry in error.kwargs.get("errors", ()))
                return LookupFailed(LookupProblem.SERVER_FAILURE, f"DNS failed for {what}: {told or 'no server'}")
            case dns.resolver.NoResolverConfiguration():
                return LookupFailed(
                    LookupProblem.SERVER_FAILURE, f"cannot ask for {what}: this machine names no DNS server"
                )
        return LookupFailed(LookupProblem.SERVER_FAILURE, f"DNS failed for {what}: {type(error).__name__}")


def _nxdomain(asked: dns.name.Name, response: dns.message.Message) -> dns.resolver.NXDOMAIN:
    return dns.resolver.NXDOMAIN(qnames=[asked], responses={asked: response})  # type: ignore[no-untyped-call]


def _version(server: object) -> int:
    """4 or 6. A server in another form, as DNS over HTTPS, is none of these machines' resolv.conf."""
    return ipaddress.ip_address(str(server).partition("%")[0]).version


def _caa_record(record: Any) -> CaaRecord:
    return CaaRecord(record.flags, record.tag.decode("ascii", "replace").lower(), bytes(record.value))


def _by_alias(name: str, canonical: dns.name.Name) -> str:
    """Where CNAMEs led, when they did."""
    reached = canonical.to_text(omit_final_dot=True).lower()
    return "" if reached == name.lower().removesuffix(".") else f", whose CNAME leads to {reached}"


def _told(entry: tuple[Any, ...]) -> str:
    """What one server said (an entry of dnspython's list: server, TCP or not, port, error or rcode, response)."""
    server, _, _, error, _ = entry
    said = f"answered {error}" if isinstance(error, str) else f"gave no usable answer ({type(error).__name__})"
    return f"{server} {said}"


def _most_telling(name: str, failures: Sequence[LookupFailed]) -> LookupFailed:
    """Of the failures for A and AAAA the one that says most: a missing type says little beside a dead server."""
    for failure in failures:
        if failure.problem is not LookupProblem.NO_ANSWER:
            return failure
    return LookupFailed(LookupProblem.NO_ANSWER, f"{name} has neither an A nor an AAAA record in DNS")
