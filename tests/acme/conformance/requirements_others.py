"""What ACME's further RFCs ask of a server, in our words."""

from __future__ import annotations

from tests.conformance import read_requirements

RFC_8737 = read_requirements(
    "8737",
    """
3/1 MUST tls-alpn-01's token has 128 random bits.
3/2 MUST_NOT Its token has other characters than base64url's, or padding.
3/3 MUST The TLS connection is to port 443.
3/4 MUST ALPN offers acme-tls/1 and nothing else.
3/5 MUST SNI has the name that is validated and nothing else.
3/6 MUST The server must agree to acme-tls/1.
3/7 MUST The certificate is self-signed.
3/8 MUST Its subjectAltName has the name and nothing else.
3/9 MUST It has a critical acmeIdentifier with the digest of the key authorization.
3/10 MUST Names are compared without regard to case.
3/11 MUST Names are A-labels.
4/1 MUST acme-tls/1 is spoken for nothing else.
4/2 MUST_NOT Anything is sent after the handshake.
4/3 MUST The connection is closed at once after it.
4/4 MUST TLS is 1.2 or later.
""",
)

RFC_8738 = read_requirements(
    "8738",
    """
3/1 MUST An address is an identifier of type "ip".
3/2 MUST Its value is the address in its one canonical text form.
4/1 MUST No DNS is asked for where an address is.
4/2 MUST Validations connect to the address itself.
5/1 MUST http-01's Host is the address.
5/2 MUST It is spelled in its canonical form there.
6/1 MUST tls-alpn-01's certificate has the address, as an address, and nothing else.
6/2 MUST SNI has the reverse name of the address.
7/1 MUST_NOT dns-01 validates an address.
""",
)

RFC_9773 = read_requirements(
    "9773",
    """
3/1 MUST The directory names renewalInfo.
4.1/1 MUST The identifier of a certificate has no padding.
4.1/2 SAYS The identifier is the AKI's key identifier and the serial's DER octets, each base64url, a dot between.
4.1/3 SAYS It is read by GET, without any signature.
4.2/1 MUST suggestedWindow has a start and an end, as RFC 3339 has times.
4.2/2 MUST_NOT A window ends before it begins, or when it does.
4.3/1 SAYS Retry-After says when to ask again.
5/1 SHOULD An order replaces certificates of its own account only.
5/2 SHOULD It has a name of the certificate that it replaces.
5/3 SHOULD It replaces none that another order has replaced, unless that is invalid.
5/4 SHOULD An order for which any of this is not so is refused.
5/5 MUST What was replaced already is answered with 409 alreadyReplaced.
5/6 MUST An order says what it replaces, at once and later.
""",
)

RFC_9444 = read_requirements(
    "9444",
    """
4.1/1 MUST An authorization that is good for the names below its own says "subdomainAuthAllowed": true.
4.2/1 SAYS newAuthz with subdomainAuthAllowed makes one where that is allowed.
4.2/2 SAYS Where it is not, one for the name alone is made.
4.3/1 SAYS An order with ancestorDomain may be proven by that domain.
4.3/2 SAYS Where that is not allowed, by the name alone.
4.4/1 SAYS The directory says whether it is allowed.
5/1 SAYS After a domain is authorized ahead, orders for names below it are ready.
7.1/1 SAYS A name is below another by whole labels.
""",
)

RFC_8739 = read_requirements(
    "8739",
    """
3.1.1/1 MUST An order for certificates that renew themselves has "auto-renewal".
3.1.1/2 MUST Such an order with notBefore or notAfter is answered with 400 malformed.
3.1.1/3 MUST It is valid for as long as certificates are issued for it.
3.1.2/1 MUST_NOT A certificate is issued for an order that was canceled.
3.1.2/2 MUST Such an order is "canceled", and says when it ends.
3.1.2/3 MUST Its certificate is answered with 403.
3.1.2/4 SHOULD That answer is autoRenewalCanceled.
3.1.2/5 MUST To cancel an order that is not valid is answered with 400 autoRenewalCancellationInvalid.
3.1.2/6 MUST To revoke such a certificate is answered with 403 autoRenewalRevocationNotSupported.
3.2/1 MUST The directory has "auto-renewal" where this is offered.
3.3/1 SHOULD The certificate comes with Cert-Not-Before and Cert-Not-After.
3.3/2 MUST These say what the certificate says.
3.3/3 MUST The next certificate is there halfway through the life of the one before it.
3.3/4 MUST It is valid when it is there.
3.3/5 MUST_NOT A certificate is issued beyond the order's end-date.
3.3/6 MUST After that the certificate is answered with 403.
3.3/7 SHOULD That answer is autoRenewalExpired.
3.4/1 MUST An order whose certificate may be read by GET says so.
3.5/1 MUST_NOT The first certificate begins before the order's start-date.
4.3/1 MUST Caches that keep what was read by GET find it stale by the time its certificate is over.
6.2/1 SHOULD There is a least lifetime.
6.3/1 SHOULD Nobody can guess where a certificate is that may be read by GET.
""",
)
