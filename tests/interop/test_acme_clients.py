"""ACME clients get, renew and revoke as `docs/acme-clients.md` prints: directly, behind nginx, by 1 worker or 3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from tests.interop.machine import NAME, PAGE, Machine
from tests.interop.site import Site

Way = Callable[[str], Machine]


@pytest.fixture
def way(request: pytest.FixtureRequest, tmp_path: Path) -> Way:
    """A new machine whose CA is the site of that name."""

    def machine(name: str) -> Machine:
        found = request.getfixturevalue(name)
        assert isinstance(found, Site)
        return Machine(found, tmp_path)

    return machine


@pytest.fixture
def machine(request: pytest.FixtureRequest, way: Way) -> Machine:
    """A new machine for each way to reach a CA that the test is marked with."""
    return way(request.param)


def ways(*names: str) -> pytest.MarkDecorator:
    """Run the test with a machine for each of these sites."""
    return pytest.mark.parametrize("machine", names, indirect=True)


def port_words(machine: Machine, client: str) -> dict[str, str]:
    """The port that the lines of that client name for http-01, and this test's."""
    port = str(machine.site.ca.http01_port)
    flags = {"certbot": "--http-01-port {}", "lego": "--http.port :{}", "acme-tiny": "--check-port {}"}
    flag = flags[client]
    return {flag.format(80): flag.format(port)}


@ways("one_worker_behind_nginx", "three_workers_behind_nginx")
def test_certbot(machine: Machine) -> None:
    configure_certbot(machine)
    live = machine.place / "etc-letsencrypt" / "live" / NAME
    machine.follow("certbot get", port_words(machine, "certbot"))
    first = machine.check(live / "cert.pem", chain=live / "chain.pem")
    machine.follow("certbot renew")
    second = machine.check(live / "cert.pem", chain=live / "chain.pem")
    assert first.serial_number != second.serial_number
    kept = {name: machine.place / name for name in ("cert.pem", "chain.pem")}
    for name, path in kept.items():
        path.write_bytes((live / name).read_bytes())
    machine.follow("certbot revoke")  # which removes the files as well
    machine.wait_revoked(kept["cert.pem"], kept["chain.pem"])


def configure_certbot(machine: Machine) -> None:
    """Its directories below the machine's; by default they are in /etc and /var."""
    settings = machine.place / ".config" / "letsencrypt" / "cli.ini"
    settings.parent.mkdir(parents=True)
    kinds = {"config": "etc", "work": "lib", "logs": "log"}
    settings.write_text("".join(f"{kind}-dir = {machine.place}/{where}-letsencrypt\n" for kind, where in kinds.items()))


@ways("three_workers")
def test_certbot_dns01(machine: Machine) -> None:
    configure_certbot(machine)
    machine.follow("certbot dns")
    live = machine.place / "etc-letsencrypt" / "live" / NAME
    machine.check(live / "cert.pem", NAME, f"*.{NAME}", chain=live / "chain.pem")


@ways("one_worker", "three_workers", "one_worker_behind_nginx", "three_workers_behind_nginx")
def test_lego(machine: Machine) -> None:
    certificate = machine.place / ".lego" / "certificates" / f"{NAME}.crt"
    machine.follow("lego get", port_words(machine, "lego"))
    first = machine.check(certificate)
    machine.follow("lego renew", port_words(machine, "lego"))
    assert machine.check(certificate).serial_number != first.serial_number
    machine.follow("lego revoke")
    machine.wait_revoked(certificate)


@ways("one_worker", "three_workers_behind_nginx")
def test_lego_tlsalpn01(machine: Machine) -> None:
    machine.follow("lego tls", {"--tls.port :443": f"--tls.port :{machine.site.ca.tlsalpn01_port}"})
    machine.check(machine.place / ".lego" / "certificates" / f"{NAME}.crt")


@ways("one_worker_behind_nginx")
def test_lego_dns01(machine: Machine) -> None:
    machine.script("lego-record", LEGO_RECORD)
    machine.follow("lego dns")
    machine.check(machine.place / ".lego" / "certificates" / f"{NAME}.crt", NAME, f"*.{NAME}")


LEGO_RECORD = """#!/bin/sh
case "$1" in
    present) exec ./txt-record add "${2%.}" "$3" ;;
    cleanup) exec ./txt-record remove "${2%.}" "$3" ;;
esac
"""


@pytest.mark.parametrize(
    ("client", "machine"),
    [
        ("dehydrated", "one_worker"),
        ("dehydrated", "three_workers_behind_nginx"),
        ("uacme", "three_workers"),
        ("uacme", "one_worker_behind_nginx"),
    ],
    indirect=["machine"],
)
def test_with_a_web_server(machine: Machine, client: str) -> None:
    """Get, renew and revoke by clients that leave the tokens to a web server; they are slow, so not in all ways."""
    directory = machine.place / {"dehydrated": "certs", "uacme": "uacme.d"}[client] / NAME
    certificate = directory / "cert.pem"
    chain = directory / "chain.pem" if client == "dehydrated" else None
    with machine.webroot():
        machine.follow(f"{client} get")
        first = machine.check(certificate, chain=chain)
        machine.follow(f"{client} renew")
        second = machine.check(certificate, chain=chain)
    assert first.serial_number != second.serial_number
    kept = machine.place / "kept.pem"
    kept.write_bytes(certificate.read_bytes())
    machine.follow(f"{client} revoke")
    machine.wait_revoked(kept, chain)


@ways("one_worker_behind_nginx", "three_workers")
def test_acme_tiny(machine: Machine) -> None:
    with machine.webroot():
        machine.follow("acme-tiny get", port_words(machine, "acme-tiny"))
        first = machine.check(machine.place / "www.pem")
        machine.follow("acme-tiny get", port_words(machine, "acme-tiny"))
    assert machine.check(machine.place / "www.pem").serial_number != first.serial_number


NPM = Path(__file__).parent / "npm" / "node_modules"


@pytest.mark.parametrize(
    ("challenge", "machine"),
    [
        ("http-01", "one_worker"),
        ("http-01", "three_workers_behind_nginx"),
        ("dns-01", "one_worker_behind_nginx"),
        ("tls-alpn-01", "three_workers"),
    ],
    indirect=["machine"],
)
def test_acme_client_of_npm(machine: Machine, challenge: str) -> None:
    """By http-01 as printed; by the others with the printed lines' ways to prove replaced."""
    if not NPM.exists():
        pytest.fail("acme-client is missing: make npm-packages")
    (machine.place / "node_modules").symlink_to(NPM)
    (machine.place / "trust-anchors.pem").symlink_to(machine.site.ca.trust_anchors)
    (machine.place / "get.js").write_text(machine.text("acme-client", PROOFS[challenge]))
    preload = PRELOAD.format(http=machine.site.ca.http01_port, tls=machine.site.ca.tlsalpn01_port)
    (machine.place / "ports.js").write_text(preload)
    node = ("env", "NODE_EXTRA_CA_CERTS=trust-anchors.pem", "node", "--require", "./ports.js", "get.js")
    certificate = machine.place / "www.pem"
    with machine.webroot():
        machine.run(*node)
        first = machine.check(certificate)
        machine.run(*node, "revoke")
    machine.wait_revoked(certificate)
    assert x509.load_pem_x509_certificate(certificate.read_bytes()).serial_number != first.serial_number


PRELOAD = """
const settings = require('acme-client').axios.defaults.acmeSettings;
settings.httpChallengePort = {http};
settings.tlsAlpnChallengePort = {tls};
global.tlsPort = {tls};
"""
_CREATE = "challengeCreateFn: async (authz, challenge, value) => fs.writeFileSync(path(challenge), value),"
_REMOVE = "challengeRemoveFn: async (authz, challenge) => fs.unlinkSync(path(challenge)),"
_DNS = "require('child_process').execFileSync('./txt-record', [%s, '_acme-challenge.' + authz.identifier.value, value])"
PROOFS: dict[str, dict[str, str]] = {
    "http-01": {},
    "dns-01": {
        _CREATE: "challengePriority: ['dns-01'], skipChallengeVerification: true,"
        f"challengeCreateFn: async (authz, challenge, value) => {_DNS % repr('add')},",
        _REMOVE: f"challengeRemoveFn: async (authz, challenge, value) => {_DNS % repr('remove')},",
    },
    "tls-alpn-01": {
        _CREATE: """challengePriority: ['tls-alpn-01'],
        challengeCreateFn: async (authz, challenge, value) => {
            const [key, cert] = await acme.crypto.createAlpnCertificate(authz, value);
            global.server = require('tls').createServer({ key, cert, ALPNProtocols: ['acme-tls/1'] });
            await new Promise((done) => { global.server.listen(global.tlsPort, '127.0.0.1', done); });
        },""",
        _REMOVE: "challengeRemoveFn: async () => { global.server.close(); },",
    },
}


@ways("three_workers_behind_nginx")
def test_uacme_tlsalpn01(machine: Machine) -> None:
    ca = machine.site.ca
    sock = f"{machine.place}/ualpn.sock"
    daemon = f"ualpn --sock {sock} --pidfile {machine.place}/ualpn.pid"
    hook = machine.place / "ualpn.sh"
    hook.write_text(Path("/usr/share/uacme/ualpn.sh").read_text().replace("| ualpn)", f"| ualpn --sock {sock})"))
    hook.chmod(0o755)
    words = {
        "ualpn --daemon": f"{daemon} --daemon",
        "0.0.0.0@443": f"127.0.0.1@{ca.tlsalpn01_port}",
        "/usr/share/uacme/ualpn.sh": str(hook),
    }
    try:
        machine.follow("uacme tls", words)
    finally:
        machine.run("sh", "-c", f"{daemon} --terminate || true")
    machine.check(machine.place / "uacme.d" / NAME / "cert.pem")


@ways("one_worker")
def test_uacme_dns01(machine: Machine) -> None:
    """With a hook of one's own in the place of the printed one."""
    machine.script("dns-hook", UACME_RECORD)
    machine.follow("uacme get", {"/usr/share/uacme/uacme.sh": "./dns-hook"})
    machine.check(machine.place / "uacme.d" / NAME / "cert.pem")


UACME_RECORD = """#!/bin/sh
# method type ident token auth
test "$2" = dns-01 || exit 1
case "$1" in
    begin) exec ./txt-record add "_acme-challenge.$3" "$5" ;;
    *) exec ./txt-record remove "_acme-challenge.$3" "$5" ;;
esac
"""


def test_every_printed_line_is_run() -> None:
    """Each walk-through of the page is named by a test here or in test_acme_servers.py."""
    by_name = {"certbot dns", "lego tls", "lego dns", "acme-tiny get", "caddy", "mod-md", "acme-client", "uacme tls"}
    deeds = {f"{c} {deed}" for c in ("certbot", "lego", "dehydrated", "uacme") for deed in ("get", "renew", "revoke")}
    assert set(PAGE) == by_name | deeds | {"trust"}
