"""Status side by side with its peers in one run: `python -m bench.status [--certificates N] [--seconds S]`.

OCSP by POST and GET about one certificate and about all of N, over TLS, with new connections, with nonces; CRLs and CA
certificates. Beside each stands nginx with one worker giving the same bytes as a file, `cfssl ocspserve` where it can
do the same, or how often one core makes the bare signature. All ask by wrk, one after another.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import re
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from bench.markdown import markdown
from bench.measure import memory
from bench.ocsp import check_good, request_der
from bench.status_peers import Cfssl, Nginx
from bench.wrk import Asked, Rate, lua, run
from opencertd.asn1 import der
from opencertd.keys.files import encode_private_key
from tests.interop.daemon import Daemon

SPREAD = 0x9E3779B1  # odd: n times this, modulo 2 to the 32nd, is another number for each n
TYPE = "application/ocsp-request"
NONCE_OID = "1.3.6.1.5.5.7.48.1.2"
LONGEST_PREPARATION = 1800.0
_PART = 20_000
_PREPARED = re.compile(r"(\d+) OCSP answers prepared")


@dataclass(frozen=True)
class Line:
    """One line of the table. `ratio`: our rate to the peer's; `cpu_ratio`: its CPU time to ours, which is firmer."""

    name: str
    ours: float
    cpu_us: float
    p99_ms: float
    peer: str
    theirs: float
    their_cpu_us: float

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def cpu_ratio(self) -> float:
        return self.their_cpu_us / self.cpu_us if self.cpu_us else 0.0


COLUMNS = (
    ("OCSP, CRL and CA certificates", "name", "<48"),
    ("per second", "ours", ">10,.0f"),
    ("CPU µs each", "cpu_us", ">11.1f"),
    ("p99 ms", "p99_ms", ">8.2f"),
    ("peer", "peer", "<26"),
    ("its rate", "theirs", ">9,.0f"),
    ("its CPU µs", "their_cpu_us", ">10.1f"),
    ("ratio", "ratio", ">6.2f"),
    ("of CPU", "cpu_ratio", ">7.2f"),
)


def serial(number: int) -> int:
    """The serial of the certificate of that number, as scattered as random ones."""
    return 1 << 128 | (number * SPREAD % (1 << 32)) << 96


def fill(database: Path, count: int) -> None:
    """Put so many certificates into the daemon's database, while the daemon is down."""
    with closing(sqlite3.connect(database)) as connection:
        (issuer,) = connection.execute("SELECT id FROM issuers WHERE name = 'ecdsa'").fetchone()
        now = int(time.time())
        for first in range(0, count, _PART):
            connection.executemany(
                "INSERT INTO certificates (issuer_id, serial, state, transaction_key, profile, requester,"
                " requester_label, subject, names, spki_sha256, not_before, not_after, owner, intended_at, issued_at,"
                " certificate_der) VALUES (?, ?, 'issued', ?, 'default', 'bench', '', '', '[]', 'ab', ?, ?, 'bench/0',"
                " ?, ?, ?)",
                (
                    (issuer, f"{serial(n):x}", f"bench:{n}", now, now + 30 * 86400, now, now, bytes(500))
                    for n in range(first, min(first + _PART, count))
                ),
            )
        connection.commit()


class Scripts:
    """What wrk asks, for a number of certificates of one issuer."""

    def __init__(self, issuer: x509.Certificate, count: int) -> None:
        self.one = request_der(issuer, serial(0))
        self._count = count
        where = self.one.index(serial(0).to_bytes(17, "big"))
        self._before, self._after = self.one[: where + 1], self.one[where + 5 :]

    def post(self) -> str:
        """The same certificate."""
        return f'wrk.method="POST"\nwrk.headers["Content-Type"]="{TYPE}"\nwrk.body={lua(self.one)}'

    def post_any(self) -> str:
        """Any of all, by chance."""
        return f"""{self._chance()}
            wrk.headers["Content-Type"] = "{TYPE}"
            request = function() return wrk.format("POST", nil, nil, any()) end"""

    def get_any(self) -> str:
        """Any of all, by chance, in the path."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        return f"""{self._chance()}
            local digits = {{}}
            for at = 1, 64 do local d = ("{alphabet}"):sub(at, at)
                digits[at - 1] = ({{["+"] = "%2B", ["/"] = "%2F"}})[d] or d end
            local function base64(text)
                local out = {{}}
                for at = 1, #text, 3 do
                    local a, b, c = text:byte(at, at + 2)
                    local n = a * 65536 + (b or 0) * 256 + (c or 0)
                    out[#out + 1] = digits[math.floor(n / 262144)] .. digits[math.floor(n / 4096) % 64]
                        .. (b and digits[math.floor(n / 64) % 64] or "%3D") .. (c and digits[n % 64] or "%3D")
                end
                return table.concat(out)
            end
            request = function() return wrk.format("GET", "/ca/ocsp/" .. base64(any())) end"""

    def post_nonce(self) -> str:
        """The same certificate, each time with another nonce of 32 octets."""
        head, at = self._nonced()
        return f"""wrk.headers["Content-Type"] = "{TYPE}"
            local count = 0
            local tag = tostring({{}}):sub(-8)
            init = function() math.randomseed(os.time() + tonumber(tag, 16) % 100000) end
            request = function()
                count = count + 1
                local nonce = string.format("%08d%s%016d", math.random(0, 99999999), tag, count)
                return wrk.format("POST", nil, nil, {lua(head[:at])} .. nonce .. {lua(head[at + 32 :])})
            end"""

    def _nonced(self) -> tuple[bytes, int]:
        nonce = b"n" * 32
        extension = der.sequence(der.oid(NONCE_OID), der.octet_string(der.octet_string(nonce)))
        cert_ids = der.sequence(der.sequence(self.one[8:]))
        whole = der.sequence(der.sequence(cert_ids, der.explicit(2, der.sequence(extension))))
        return whole, whole.index(nonce)

    def _chance(self) -> str:
        return f"""local before, after = {lua(self._before)}, {lua(self._after)}
            init = function() math.randomseed(os.time()) end
            local function any()
                local n = (math.random(0, {self._count - 1}) * {SPREAD}) % 4294967296
                return before .. string.char(math.floor(n / 16777216), math.floor(n / 65536) % 256,
                    math.floor(n / 256) % 256, n % 256) .. after
            end"""


class StatusBench:
    """One daemon, and each load put on it and on its peers in turn."""

    def __init__(self, place: Path, certificates: int, seconds: float, say: Callable[[str], None]) -> None:
        self._place, self._certificates, self._seconds, self._say = place, certificates, seconds, say
        settings = place / "opencertd.toml"
        settings.write_text("[status]\nprepare_ahead = true\n")
        self._ca = Daemon(place / "state", dn="CN=Bench CA", extra=("--config", str(settings)))

    def run(self) -> Iterator[Line]:
        """Every line, as it was measured."""
        self._ca.start()
        self._ca.stop()
        fill(self._ca.state / "opencertd.sqlite3", self._certificates)
        with self._ca.running():
            before, began = memory(self._ca.pids()).rss, time.monotonic()
            self._wait_until_prepared()
            took, after = time.monotonic() - began, memory(self._ca.pids()).rss
            self._say(
                f"{self._certificates:,} prepared after {took:.0f} s: {before:.0f} MB before, {after:.0f} MB after"
            )
            issuer = x509.load_der_x509_certificate(self._fetch("/ca/ecdsa/certificate"))
            scripts = Scripts(issuer, self._certificates)
            answer = self._fetch("/ca/ocsp", scripts.one)
            check_good(answer)
            nginx = Nginx(self._place, *self._listener_pair())
            self._files(nginx.root, answer)
            with nginx.running(), Cfssl(self._place, answer).running() as cfssl:
                yield from self._lines(scripts, nginx, cfssl)
        yield self._two_workers(scripts)

    def _lines(self, scripts: Scripts, nginx: Nginx, cfssl: Cfssl) -> Iterator[Line]:
        plain, tls = f"{self._ca.http_url}/ca/ocsp", f"{self._ca.url}/ca/ocsp"
        path = "/" + quote(base64.b64encode(scripts.one), safe="")
        static, tls_static = (f"http://127.0.0.1:{nginx.port}/", f"https://127.0.0.1:{nginx.tls_port}/")
        of_nginx = ("nginx, a file", nginx.pids, Asked(static + "answer"))
        many = f"{self._certificates:,} certificates"
        post, get = Asked(plain, scripts.post()), Asked(plain + path)
        yield self._line("OCSP by POST", post, *of_nginx)
        by_cfssl = Asked(f"http://127.0.0.1:{cfssl.port}/", scripts.post())  # GET it does not answer
        yield self._line("OCSP by POST", post, "cfssl, all cores", cfssl.pids, by_cfssl)
        yield self._line("OCSP by GET", get, *of_nginx)
        one = ("the same about one", self._ca.pids)
        yield self._line(f"OCSP by POST, any of {many}", Asked(plain, scripts.post_any()), *one, post)
        yield self._line(f"OCSP by GET, any of {many}", Asked(plain, scripts.get_any()), *one, get)
        tls_get = Asked(tls + path)
        yield self._line("OCSP by GET, TLS", tls_get, "nginx, a file, TLS", nginx.pids, Asked(tls_static + "answer"))
        each = Asked(tls_static + "answer", close=True)
        yield self._line(
            "OCSP by GET, a new TLS connection each", Asked(tls + path, close=True), "nginx", nginx.pids, each
        )
        each = Asked(static + "answer", close=True)
        yield self._line(
            "OCSP by GET, a new connection each", Asked(plain + path, close=True), "nginx", nginx.pids, each
        )
        yield self._nonces(Asked(plain, scripts.post_nonce()))
        for name, where in (("CRL", "crl"), ("CA certificate", "certificate")):
            asked = Asked(f"{self._ca.http_url}/ca/ecdsa/{where}")
            yield self._line(name, asked, "nginx, a file", nginx.pids, Asked(static + where))

    def _line(self, name: str, ours: Asked, peer: str, their_pids: Callable[[], list[int]], theirs: Asked) -> Line:
        """The peer, we, the peer, we: the better of each, since others may use the machine."""
        rates: tuple[list[Rate], list[Rate]] = ([], [])
        for _ in range(2):
            rates[0].append(run(theirs, their_pids(), self._seconds, self._place))
            rates[1].append(run(ours, self._ca.pids(), self._seconds, self._place))
        them, us = (max(some, key=_by_rate) for some in rates)
        line = Line(name, us.per_second, us.cpu_us, us.p99_ms, peer, them.per_second, them.cpu_us)
        self._say(f"{name}: {line.ours:.0f}/s, {peer}: {line.theirs:.0f}/s, ratio {line.ratio:.2f}")
        return line

    def _nonces(self, asked: Asked) -> Line:
        ours, bare = [], []
        for _ in range(2):
            bare.append(bare_signatures())
            ours.append(run(asked, self._ca.pids(), self._seconds, self._place))
        us, them = max(ours, key=_by_rate), max(bare)
        name, peer = "OCSP by POST, each with its own nonce", "bare P-256 signatures"
        line = Line(name, us.per_second, us.cpu_us, us.p99_ms, peer, them, 1e6 / them)
        self._say(f"{name}: {line.ours:.0f}/s, {peer}: {line.theirs:.0f}/s, ratio {line.ratio:.2f}")
        return line

    def _two_workers(self, scripts: Scripts) -> Line:
        """Two workers to one, nothing else being different; the generator has the other cores."""
        rates = []
        for workers in (1, 2):
            ca = Daemon(self._ca.state, dn="", workers=workers)
            with ca.running():
                asked = Asked(f"{ca.http_url}/ca/ocsp", scripts.post())
                rates.append(max((run(asked, ca.pids(), self._seconds, self._place) for _ in range(2)), key=_by_rate))
        them, us = rates
        line = Line(
            "OCSP by POST, two workers", us.per_second, us.cpu_us, us.p99_ms, "one worker", them.per_second, them.cpu_us
        )
        self._say(f"{line.name}: {line.ours:.0f}/s, {line.peer}: {line.theirs:.0f}/s, ratio {line.ratio:.2f}")
        return line

    def _wait_until_prepared(self) -> None:
        """Until the daemon says so. Raises RuntimeError when it does not."""
        end = time.monotonic() + LONGEST_PREPARATION
        while not any(int(made) >= self._certificates for made in _PREPARED.findall(self._ca.log)):
            if time.monotonic() > end:
                raise RuntimeError(f"not prepared after {LONGEST_PREPARATION:.0f} s:\n{self._ca.log[-2000:]}")
            time.sleep(0.5)

    def _fetch(self, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self._ca.http_port, timeout=30)
        with closing(connection):
            connection.request("POST" if body else "GET", path, body, {"Content-Type": TYPE} if body else {})
            response = connection.getresponse()
            content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status}")
        return content

    def _files(self, root: Path, answer: bytes) -> None:
        (root / "answer").write_bytes(answer)
        for name in ("crl", "certificate"):
            (root / name).write_bytes(self._fetch(f"/ca/ecdsa/{name}"))

    def _listener_pair(self) -> tuple[Path, Path]:
        """A certificate for nginx with a key of the kind the daemon's listener has: P-256."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        start = x509.load_der_x509_certificate(self._fetch("/ca/ecdsa/certificate"))
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(1).not_valid_before(start.not_valid_before_utc)
        certificate = builder.not_valid_after(start.not_valid_after_utc).sign(key, hashes.SHA256())
        chain, key_file = self._place / "nginx.pem", self._place / "nginx.key"
        chain.write_bytes(certificate.public_bytes(Encoding.PEM))
        key_file.write_bytes(encode_private_key(key, None))
        return chain, key_file


def _by_rate(rate: Rate) -> float:
    return rate.per_second


def bare_signatures(seconds: float = 1.0) -> float:
    """How often one core signs 250 octets by P-256 in a second."""
    key, algorithm, data = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(hashes.SHA256()), bytes(250)
    began, count = time.perf_counter(), 0
    while time.perf_counter() < began + seconds:
        for _ in range(100):
            key.sign(data, algorithm)
        count += 100
    return count / (time.perf_counter() - began)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.status", description="Measure OCSP and CRLs beside peers.")
    parser.add_argument("--certificates", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load, of which there are four a line")
    options = parser.parse_args()

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="opencertd-bench-") as directory:
        bench = StatusBench(Path(directory), options.certificates, options.seconds, say)
        lines = list(bench.run())
    print(markdown(COLUMNS, lines))


if __name__ == "__main__":
    main()
