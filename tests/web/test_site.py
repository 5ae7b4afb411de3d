"""A request reaches the first edge that claims its path, whole, or is refused in JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from klein import Klein
from twisted.internet.task import Clock
from twisted.web.iweb import IRequest

from opencertd.web.refusals import body_of, handle_refusals, header, new_app, render_problem
from opencertd.web.site import Edge, build_site

from .wire import Wire, edge, get, parse, problem, wire


def echo(word: str = "api") -> Klein:
    """An app that answers with what it was asked."""
    app = new_app()

    @app.route(f"/{word}/raw/<path:rest>", methods=["GET", "POST"])
    def raw(request: IRequest, rest: str) -> bytes:
        return f"{word}|{rest}|{request.uri.decode()}|".encode() + body_of(request)

    @app.route(f"/{word}/thing", methods=["GET"])
    def thing(request: IRequest) -> bytes:
        return word.encode()

    handle_refusals(app, render_problem)
    return app


def test_the_first_edge_that_claims_a_path_answers_it() -> None:
    everything = Edge("all", echo("api").resource(), lambda segments: True, plain_http=False)
    first = wire(edge(echo("api")), edge(echo("other"), under="other"), everything)
    assert parse(first.send(get("/other/thing")))[2] == b"other"
    assert parse(first.send(get("/api/thing")))[2] == b"api"


def test_an_edge_sees_the_path_as_it_was_sent() -> None:
    client = wire(edge(echo()))
    for sent, decoded in [
        ("a//b", "a//b"),
        ("a%2Fb", "a/b"),
        ("a%2F%2Bb==", "a/+b=="),
        ("MEIw+//x/", "MEIw+//x/"),
        ("a%20b?q=1", "a b"),
    ]:
        _, _, body = parse(client.send(get(f"/api/raw/{sent}")))
        assert body.decode() == f"api|{decoded}|/api/raw/{sent}|"


def test_no_path_is_redirected() -> None:
    client = wire(edge(echo()))
    assert parse(client.send(get("/api/thing/")))[0] in {200, 404}
    assert problem(client.send(get("//api/thing")))["status"] == 404
    assert problem(client.send(get("/api//thing")))["status"] == 404


def test_an_absolute_request_target_is_its_path() -> None:
    client = wire(edge(echo()))
    assert parse(client.send(get("http://ca.test:5001/api/thing")))[2] == b"api"
    assert problem(client.send(get("http://ca.test")))["status"] == 404


def test_head_is_get_without_its_body() -> None:
    status, headers, body = parse(wire(edge(echo())).send(get("/api/thing", method="HEAD")))
    assert (status, headers["content-length"], body) == (200, "3", b"")


def test_what_nobody_claims_is_not_found_in_json() -> None:
    document = problem(wire(edge(echo())).send(get("/elsewhere")))
    assert document["status"] == 404
    assert "Twisted" not in str(document)


def test_without_tls_only_edges_that_allow_it_answer() -> None:
    edges = [edge(echo("api")), edge(echo("open"), under="open", plain_http=True)]
    plain = wire(*edges, plain=True)
    assert problem(plain.send(get("/api/thing")))["status"] == 404
    assert parse(plain.send(get("/open/thing")))[2] == b"open"
    assert parse(wire(*edges).send(get("/api/thing")))[2] == b"api"


def test_wrong_methods_name_the_right_ones() -> None:
    answer = wire(edge(echo())).send(get("/api/thing", method="DELETE"))
    assert problem(answer)["status"] == 405
    assert parse(answer)[1]["allow"] == "GET, HEAD"


@pytest.mark.parametrize("target", ["/%ff/x", "/api/raw/%00", "/api/raw/a%0Ab", "/api/raw/%C3%28", "*", "ca.test:443"])
def test_paths_that_are_no_paths_are_refused(target: str) -> None:
    assert problem(wire(edge(echo())).send(get(target)))["status"] == 400


@pytest.mark.parametrize("host", ["", "x" * 300, "a..b", "[::1", "\xff\xfe", "a:b:c", "xn--\xe9"])
def test_an_odd_host_changes_nothing(host: str) -> None:
    assert parse(wire(edge(echo())).send(get("/api/thing", host=host)))[2] == b"api"


def test_a_request_has_one_host() -> None:
    client = wire(edge(echo()))
    assert problem(client.send(get("/api/thing", "Host: other")))["status"] == 400
    assert problem(client.send(b"GET /api/thing HTTP/1.1\r\n\r\n"))["status"] == 400
    assert parse(client.send(b"GET /api/thing HTTP/1.0\r\n\r\n"))[2] == b"api"


def test_answers_say_how_to_take_them_and_not_who_made_them() -> None:
    client = wire(edge(echo()))
    for answer in [
        client.send(get("/api/thing")),
        client.send(get("/nowhere")),
        client.send(get("/api/thing", method="PUT")),
        wire(edge(echo())).send(b"nonsense\r\n"),
    ]:
        _, headers, _ = parse(answer)
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers
        assert "date" in headers


def test_forms_are_bodies_like_any_other() -> None:
    client = wire(edge(echo()))
    request = get("/api/raw/x", "Content-Type: application/x-www-form-urlencoded", method="POST", body=b"a=b")
    assert parse(client.send(request))[2].endswith(b"|a=b")


def test_header_values_are_joined() -> None:
    app = new_app()

    @app.route("/api/h")
    def show(request: IRequest) -> bytes:
        return repr((header(request, "x-a"), header(request, "x-b"))).encode()

    client = wire(edge(app))
    assert parse(client.send(get("/api/h", "X-A: 1", "x-a: 2")))[2] == b"('1, 2', None)"
    raw = client.send(b"GET /api/h HTTP/1.1\r\nHost: a\r\nX-A: \xff\r\n\r\n")
    assert parse(raw)[2] == repr(("\xff", None)).encode()


def test_answers_written_piecemeal_are_chunked() -> None:
    app = new_app()

    @app.route("/api/pieces")
    def pieces(request: Any) -> None:
        request.write(b"abc")
        request.write(b"def")

    answer = wire(edge(app)).send(get("/api/pieces"))
    assert b"Transfer-Encoding: chunked" in answer
    assert answer.endswith(b"\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")


def test_answers_without_a_body_have_no_length() -> None:
    app = new_app()

    @app.route("/api/none")
    def none(request: Any) -> bytes:
        request.setResponseCode(204)
        return b""

    _, headers, _ = parse(wire(edge(app)).send(get("/api/none")))
    assert "content-length" not in headers
    assert "transfer-encoding" not in headers


@pytest.mark.parametrize("logged", [True, False])
def test_the_access_log_is_written_where_it_is_asked_for(tmp_path: Path, logged: bool) -> None:
    file = tmp_path / "access.log"
    reactor = Clock()
    site = build_site([edge(echo())], reactor=reactor, log_path=str(file) if logged else None)
    site.doStart()
    Wire(site, reactor).send(get("/api/thing", "Authorization: Basic c2VjcmV0"))
    site.doStop()
    assert file.exists() is logged
    if logged:
        assert '"GET /api/thing HTTP/1.1" 200 3' in file.read_text()
        assert "c2VjcmV0" not in file.read_text()
