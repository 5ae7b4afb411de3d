"""What RFC 6960, 9919 and 9654 ask of a responder and the CA behind it, section by section, in our words."""

from __future__ import annotations

from tests.conformance import read_requirements

RFC_6960 = read_requirements(
    "6960",
    """
2.2/1 MUST Every definitive answer is signed.
2.2/2 MUST It is signed by the CA, or by whom the CA has named for that by a certificate of its own.
2.2/3 MUST An answer that says revoked of what was never issued has the extension that says so.
2.2/4 MUST Such an answer gives certificateHold as the reason.
2.2/5 MUST Such an answer gives January 1, 1970 as the time.
2.2/6 MUST_NOT Such an answer has CRL references or extensions of CRL entries.
2.3/1 SAYS What is not OCSP syntax is answered with malformedRequest.
2.3/2 SAYS A responder that cannot answer just now says tryLater.
2.3/3 SAYS Where requests must be signed, others are answered with sigRequired.
2.3/4 SAYS Whoever may not ask, and of whose certificates nothing is known with authority, gets unauthorized.
2.4/1 SAYS thisUpdate is when the status was last known to be so.
2.4/2 SAYS producedAt is when the answer was signed.
2.5/1 MUST An answer made beforehand says in thisUpdate when that was so.
2.6/1 MUST The CA itself has issued the responder's certificate.
3.1/1 MUST Certificates can name the responder's URI in authorityInfoAccess, as id-ad-ocsp.
4.1.2/1 MUST Extensions that are not known, and not critical, are passed over.
4.1.2/2 MUST A signed request has a requestorName.
4.2.1/1 SAYS An answer that is an error has no responseBytes.
4.2.1/2 MUST Answers of the type id-pkix-ocsp-basic can be made.
4.2.1/3 MUST The answer is the DER of a BasicOCSPResponse.
4.2.1/4 MUST The signature is over the DER of the ResponseData.
4.2.2.1/1 MUST Times are as RFC 5280 has GeneralizedTime.
4.2.2.2/1 MUST The responder's certificate has id-kp-OCSPSigning.
4.2.2.2/2 SHOULD It is signed by the key that has signed the certificates in question.
4.2.2.2.1/1 SHOULD id-pkix-ocsp-nocheck is not critical.
4.2.2.2.1/2 MUST Its value is NULL.
4.2.2.3/1 MUST The version of an answer is 1.
4.2.2.3/2 MUST The responder's name or hash is that of the certificate whose key has signed.
4.2.2.3/3 MUST The answer speaks of each certificate in the request.
4.2.2.3/4 SHOULD_NOT It speaks of others.
4.4.1/1 SAYS A nonce is in the answer as it was in the request.
4.4.4/1 SHOULD Answers have an archive cutoff where revocations are told of beyond expiry.
4.4.4/2 MUST It is a singleExtension, and a GeneralizedTime.
4.4.6/1 SAYS A service locator is an extension of one certificate's request.
4.4.7.2.1/1 SHOULD The first of the client's preferred algorithms that can be had signs the answer.
4.4.7.2.2/1 SHOULD They count also where answers are made beforehand.
4.4.8/1 MUST The extension about what was never issued is among responseExtensions.
4.4.8/2 MUST_NOT It is a singleExtension.
4.4.8/3 MUST Its value is NULL.
4.4.8/4 MUST_NOT It is critical.
5.1/1 MUST The algorithm that signs is strong enough.
5.1.1/1 MUST_NOT A weak one signs, whoever asks for it.
A.1/1 SAYS Requests come by GET, in base64 that is URL-encoded, and by POST.
A.2/1 SAYS Answers are of the type application/ocsp-response.
A.2/2 SHOULD Content-Length is given.
""",
)

RFC_9919 = read_requirements(
    "9919",
    """
3.1.1/1 SAYS CertIDs with SHA-256 are answered, and those of old clients with SHA-1.
3.1.2/1 MUST Unsigned requests with a requestorName are answered as if they had none.
3.2.1/1 MUST The answer has a SingleResponse for the request's certificate.
3.2.1/2 SHOULD_NOT It has responseExtensions.
3.2.1/3 SHOULD What asks for an option that is not offered gets the most that there is.
3.2.2/1 MUST The certificate of a responder that the CA has named is in certs.
3.2.2/2 SHOULD It has id-pkix-ocsp-nocheck, and neither authorityInfoAccess nor cRLDistributionPoints.
3.2.2/3 SHOULD It is short-lived, and renewed.
3.2.2/4 SHOULD Responders name themselves by their key.
3.2.3/1 SAYS A responder that knows nothing of a certificate with authority says unauthorized.
3.2.4/1 MUST nextUpdate is given.
3.2.4/2 MUST Times are in GMT, with seconds.
3.2.4/3 MUST_NOT They have fractions of seconds.
6/1 MUST Requests are taken over HTTP.
6/2 MUST GET is taken, and POST.
6/3 SAYS An answer to GET has ETag, Last-Modified, Expires, Cache-Control and Date.
6/4 SAYS max-age ends no later than nextUpdate.
7.2/1 SHOULD Answers can be cached by proxies.
7.2/2 MUST_NOT An authoritative answer tells caches not to store it.
7.2/3 SHOULD One that is not authoritative does.
""",
)

RFC_9654 = read_requirements(
    "9654",
    """
2.1/1 MUST A nonce in the answer is that of the request.
2.1/2 MUST Nonces of 16 to 32 octets are accepted.
2.1/3 SAYS Nonces of 1 to 128 octets are.
2.1/4 MUST A nonce without octets, or with more than 128, is answered with malformedRequest.
2.1/5 MUST Its value is an OCTET STRING in the extension's value.
2.1/6 SAYS An answer to a request without a nonce has none.
3.1/1 SAYS An answer with a nonce is given to nobody else.
""",
)
