"""A small DNS server for tests: UDP and TCP on loopback, in threads, so that it answers while a test blocks.

In a test: `with DnsServer() as server: server.add("_acme-challenge.a.test", "TXT", "value")`. As a script:
`python tests/dns_server.py --port N --records FILE`, where the file is read again for each question; names under
`.test` lead to 127.0.0.1 there unless the file says otherwise.

A record is a line `NAME TYPE VALUE`. Beside the types of DNS there are behaviours of a name: `NXDOMAIN`, `SERVFAIL`,
`REFUSED` and `SILENCE`, without a value. A name `*.x` stands for all names below x, for types they lack themselves.
"""

from __future__ import annotations

import argparse
import contextlib
import socketserver
import struct
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

BEHAVIOURS = frozenset({"NXDOMAIN", "SERVFAIL", "REFUSED", "SILENCE"})


class Record(NamedTuple):
    """`name` in lower case without a final dot; `type` in upper case; `value` as zone files have it."""

    name: str
    type: str
    value: str = ""


class Query(NamedTuple):
    """A question that came: by "udp" or "tcp", for a name and a type."""

    transport: str
    name: str
    type: str


def parse_records(text: str) -> list[Record]:
    """Records of lines; empty ones and those that begin with `#` or `;` are skipped."""
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip()[0] in "#;":
            continue
        name, type_, *value = line.split(None, 2)
        found.append(Record(name.lower().rstrip("."), type_.upper(), value[0].strip() if value else ""))
    return found


def rdata_of(record: Record) -> dns.rdata.Rdata:
    """A TXT value without quotation marks is one text, cut into strings of 255 octets."""
    value = record.value
    if record.type == "TXT" and not value.startswith('"'):
        cut = [value[at : at + 255] for at in range(0, len(value), 255)] or [""]
        value = " ".join('"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in cut)
    if record.type == "CNAME":
        value = value.rstrip(".") + "."
    return dns.rdata.from_text(dns.rdataclass.IN, record.type, value)


class Answers:
    """What the server says, purely: records to messages.

    `follow`: whether it follows CNAMEs as a resolver does. `signed`: whether it says to have validated by DNSSEC.
    """

    def __init__(self, records: Sequence[Record], follow: bool = True, signed: bool = False) -> None:
        self._records = records
        self._follow = follow
        self._signed = signed

    def reply(self, query: dns.message.Message) -> dns.message.Message | None:
        """The response, or None for silence."""
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        if self._behaviour(name) == "SILENCE":
            return None
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA | (dns.flags.AD if self._signed else 0)
        for _ in range(16):
            code = self._behaviour(name) or ("NOERROR" if self._find(name, None) else "NXDOMAIN")
            response.set_rcode(dns.rcode.from_text(code))
            if code != "NOERROR":
                break
            self._put(response, name, self._find(name, dns.rdatatype.to_text(question.rdtype)))
            cname = self._find(name, "CNAME")
            if not cname or question.rdtype == dns.rdatatype.CNAME:
                break
            self._put(response, name, cname)
            if not self._follow:
                break
            name = cname[0].value.lower().rstrip(".")
        return response

    def _behaviour(self, name: str) -> str | None:
        return next((r.type for r in self._records if r.name == name and r.type in BEHAVIOURS), None)

    def _find(self, name: str, type_: str | None) -> list[Record]:
        """Records of the name itself, else of the nearest `*.` above it; of any type if None."""
        fitting = [r for r in self._records if type_ in (None, r.type)]
        labels = name.split(".")
        wildcards = [f"*.{'.'.join(labels[at:])}" for at in range(1, len(labels))]
        for candidate in (name, *wildcards, "*"):
            found = [r for r in fitting if r.name == candidate]
            if found:
                return found
        return []

    @staticmethod
    def _put(response: dns.message.Message, name: str, records: Sequence[Record]) -> None:
        if records:
            data = [rdata_of(record) for record in records]
            response.answer.append(dns.rrset.from_rdata_list(f"{name}.", 1, data))


def in_datagram(response: dns.message.Message, query: dns.message.Message) -> bytes:
    """The response in what the asker takes by UDP, or a truncated one that sends them to TCP."""
    limit = max(512, query.payload) if query.edns >= 0 else 512
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        short = dns.message.make_response(query)
        short.flags |= dns.flags.TC
        return short.to_wire()


class DnsServer:
    """Answers at (`host`, `port`) between `start` and `stop`; port 0 takes a free one. `queries` keeps what came."""

    def __init__(
        self,
        records: Sequence[Record] = (),
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        follow: bool = True,
        read: Callable[[], Sequence[Record]] | None = None,
    ) -> None:
        self._own = list(records)
        self._read = read or (lambda: list(self._own))
        self._follow = follow
        self._host = host
        self.port = port
        self.queries: list[Query] = []
        self.askers: list[str] = []
        self.signed = False
        self._servers: list[socketserver.BaseServer] = []

    def add(self, name: str, type_: str, value: str = "") -> None:
        """Add a record beside those of the same name and type."""
        self._own = [*self._own, Record(name.lower().rstrip("."), type_.upper(), value)]

    def remove(self, name: str, type_: str | None = None) -> None:
        """Remove all records of the name, or those of one type."""
        self._own = [r for r in self._own if r.name != name.lower().rstrip(".") or type_ not in (None, r.type)]

    def start(self) -> None:
        """Listen; returns when questions are answered."""
        for _ in range(20):
            tcp = _Tcp((self._host, self.port), self._handler("tcp"))
            port = tcp.server_address[1]
            try:
                udp = _Udp((self._host, port), self._handler("udp"))
            except OSError:  # the port that TCP got is taken in UDP
                tcp.server_close()
                if self.port:
                    raise
                continue
            self.port = port
            self._servers = [tcp, udp]
            for server in self._servers:
                threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            return
        raise RuntimeError("no port is free in both UDP and TCP")

    def stop(self) -> None:
        """Stop listening."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        self._servers = []

    def __enter__(self) -> DnsServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def answer(self, wire: bytes, transport: str) -> bytes | None:
        """The octets to send back, or None for silence."""
        try:
            query = dns.message.from_wire(wire)
        except dns.exception.DNSException:
            return None
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        self.queries.append(Query(transport, name, dns.rdatatype.to_text(question.rdtype)))
        response = Answers(self._read(), self._follow, self.signed).reply(query)
        if response is None:
            return None
        return in_datagram(response, query) if transport == "udp" else response.to_wire()

    def _handler(self, transport: str) -> type[socketserver.BaseRequestHandler]:
        def datagram(handler: socketserver.BaseRequestHandler) -> None:
            wire, sock = handler.request
            self.askers.append(handler.client_address[0])
            reply = self.answer(wire, transport)
            if reply is not None:
                sock.sendto(reply, handler.client_address)

        def stream(handler: socketserver.BaseRequestHandler) -> None:
            with handler.request.makefile("rwb") as file:
                while len(head := file.read(2)) == 2:
                    reply = self.answer(file.read(struct.unpack("!H", head)[0]), transport)
                    if reply is None:
                        return
                    file.write(struct.pack("!H", len(reply)) + reply)
                    file.flush()

        handle = datagram if transport == "udp" else stream
        return type("Handler", (socketserver.BaseRequestHandler,), {"handle": handle})


class _Udp(socketserver.ThreadingUDPServer):
    daemon_threads = True


class _Tcp(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


def file_reader(path: Path) -> Callable[[], Sequence[Record]]:
    """Reads the file anew each time, after it the names under `.test`; a missing file has no records."""

    def read() -> Sequence[Record]:
        text = ""
        with contextlib.suppress(FileNotFoundError):
            text = path.read_text()
        return [*parse_records(text), Record("*.test", "A", "127.0.0.1")]

    return read


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description="a DNS server for tests")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--records", type=Path, required=True, help="lines of NAME TYPE VALUE")
    chosen = parser.parse_args()
    with DnsServer(host=chosen.host, port=chosen.port, read=file_reader(chosen.records)):
        threading.Event().wait()


if __name__ == "__main__":
    main()
