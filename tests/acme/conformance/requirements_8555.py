"""What RFC 8555 asks of a server, section by section, in our words."""

from __future__ import annotations

from tests.conformance import read_requirements

RFC_8555 = read_requirements(
    "8555",
    """
5/1 MUST Requests and answers are UTF-8.
6.1/1 MUST The protocol is spoken over HTTPS only.
6.1/2 SHOULD TLS is configured as the best current practice says: TLS 1.2 or later, forward secrecy, no compression.
6.1/3 SHOULD Any web page may read the answers: Access-Control-Allow-Origin is "*".
6.1/4 MUST The base64url that is sent has no padding.
6.1/5 MUST base64url in JWS and JWK that comes with padding is refused.
6.1/6 MUST base64url in CSRs and certificates that comes with padding is refused.
6.2/1 MUST The signature is verified before anything is done for a request.
6.2/2 MUST Only the flattened JSON serialization is a request: no compact and no general one.
6.2/3 MUST_NOT A JWS with several signatures counts.
6.2/4 MUST_NOT The unencoded-payload option is taken.
6.2/5 MUST_NOT An unprotected header is taken.
6.2/6 MUST_NOT A detached payload is taken.
6.2/7 MUST The protected header names an algorithm, and never "none" or a MAC.
6.2/8 MUST The protected header has a nonce.
6.2/9 MUST The protected header has a URL.
6.2/10 MUST The protected header has a jwk or a kid.
6.2/11 MUST ES256 is verified.
6.2/12 SHOULD EdDSA with Ed25519 is verified.
6.2/13 MUST A request with both jwk and kid is refused.
6.2/14 MUST newAccount is signed by the key in its own jwk.
6.2/15 MUST A revocation by the certificate's key has that key as jwk.
6.2/16 MUST Every other request has a kid.
6.2/17 MUST The kid is the account's URL as newAccount gave it.
6.2/18 MUST Another algorithm is answered with 400 badSignatureAlgorithm.
6.2/19 MUST badSignatureAlgorithm lists the algorithms that are taken.
6.2/20 MUST A key that is refused though its algorithm is known is answered with 400 badPublicKey.
6.2/21 SHOULD badPublicKey says why the key is refused.
6.2/22 MUST Another media type than application/jose+json is answered with 415.
6.3/1 MUST GET for anything but the directory and nonces is answered with 405 and a malformed problem.
6.3/2 MUST POST-as-GET is authenticated, and access is checked.
6.3/3 MUST POST-as-GET only reads.
6.3/4 MUST The directory and nonces are there by GET.
6.3/5 MUST The directory and nonces are there by POST-as-GET, too.
6.4/1 MUST The signed URL is compared with the request's.
6.4/2 SHOULD That comparison is of the strings as they were given out.
6.4/3 MUST Where they differ the request is refused as unauthorized.
6.4.1/1 MUST The URL stands in the protected header.
6.4.1/2 MUST The URL is a string.
6.5/1 MUST Each successful answer to a POST brings a nonce.
6.5/2 SHOULD So does each error.
6.5/3 MUST Only nonces that this server gave out are taken.
6.5/4 MUST A nonce that was used once is as good as none.
6.5/5 MUST A bad or missing nonce is answered with 400 badNonce.
6.5/6 MUST badNonce brings a nonce with which the request can be sent again.
6.5.1/1 MUST Nonces are unique and nobody else can guess them.
6.5.1/2 MUST Nonces are base64url.
6.5.2/1 MUST The nonce stands in the protected header.
6.5.2/2 MUST A nonce that is not base64url is answered as malformed.
6.6/1 MUST A request beyond a rate limit is answered as rateLimited.
6.6/2 SHOULD It is told by Retry-After when to come again.
6.7/1 SHOULD Errors come with a problem document.
6.7/2 MUST_NOT The ACME namespace of error types is used for types that are not registered.
6.7.1/1 MUST The identifier of a subproblem is an ACME identifier.
6.7.1/2 MUST_NOT A problem document has an identifier at its top.
7.1/1 MUST There are a directory and nonces.
7.1.1/1 MUST newAuthz is in the directory only where pre-authorization works.
7.1.1/2 MUST The directory's meta is an object.
7.1.1/3 MUST caaIdentities are the strings by which CAA records name this CA.
7.1.2.1/1 MUST The list of orders is an object whose "orders" are URLs of the account's orders.
7.1.2.1/2 SHOULD It has the pending orders.
7.1.2.1/3 SHOULD_NOT It has orders that are invalid.
7.1.3/1 MUST Pending and valid orders say when they expire.
7.1.3/2 MUST_NOT The authorization for a wildcard has "*." in its identifier.
7.1.3/3 MUST It says "wildcard": true instead.
7.1.3/4 MUST_NOT Identifiers or authorizations of an order change.
7.1.3/5 SHOULD An order lists all authorizations that count for it, those of earlier orders too.
7.1.4/1 MUST Valid authorizations say when they expire.
7.1.4/2 MUST Names are as they stand in certificates: ASCII, in the form of RFC 5280 §7.
7.1.4/3 MUST Names with "xn--" are checked for proper encoding.
7.1.4/4 MUST_NOT Other authorizations than those for wildcards say "wildcard": true.
7.2/1 MUST HEAD of newNonce brings a nonce.
7.2/2 SHOULD Its status is 200.
7.2/3 MUST GET of newNonce has status 204, no body, and a nonce.
7.2/4 MUST No cache may store what newNonce answers.
7.3/1 MUST_NOT onlyReturnExisting makes an account.
7.3/2 MUST "orders" and unknown members of an account that a client sends are passed over.
7.3/3 MUST_NOT Unknown members come back.
7.3/4 SHOULD Contact URLs are checked.
7.3/5 MUST mailto is a kind of contact.
7.3/6 SHOULD A mailto URL with header fields or several addresses is refused.
7.3/7 MUST A contact of another kind is answered as unsupportedContact, saying which kinds are taken.
7.3/8 MUST A contact of a known kind that is wrong is answered as invalidContact.
7.3/9 MUST Terms that must be agreed to are named in the directory.
7.3/10 MUST newAccount without agreement is refused then.
7.3.1/1 MUST newAccount by a key that has an account is answered with 200 and the account's URL.
7.3.1/2 MUST What such a request asks for changes nothing.
7.3.1/3 MUST onlyReturnExisting without an account is answered with 400 accountDoesNotExist.
7.3.1/4 MUST "termsOfServiceAgreed" of such a request is passed over.
7.3.2/1 MUST Updates of orders, of status but to deactivated, and of unknown members are passed over.
7.3.2/2 MUST An update is answered with 200 and the account.
7.3.2/3 MUST Updates of "termsOfServiceAgreed" are passed over.
7.3.3/1 MUST Without agreement to changed terms a request is answered with 403 userActionRequired.
7.3.3/2 MUST That answer links to the terms.
7.3.3/3 MUST Its problem document has an "instance" for a person to visit.
7.3.4/1 MUST Key identifiers are ASCII.
7.3.4/2 SHOULD MAC keys are given out as base64url.
7.3.4/3 MUST Where a binding is required the directory says so.
7.3.4/4 SHOULD newAccount without one is then answered as externalAccountRequired.
7.3.4/5 MUST A binding that is not a well-formed JWS is refused.
7.3.4/6 MUST Its algorithm is a MAC.
7.3.4/7 MUST Its kid is a key identifier of this CA.
7.3.4/8 MUST_NOT It has a nonce.
7.3.4/9 MUST Its URL is that of the outer JWS.
7.3.4/10 MUST Its MAC is verified.
7.3.4/11 MUST Its payload is the account's key.
7.3.4/12 MUST An account that is bound shows its binding.
7.3.4/13 MUST When any of these checks fails no account is made.
7.3.5/1 MUST Only an active account changes its key.
7.3.5/2 MUST The payload of a key change is a well-formed JWS.
7.3.5/3 MUST The inner JWS has a jwk.
7.3.5/4 MUST The inner signature is verified by that jwk.
7.3.5/5 MUST The inner payload is a well-formed key change.
7.3.5/6 MUST Inner and outer URL are the same.
7.3.5/7 MUST "account" is the URL of the account that asks.
7.3.5/8 MUST "oldKey" is the key it has.
7.3.5/9 MUST No other account has the new key.
7.3.5/10 MUST The inner JWS has no nonce.
7.3.5/11 SHOULD A new key that another account has is answered with 409 and that account's URL.
7.3.5/12 MUST_NOT Pending orders or authorizations become invalid by it.
7.3.6/1 MUST A deactivation is signed by the account's key.
7.3.6/2 MUST A deactivated account is answered with 401 unauthorized.
7.3.6/3 MUST_NOT Any further request by its key is done.
7.3.6/4 SHOULD What is under way for it is given up.
7.3.6/5 SHOULD_NOT Its certificates are revoked.
7.4/1 MUST An order that cannot be fulfilled as it is asked for is refused.
7.4/2 MUST_NOT A certificate has other contents than were asked for.
7.4/3 SHOULD An order whose time is over is invalid.
7.4/4 MUST The CSR asks for exactly the names of the order.
7.4/5 MUST DNS names may stand in the common name, in subjectAltName, or in both.
7.4/6 MUST Finalizing an order that is not ready is answered with 403 orderNotReady.
7.4/7 SHOULD A CSR that is refused is answered as badCSR, with reasons.
7.4/8 SHOULD The order stays ready for a better CSR.
7.4.1/1 SHOULD newAuthz is held against what the CA is willing to issue for.
7.4.1/2 SHOULD What it is not willing to is answered with 403, with reasons.
7.4.1/3 MUST The authorization that is made is pending.
7.4.2/1 SHOULD An alternate chain begins with the same certificate.
7.4.2/2 SHOULD A format for one certificate links to its issuers.
7.5.1/1 MUST Members of a challenge's answer that its type does not define are passed over.
7.5.1/2 MUST An answer that is no answer is refused.
7.5.1/3 MUST An authorization that became valid says until when.
7.5.1/4 SHOULD_NOT Invalid challenges are removed from it.
7.5.1/5 MUST Whoever looks during validation is answered with 200.
7.5.2/1 MUST Only the account of an authorization deactivates it.
7.5.2/2 MUST_NOT A deactivated authorization counts for issuing.
7.6/1 SHOULD Without a reason the CRL has none either.
7.6/2 MUST A reason that is not allowed is answered as badRevocationReason.
7.6/3 SHOULD That answer says which are allowed.
7.6/4 MUST The right to revoke is verified.
7.6/5 MUST The account that got the certificate may revoke it.
7.6/6 MUST So may an account that is authorized for all its names.
7.6/7 MUST So may whoever signs by the certificate's key.
8/1 MUST A valid challenge says when it was validated.
8/2 MUST Only an invalid challenge has an error.
8/3 SHOULD An invalid challenge says why.
8.1/1 MUST Leading zeros in a JWK do not change its thumbprint.
8.2/1 SHOULD A validation that failed is tried again after some time.
8.2/2 MUST The state of that is shown by "error" and Retry-After.
8.2/3 MUST Each failed attempt is shown.
8.2/4 SHOULD Retry-After is after the next attempt.
8.2/5 SHOULD A client that asks again has another attempt at once.
8.2/6 SHOULD The rate of that is limited.
8.3/1 MUST http-01's token has 128 random bits.
8.3/2 MUST_NOT http-01's token has other characters than base64url's, or padding.
8.3/3 MUST http-01 is asked for at port 80, by HTTP.
8.3/4 SHOULD White space at the end of http-01's answer is ignored.
8.3/5 SHOULD http-01 follows redirects.
8.4/1 MUST dns-01's token has 128 random bits.
8.4/2 MUST_NOT dns-01's token has other characters than base64url's, or padding.
9.1/1 MUST The chain is strict PEM.
9.1/2 MUST_NOT The chain has text around its certificates.
9.1/3 MUST The chain begins with the certificate that was ordered.
9.1/4 SHOULD Each certificate of the chain certifies the one before it.
10.2/1 SHOULD Validations are done from several points of the network.
10.5/1 SHOULD URLs have a part that nobody can guess.
11.1/1 MUST A CSR with the key of any account is refused.
11.1/2 MUST A CSR with the key of the account that sends it is refused.
11.1/3 MUST No two accounts have the same key.
11.2/1 SHOULD DNS is asked over TCP.
11.2/2 SHOULD DNS is asked through resolvers that validate DNSSEC.
11.2/3 SHOULD The CA has such resolvers of its own, in its own network.
""",
)
