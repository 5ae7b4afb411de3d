"""ACME over HTTP: which path is for what, who must sign it, and the headers of the answers (RFC 8555 §6, §7).

Every POST goes the same way: media type → signature and nonce (`server.py`) → the noun's deed → an `Answer`. Each
answer to a POST, a refusal too, brings the client's next nonce.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

from twisted.web.http import datetimeToString
from twisted.web.iweb import IRequest

from opencertd.acme import documents, urls
from opencertd.acme.accounts import Accounts
from opencertd.acme.answers import JOSE, JSON, PEM_CHAIN, Answer, header_fields, refused
from opencertd.acme.attempts import seconds_to_next
from opencertd.acme.authorizations import Authorizations
from opencertd.acme.cross_origin import allow_origin, answer_preflights
from opencertd.acme.directories import Directories
from opencertd.acme.encoding import encode_json
from opencertd.acme.finalize import Finalization
from opencertd.acme.key_change import KeyChanges
from opencertd.acme.lane import AcmeLane, Post, converse
from opencertd.acme.messages import check_post_as_get
from opencertd.acme.offer import Offer
from opencertd.acme.orders import Orders
from opencertd.acme.proofs import Proofs
from opencertd.acme.renewal import Renewals
from opencertd.acme.revocation import Revocations
from opencertd.acme.server import AcmeServer, ByAccount, ByKey
from opencertd.acme.stars import StarCertificate, Stars
from opencertd.acme.states import (
    Account,
    AuthorizationStatus,
    ChallengeStatus,
    Order,
    authorization_status,
)
from opencertd.acme.store import Noun
from opencertd.asn1.pem import encode_certificates
from opencertd.errors import Refusal, RefusalKind
from opencertd.web.refusals import body_of, handle_refusals, header, new_app
from opencertd.web.shortcut import PostShortcut

_STAR_CERTIFICATE = f"{urls.ORDER}/<record>{urls.STAR}"
_BY_GET_TOO = (urls.DIRECTORY, urls.NEW_NONCE, _STAR_CERTIFICATE)

RETRY_AFTER = 1
"""Seconds until a client should look again at what is under way; a date would be too much for some clients."""


@dataclass(frozen=True)
class Nouns:
    """The conversations behind the routes."""

    accounts: Accounts
    orders: Orders
    authorizations: Authorizations
    finalization: Finalization
    revocations: Revocations
    key_changes: KeyChanges
    renewals: Renewals
    proofs: Proofs
    offer: Offer
    stars: Stars


class AcmeResource:
    """The routes. `resource` is what the site renders."""

    def __init__(self, server: AcmeServer, nouns: Nouns, meta: documents.Meta) -> None:
        self._server = server
        self._nouns = nouns
        self._urls = server.urls
        self._meta = meta
        self._directories = Directories(server.urls, meta, nouns.offer)
        self._app = new_app()
        self._app.route(urls.DIRECTORY, methods=["GET"])(self.directory)
        self._app.route(f"{urls.OF_PROFILE}/<profile>{urls.DIRECTORY}", methods=["GET"])(self.directory_of)
        self._app.route(f"{urls.RENEWAL_INFO}/<name>", methods=["GET"])(self.renewal_info)
        self._app.route(urls.NEW_NONCE, methods=["GET"])(self.new_nonce)
        self._app.route(_STAR_CERTIFICATE, methods=["GET"])(self.star_certificate)
        self._index = f'<{self._urls.of(urls.DIRECTORY)}>;rel="index"'.encode("ascii")
        posts = self._posts()
        answers = {post.path: self._answer(post) for post in posts}
        for path, answer in answers.items():
            self._app.route(path, methods=["POST"], endpoint=path)(answer)
        answer_preflights(self._app, dict.fromkeys(answers, "POST") | dict.fromkeys(_BY_GET_TOO, "GET, HEAD, POST"))
        handle_refusals(self._app, self._render)
        self.resource = PostShortcut(answers, self._app.resource(), self._render)
        self.lane = AcmeLane(posts, server, self._index)

    def _posts(self) -> tuple[Post, ...]:
        """Each path that takes a POST, how it must be signed, what it does, and what `<record>` names."""
        by_account, by_key, by_either = self._server.by_account, self._server.by_key, self._server.by_either
        return (
            Post(urls.DIRECTORY, by_account, self._read_directory),
            Post(urls.NEW_NONCE, by_account, self._read_nonce),
            Post(urls.NEW_ACCOUNT, by_key, self._new_account),
            Post(f"{urls.ACCOUNT}/<record>", by_account, self._account),
            Post(f"{urls.ACCOUNT}/<record>/orders", by_account, self._account_orders),
            Post(urls.KEY_CHANGE, by_account, self._key_change),
            Post(urls.NEW_ORDER, by_account, self._new_order),
            Post(f"{urls.OF_PROFILE}/<record>{urls.NEW_ORDER}", by_account, self._new_order),
            Post(urls.NEW_AUTHORIZATION, by_account, self._new_authorization),
            Post(f"{urls.ORDER}/<record>", by_account, self._order, Noun.ORDER),
            Post(f"{urls.ORDER}/<record>/finalize", by_account, self._finalize, Noun.ORDER),
            Post(f"{urls.ORDER}/<record>/certificate", by_account, self._certificate, Noun.DOWNLOAD),
            Post(_STAR_CERTIFICATE, by_account, self._star_certificate, Noun.ORDER),
            Post(f"{urls.AUTHORIZATION}/<record>", by_account, self._authorization, Noun.AUTHORIZATION),
            Post(f"{urls.CHALLENGE}/<record>", by_account, self._challenge, Noun.CHALLENGE),
            Post(urls.REVOKE_CERT, by_either, self._revoke),
        )

    def directory(self, request: IRequest) -> bytes:
        """RFC 8555 §7.1.1."""
        allow_origin(request)
        return _write(request, self._directories.of(None), JSON)

    def directory_of(self, request: IRequest, profile: str) -> bytes:
        """The same for clients that cannot name a profile: their orders are for this one."""
        document = self._directories.of(profile)
        allow_origin(request)
        return _write(request, document, JSON)

    async def renewal_info(self, request: IRequest, name: str) -> bytes:
        """RFC 9773 §4.1; for everybody who knows the certificate."""
        renewals = self._nouns.renewals
        found = await renewals.info(name)
        allow_origin(request)
        self._link(request)
        request.responseHeaders.setRawHeaders(b"Retry-After", [b"%d" % found.retry_after])
        return _write(request, encode_json(documents.renewal_info(found, renewals.explanation_url)), JSON)

    def new_nonce(self, request: IRequest) -> bytes:
        """RFC 8555 §7.2."""
        request.responseHeaders.setRawHeaders(b"Replay-Nonce", [self._server.nonces.fresh().encode("ascii")])
        self._link(request)
        request.responseHeaders.setRawHeaders("Cache-Control", ["no-store"])
        if request.method != b"HEAD":
            _set_status(request, 204)
        return b""

    async def _read_directory(self, asked: ByAccount, _: str) -> Answer:
        """RFC 8555 §6.3: by POST-as-GET, too."""
        check_post_as_get(asked.payload)
        return Answer(self._directories.of(None))

    async def _read_nonce(self, asked: ByAccount, _: str) -> Answer:
        """Likewise; the nonce is where each answer has it."""
        check_post_as_get(asked.payload)
        return Answer(status=204, no_store=True)

    def _answer(self, post: Post) -> Callable[..., Coroutine[Any, Any, bytes]]:
        async def answer(request: IRequest, record: str = "") -> bytes:
            media_type = header(request, "Content-Type") or ""
            if media_type != JOSE and media_type.partition(";")[0].strip().lower() != JOSE:
                raise Refusal(RefusalKind.UNSUPPORTED_MEDIA_TYPE, f"the body's media type must be {JOSE}")
            target = request.uri.decode("latin-1")
            return self._send(request, await converse(post, body_of(request), target, record, _address(request)))

        return answer

    async def _new_account(self, asked: ByKey, _: str) -> Answer:
        account, created = await self._nouns.accounts.create(asked)
        return self._account_answer(account, status=201 if created else 200)

    async def _account(self, asked: ByAccount, record: str) -> Answer:
        return self._account_answer(await self._nouns.accounts.update(asked, record))

    async def _key_change(self, asked: ByAccount, _: str) -> Answer:
        return self._account_answer(await self._nouns.key_changes.change(asked))

    def _account_answer(self, account: Account, status: int = 200) -> Answer:
        body = encode_json(documents.account(self._urls, account, self._meta.terms_of_service))
        return Answer(body, status, location=self._urls.account(account.id))

    async def _account_orders(self, asked: ByAccount, record: str) -> Answer:
        cursor = _asked_for(asked.url, "cursor")
        page = await self._nouns.accounts.orders(asked, record, cursor)
        links: tuple[str, ...] = ()
        if page.next_after is not None:
            links = (f'<{self._urls.orders(record, page.next_after)}>;rel="next"',)
        return Answer(encode_json(documents.orders(self._urls, page.order_ids)), links=links)

    async def _new_order(self, asked: ByAccount, profile: str) -> Answer:
        return self._order_answer(await self._nouns.orders.create(asked, profile or None), status=201)

    async def _order(self, asked: ByAccount, _: str) -> Answer:
        return self._order_answer(await self._nouns.stars.read_or_cancel(asked))

    async def _finalize(self, asked: ByAccount, _: str) -> Answer:
        return self._order_answer(await self._nouns.finalization.finalize(asked))

    def _order_answer(self, order: Order, status: int = 200) -> Answer:
        """With its URL each time: some clients poll what finalize's Location says."""
        return Answer(
            encode_json(documents.order(self._urls, order, self._server.clock.now())),
            status,
            location=self._urls.order(order.id),
            retry_after=self._nouns.finalization.pause(order),
        )

    async def _certificate(self, asked: ByAccount, record: str) -> Answer:
        """RFC 8555 §7.4.2, with links to the same certificate under other chains."""
        chains = await self._nouns.finalization.certificate(asked)
        return _one_of(chains, asked.url, partial(self._urls.certificate, record))

    async def _star_certificate(self, asked: ByAccount, record: str) -> Answer:
        """RFC 8739 §3.3."""
        return self._star_answer(await self._nouns.stars.certificate(asked), asked.url, record)

    async def star_certificate(self, request: IRequest, record: str) -> bytes:
        """The same by GET, where that was agreed on (§3.4), and for caches (§4.3)."""
        found = await self._nouns.stars.certificate_for_all(record)
        answer = self._star_answer(found, request.uri.decode("latin-1"), record)
        caching = (b"Cache-Control", b"public, max-age=%d" % found.fresh_for)
        return self._send(request, replace(answer, headers=(*answer.headers, caching)))

    def _star_answer(self, found: StarCertificate, url: str, record: str) -> Answer:
        dates = (
            (b"Cert-Not-Before", _quoted_date(found.not_before)),
            (b"Cert-Not-After", _quoted_date(found.not_after)),
        )
        return replace(_one_of(found.chains, url, partial(self._urls.star_certificate, record)), headers=dates)

    async def _new_authorization(self, asked: ByAccount, _: str) -> Answer:
        """RFC 8555 §7.4.1."""
        if not self._meta.preauthorization:
            raise Refusal(RefusalKind.NOT_FOUND, "names are authorized here by ordering them")
        made = await self._nouns.proofs.preauthorize(asked)
        body = encode_json(documents.authorization(self._urls, made, self._server.clock.now(), self._meta))
        return Answer(body, status=201, location=self._urls.authorization(made.id))

    async def _authorization(self, asked: ByAccount, _: str) -> Answer:
        found = await self._nouns.authorizations.read_or_deactivate(asked)
        now = self._server.clock.now()
        pending = authorization_status(found, now) is AuthorizationStatus.PENDING
        busy = pending and any(each.status is ChallengeStatus.PROCESSING for each in found.challenges)
        body = encode_json(documents.authorization(self._urls, found, now, self._meta))
        return Answer(body, retry_after=RETRY_AFTER if busy else None)

    async def _challenge(self, asked: ByAccount, record: str) -> Answer:
        challenge, status = await self._nouns.authorizations.answer_challenge(asked, record)
        busy = challenge.status is ChallengeStatus.PROCESSING and status is AuthorizationStatus.PENDING
        return Answer(
            encode_json(documents.challenge(self._urls, challenge, asked.account.id, self._meta)),
            links=(f'<{self._urls.authorization(challenge.authorization_id)}>;rel="up"',),
            retry_after=seconds_to_next(challenge.error, self._server.clock.now()) if busy else None,
        )

    async def _revoke(self, asked: ByAccount | ByKey, _: str) -> Answer:
        await self._nouns.revocations.revoke(asked)
        return Answer()

    def _send(self, request: IRequest, answer: Answer) -> bytes:
        nonce = self._server.nonces.fresh() if request.method == b"POST" else None
        for name, lines in header_fields(answer, index=self._index, nonce=nonce).items():
            request.responseHeaders.setRawHeaders(name, lines)
        allow_origin(request)
        _set_status(request, answer.status)
        return answer.body

    def _render(self, request: IRequest, refusal: Refusal) -> bytes:
        return self._send(request, refused(refusal, self._urls))

    def _link(self, request: IRequest) -> None:
        request.responseHeaders.setRawHeaders(b"Link", [self._index])
        allow_origin(request)


def _one_of(chains: Sequence[tuple[bytes, ...]], url: str, url_of: Callable[[int], str]) -> Answer:
    """The chain that the URL asks for, with links to the others."""
    wanted = _asked_for(url, "chain") or "0"
    places = {str(place): chain for place, chain in enumerate(chains)}
    if wanted not in places:
        raise Refusal(RefusalKind.NOT_FOUND, "there is no such chain")
    others = (int(place) for place in places if place != wanted)
    links = tuple(f'<{url_of(place)}>;rel="alternate"' for place in others)
    return Answer(encode_certificates(places[wanted]), content_type=PEM_CHAIN, links=links)


def _quoted_date(when: datetime) -> bytes:
    """An HTTP-date in quotes, as RFC 8739 §3.3 has it."""
    return b'"%s"' % datetimeToString(when.timestamp())  # type: ignore[no-untyped-call]


def _asked_for(url: str, name: str) -> str | None:
    """A value in the query of the URL."""
    values: list[str] = parse_qs(urlsplit(url).query).get(name, [])
    return values[0] if values else None


def _address(request: IRequest) -> str | None:
    """Of the connection; None on a Unix socket."""
    host: str | None = getattr(request.getClientAddress(), "host", None)  # type: ignore[no-untyped-call]
    return host


def _set_status(request: IRequest, status: int) -> None:
    request.setResponseCode(status)  # type: ignore[no-untyped-call]


def _write(request: IRequest, body: bytes, content_type: str) -> bytes:
    if body:
        request.responseHeaders.setRawHeaders(b"Content-Type", [content_type.encode("ascii")])
    request.responseHeaders.setRawHeaders(
        b"Content-Length", [b"%d" % len(body)]
    )  # else Twisted chunks it, which small clients cannot read
    return body
