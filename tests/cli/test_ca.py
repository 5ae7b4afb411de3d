"""`opencert ca …` on a CA of its own: every CA it makes is judged by openssl, and what it refuses leaves no trace."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.cli.shell import mode, opencert, openssl


class Ca:
    """A CA in a state directory, and commands on it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.anchors = self.state / "trust-anchors.pem"

    def run(self, *words: str | Path, stdin: bytes | None = None) -> Result:
        return opencert("ca", *words, "--state-dir", self.state, stdin=stdin)

    def done(self, *words: str | Path) -> str:
        result = self.run(*words)
        assert result.exit_code == 0, result.output
        return result.output

    def refused(self, *words: str | Path) -> str:
        before = self.listed()
        result = self.run(*words)
        assert result.exit_code in {1, 2}, result.output
        assert self.listed() == before
        return result.stderr

    def listed(self) -> dict[str, Any]:
        return json.loads(self.run("list", "--json").stdout)

    def issuer(self, name: str) -> dict[str, Any]:
        return json.loads(self.done("show", name, "--json"))

    def issuer_with(self, name: str, config: Path) -> dict[str, Any]:
        return json.loads(self.done("show", name, "--json", "--config", config))

    def names(self) -> list[str]:
        return [issuer["name"] for issuer in self.listed()["issuers"]]

    def certificate(self, name: str) -> Path:
        path = self.directory / f"{name}.pem"
        self.done("export", name, "--out", path, "--force")
        return path


@pytest.fixture
def ca(tmp_path: Path) -> Ca:
    made = Ca(tmp_path)
    made.done("init", "--dn", "CN=Test,O=X", "--key-type", "ecdsa")
    return made


def test_init_makes_what_first_start_makes_and_only_once(tmp_path: Path) -> None:
    made = Ca(tmp_path)
    assert "made the CA" in made.done("init", "--dn", "CN=Test,O=X", "--key-type", "ecdsa")
    assert made.names() == ["ecdsa-root", "ecdsa"]
    before = made.issuer("ecdsa")["sha256"]
    for again in (("--dn", "CN=Test,O=X"), ()):
        assert "already" in made.done("init", *again)
    assert made.issuer("ecdsa")["sha256"] == before
    assert "holds another CA" in made.refused("init", "--dn", "CN=Other")
    empty = Ca(tmp_path / "empty")
    assert "no CA" in empty.run("init").stderr


def test_a_hierarchy_of_several_levels_verifies(ca: Ca, tmp_path: Path) -> None:
    ca.done("create", "top", "--root", "--dn", "CN=Top,O=X", "--key-type", "ecdsa-p384")
    ca.done("create", "regions", "--parent", "top", "--dn", "CN=Regions,O=X", "--path-len", "1")
    said = ca.done(
        *("create", "office", "--parent", "regions", "--dn", "CN=Office,O=X", "--validity", "5y"),
        *(
            "--permit",
            "dns:office.example.com",
            "--exclude",
            "ip:0.0.0.0/0",
            "--policy",
            "1.3.6.1.4.1.55555.1=http://x.test/",
        ),
    )
    assert "office: CN=Office,O=X (EC P-256" in said
    office, regions = ca.certificate("office"), ca.certificate("regions")
    openssl("verify", "-x509_strict", "-CAfile", ca.anchors, "-untrusted", regions, office)
    text = openssl("x509", "-in", office, "-noout", "-text")
    for words in ("pathlen:0", "DNS:office.example.com", "IP:0.0.0.0/0.0.0.0", "1.3.6.1.4.1.55555.1"):
        assert words in text
    assert "pathlen:1" in openssl("x509", "-in", regions, "-noout", "-text")
    shown = ca.issuer("office")
    assert (shown["under"], shown["above"]) == ("regions", ["CN=Regions,O=X", "CN=Top,O=X"])
    assert shown["names_below"] == [
        "permitted dns:office.example.com (by CN=Office,O=X)",
        "excluded ip:0.0.0.0/0 (by CN=Office,O=X)",
    ]
    assert ca.issuer("regions")["below"] == ["office"]
    assert ca.issuer("top")["live"] == 1
    for key in (ca.state / "keys").iterdir():
        assert mode(key) == 0o600
    assert ca.listed()["unused_key_files"] == []


def test_what_cannot_be_made_leaves_nothing(ca: Ca) -> None:
    name = ("--dn", "CN=Office,O=X")
    for words, said in (
        (("create", "ecdsa", "--root", *name), "there is an issuer 'ecdsa' already"),
        (("create", "other", "--root", "--dn", "cn=test ECDSA root, o=X"), "has the name"),
        (
            ("create", "office", "--parent", "nobody", *name),
            "there is no issuer 'nobody' in this CA: ecdsa-root, ecdsa",
        ),
        (("create", "office", "--parent", "ecdsa", *name), "no CA below it"),
        (("create", "office", *name), "--parent"),
        (("create", "office", "--root", "--parent", "ecdsa-root", *name), "--parent"),
        (("create", "crl", "--root", *name), "cannot be named"),
        (("create", "Office!", "--root", *name), "cannot be named"),
        (("create", "office", "--root", "--dn", "O=X"), "no common name"),
        (("create", "office", "--root", *name, "--key-type", "dsa"), "no key type"),
        (("create", "office", "--root", *name, "--permit", "example.com"), "write it as"),
        (("create", "office", "--root", *name, "--validity", "5"), "number and a unit"),
        (("create", "office", "--root", *name, "--policy", "x"), "object identifier"),
        (("show", "nobody"), "there is no issuer"),
        (("retire", "nobody"), "there is no issuer"),
        (("cross", "ecdsa", "--by", "ecdsa"), "cannot vouch for itself"),
    ):
        assert said in " ".join(ca.refused(*words).split()), words
    assert len(list((ca.state / "keys").iterdir())) == 2


def test_where_there_is_no_ca_nothing_is_made(tmp_path: Path) -> None:
    nowhere = Ca(tmp_path / "nowhere")
    for words in (("list",), ("create", "x", "--root", "--dn", "CN=X"), ("export", "x", "--out", tmp_path / "x")):
        assert "no state directory" in nowhere.run(*words).stderr
    assert list(tmp_path.iterdir()) == []
    nowhere.state.mkdir(parents=True)
    assert "`opencert ca init` makes one" in nowhere.run("list").stderr


def test_a_ca_signed_elsewhere(ca: Ca, tmp_path: Path) -> None:
    request, answer, chain = tmp_path / "p.csr", tmp_path / "p.pem", tmp_path / "chain.pem"
    ca.done("csr", "partner", "--dn", "CN=Partner,O=X", "--path-len", "0", "--out", request)
    assert "CA:TRUE, pathlen:0" in openssl("req", "-in", request, "-noout", "-text", "-verify")
    assert ca.listed()["waiting"] == ["partner"]
    first = request.read_bytes()
    assert "again" in ca.done("csr", "partner", "--dn", "CN=Partner,O=X", "--out", request, "--force")
    assert request.read_bytes() == first
    assert "waits already" in ca.refused("csr", "partner", "--dn", "CN=Else", "--out", tmp_path / "y.csr")
    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        tmp_path / "r.key",
        "-out",
        tmp_path / "r.pem",
        "-subj",
        "/CN=World",
    )
    sign = ("x509", "-req", "-in", request, "-CA", tmp_path / "r.pem", "-CAkey", tmp_path / "r.key", "-days", "900")
    openssl(*sign, "-out", answer, "-copy_extensions", "none")
    assert "not a CA certificate" in ca.refused("import", "partner", answer)
    assert "no certificate" in ca.refused("import", "partner", request)
    assert "is for the key" in ca.refused("import", "partner", tmp_path / "r.pem")
    openssl(*sign, "-out", answer, "-copy_extensions", "copyall")
    chain.write_bytes(answer.read_bytes() + (tmp_path / "r.pem").read_bytes())
    ca.done("import", "partner", chain)
    assert ca.listed()["waiting"] == []
    shown = ca.issuer("partner")
    assert (shown["state"], shown["under"], shown["above"]) == ("active", "another CA", ["CN=World"])
    assert _certificates(ca.anchors) == 2
    assert ca.listed()["unused_key_files"] == []
    assert "already" in ca.refused("csr", "partner", "--dn", "CN=Partner,O=X", "--out", tmp_path / "z.csr")


def test_a_request_of_our_own_signed_by_our_own(ca: Ca, tmp_path: Path) -> None:
    other = Ca(tmp_path / "other")
    (tmp_path / "other").mkdir()
    other.done("init", "--dn", "CN=Other,O=Y", "--key-type", "ecdsa")
    request, answer = tmp_path / "s.csr", tmp_path / "s.pem"
    other.done("csr", "below", "--dn", "CN=Below,O=Y", "--out", request)
    ca.done("sign", request, "--by", "ecdsa-root", "--out", answer, "--permit", "dns:y.test")
    assert "DNS:y.test" in openssl("x509", "-in", answer, "-noout", "-text")
    openssl("verify", "-x509_strict", "-CAfile", ca.anchors, answer)
    other.done("import", "below", answer)
    assert other.issuer("below")["names_below"] == ["permitted dns:y.test (by CN=Below,O=Y)"]
    assert "belongs to this" in ca.refused(
        "sign", _own_request(ca, tmp_path), "--by", "ecdsa-root", "--out", tmp_path / "x"
    )
    request.write_bytes(b"nonsense")
    assert "well-formed" in ca.refused("sign", request, "--by", "ecdsa-root", "--out", tmp_path / "x")
    assert not (tmp_path / "x").exists()


def _certificates(path: Path) -> int:
    return path.read_text().count("BEGIN CERTIFICATE")


def _own_request(ca: Ca, tmp_path: Path) -> Path:
    path = tmp_path / "own.csr"
    openssl("req", "-new", "-key", ca.state / "keys" / "ecdsa.pem", "-subj", "/CN=Me", "-out", path)
    return path


def test_cross_certificates(ca: Ca, tmp_path: Path) -> None:
    ca.done("create", "top", "--root", "--dn", "CN=Top,O=X")
    crossed = tmp_path / "crossed.pem"
    ca.done("cross", "ecdsa-root", "--by", "top", "--out", crossed)
    top, issuing = ca.certificate("top"), ca.certificate("ecdsa")
    openssl("verify", "-x509_strict", "-CAfile", top, "-untrusted", crossed, issuing)
    assert ca.issuer("ecdsa-root")["cross_certificates"][0].startswith("cross by CN=Top,O=X, serial ")
    assert "known already" in ca.refused("cross", "ecdsa-root", "--certificate", crossed)
    assert "not for the name" in ca.refused("cross", "ecdsa", "--certificate", crossed)
    assert "itself" in ca.refused("cross", "top", "--certificate", top)


@pytest.mark.parametrize("form", ["pem", "pkcs12"])
def test_a_root_key_that_was_taken_away_comes_back(ca: Ca, tmp_path: Path, form: str) -> None:
    secret, out = tmp_path / "secret", tmp_path / "root.key"
    secret.write_text("correct horse\n")
    more = ("--pkcs12",) if form == "pkcs12" else ()
    take = ("export", "ecdsa-root", "--key", *more, "--remove-key", "--passphrase-file", secret, "--status-for", "400d")
    assert "not -" in ca.refused(*take, "--out", "-")
    said = ca.done(*take, "--out", out)
    assert "overwritten and removed here" in said
    assert mode(out) == 0o600
    assert sorted(path.name for path in (ca.state / "keys").iterdir()) == ["ecdsa.pem"]
    kind = ("pkcs12", "-nocerts") if form == "pkcs12" else ("pkey",)
    openssl(*kind, "-in", out, "-noout", "-passin", f"file:{secret}")
    shown = ca.issuer("ecdsa-root")
    assert (shown["key_place"], shown["state"]) == ("taken away", "active")
    until = datetime.strptime(shown["crl"].rpartition(" to ")[2], "%Y-%m-%d %H:%M:%S%z")
    assert until > datetime.now(UTC) + timedelta(days=399)
    (responder,) = (ca.state / "own").glob("ocsp-*-ecdsa-root-*")
    openssl("verify", "-CAfile", ca.anchors, "-attime", str(int(until.timestamp()) - 900), responder)
    assert "key is not here" in ca.refused("create", "office", "--parent", "ecdsa-root", "--dn", "CN=Office,O=X")
    assert "already" in ca.done("init")  # all that comes before serving: nothing in it stops for want of the key
    ca.refused("import-key", "ecdsa", ca.state / "keys" / "ecdsa.pem")
    assert "not the key" in ca.refused("import-key", "ecdsa-root", ca.state / "keys" / "ecdsa.pem")
    wrong = tmp_path / "wrong"
    wrong.write_text("wrong\n")
    assert (
        "wrong passphrase" in ca.refused("import-key", "ecdsa-root", out, "--passphrase-file", wrong) or form != "pem"
    )
    ca.done("import-key", "ecdsa-root", out, "--passphrase-file", secret)
    ca.done("create", "office", "--parent", "ecdsa-root", "--dn", "CN=Office,O=X")
    assert ca.listed()["unused_key_files"] == []


def test_every_crl_that_certificates_name_outlasts_the_key(ca: Ca, tmp_path: Path) -> None:
    secret, config = tmp_path / "secret", tmp_path / "settings.toml"
    secret.write_text("correct horse\n")
    config.write_text(
        """crl = ["http://ca.test/ca/{issuer}/crl/{part}"]
[crls]
apart = true
delta = ["http://ca.test/ca/{issuer}/crl/delta"]
"""
    )
    away = ("--key", "--remove-key", "--passphrase-file", secret, "--status-for", "400d", "--out", tmp_path / "key")
    ca.done("export", "ecdsa-root", *away, "--config", config)
    left = opencert("crl", "show", "ecdsa-root", "--json", "--state-dir", ca.state)
    rows = {row["part"]: row for row in json.loads(left.stdout)}
    assert set(rows) == {"all", "cas", "users"}, "a delta would be out of date soon"
    for row in rows.values():
        until = datetime.strptime(row["until"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        assert until > datetime.now(UTC) + timedelta(days=399), row


def test_retired_issuers_sign_no_more(ca: Ca) -> None:
    said = ca.refused("retire", "ecdsa")
    assert "default" in said and "daemon-tls" in said
    ca.done("create", "office", "--parent", "ecdsa-root", "--dn", "CN=Office,O=X")
    assert "office" not in ca.done("retire", "ecdsa")
    assert ca.issuer("ecdsa")["state"] == "retired"
    assert "already" in ca.refused("retire", "ecdsa")
    assert "default" in ca.done("retire", "office", "--even-if-profiles-lose-their-issuer")


def test_a_revoked_ca_is_revoked_for_good(ca: Ca) -> None:
    ca.done("create", "office", "--parent", "ecdsa-root", "--dn", "CN=Office,O=X")
    said = ca.done("revoke", "office", "--reason", "keyCompromise", "--yes")
    assert "the CRL and OCSP of the CA above it say so" in said
    assert ca.issuer("office")["state"] == "revoked"
    assert ca.issuer("ecdsa-root")["revoked"] == 1
    assert "already" in ca.refused("revoke", "office", "--reason", "keyCompromise", "--yes")
    ca.done("create", "top", "--root", "--dn", "CN=Top,O=X")
    assert "take it out" in ca.done("revoke", "top", "--reason", "superseded", "--yes")
    assert "revoked: it signs no" in ca.refused("create", "below", "--parent", "top", "--dn", "CN=Below")
    assert _certificates(ca.anchors) == 1
    table = ca.done("list")
    assert "revoked" in table and "office" in table
