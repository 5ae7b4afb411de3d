"""What RFC 7030, 8951 and 9908 ask of an EST server, section by section, in our words."""

from __future__ import annotations

from tests.conformance import read_requirements

RFC_7030 = read_requirements(
    "7030",
    """
3.2.2/1 MUST EST is below /.well-known/est.
3.2.2/2 MUST_NOT A label is one of the operations' names.
3.2.2/3 MUST Each operation is there with and without a label.
3.2.2/4 SAYS Enrolment and renewal are told apart by the URL alone.
3.2.3/1 SAYS Whoever is to log in by HTTP is told so by WWW-Authenticate.
3.2.3/2 MUST Basic and Digest are spoken over TLS 1.1 or later only.
3.2.3/3 MUST_NOT Cipher suites that encrypt nothing, or are anonymous, are used.
3.2.3/4 SAYS A user name may be empty.
3.2.4/1 SAYS Each message has the media type that the RFC names for it.
3.3/1 MUST HTTPS is used.
3.3/2 MUST TLS is 1.1 or later.
3.3/3 SHOULD TLS sessions can be resumed.
3.3.1/1 MUST The server proves itself with a certificate.
3.3.1/2 MUST That certificate is as RFC 5280 has it.
3.3.2/1 MUST Clients can prove themselves with certificates.
3.3.2/2 MUST A client's certificate is validated as RFC 5280 has it.
3.3.2/3 MUST Whoever has proven an identity still needs the right to what is asked.
3.3.3/1 MUST Cipher suites without certificates resist dictionary attacks.
3.4/1 SAYS The signature of a request proves possession of the key.
3.5/1 MUST Where a request names its TLS connection, that is verified.
3.5/2 MUST A Full PKI Response that refuses such a request says popFailed.
3.5/3 SHOULD Words that refuse a request say that linking identity and possession is required.
3.5/4 MUST Renegotiation is the secure one.
3.7/1 SAYS Who may have which certificate is decided by local policy.
3.7/2 SHOULD A client whose certificate has id-kp-cmcRA is treated as a registration authority.
4.1.2/1 SHOULD_NOT Clients must prove who they are for cacerts.
4.1.3/1 MUST A successful answer is 200.
4.1.3/2 MUST It is a certs-only Simple PKI Response.
4.1.3/3 MUST The current root is in it.
4.1.3/4 MUST All that is between issued certificates and the root is in it.
4.1.3/5 SHOULD After a rollover OldWithOld, OldWithNew and NewWithOld are in it.
4.2/1 MUST The server authenticates the client.
4.2/2 MUST It checks that the client may have what it asks for.
4.2/3 MUST It checks the TLS connection that the request names.
4.2.1/1 MUST A request is a PKCS#10 request of type application/pkcs10.
4.2.1/2 SAYS Whoever has a certificate may ask for another.
4.2.2/1 MUST Subject and SubjectAltName are those of the certificate that is renewed.
4.2.2/2 SAYS ChangeSubjectName asks for others.
4.2.2/3 SAYS With the same key the certificate is renewed.
4.2.2/4 SAYS With another key it is rekeyed.
4.2.3/1 MUST A successful answer is 200 and application/pkcs7-mime.
4.2.3/2 MUST It is certs-only, and has the issued certificate alone.
4.2.3/3 MUST What fails is answered with 4xx or 5xx.
4.2.3/4 MUST An error without content type is text for people.
4.2.3/5 MUST 202 comes with Retry-After.
4.2.3/6 SAYS The server knows a request again that was answered with 202.
4.3/1 SAYS Full CMC may be left out.
4.3.1/1 MUST What is no Full PKI Request is refused.
4.3.2/1 MUST A refusal has a CMC response in its body.
4.4/1 MUST The server authenticates the client.
4.4/2 MUST_NOT Cipher suites that encrypt nothing are used.
4.4/3 MUST TLS is as strong as the key that it carries.
4.4.1/1 SHOULD The request is treated as one for enrolment.
4.4.1/2 MUST Its public key and its signature are ignored.
4.4.1.1/1 MUST Where the secret that it names is not known, the request fails.
4.4.1.2/1 MUST Where the public key that it names is not known, the request fails.
4.4.2/1 MUST A successful answer is 200 and multipart/mixed, with one part for the key and one for the certificate.
4.4.2/2 MUST A key that is not encrypted is PKCS#8 in an application/pkcs8 part.
4.4.2/3 SAYS An encrypted one is signed by whoever made it, in EnvelopedData of type server-generated-key.
4.4.2/4 MUST For a secret, its recipient is a KEKRecipientInfo with that identifier.
4.4.2/5 MUST For a key that can encrypt, it is a KeyTransRecipientInfo.
4.4.2/6 MUST For a key that can agree, it is a KeyAgreeRecipientInfo.
4.4.2/7 SHOULD The key that encrypts the content is as strong as the one that encrypts it.
4.4.2/8 MUST The part with the certificate is as simpleenroll answers it.
4.4.2/9 MUST What fails is answered with 4xx or 5xx.
4.4.2/10 MUST An error without content type is text for people.
4.5.1/1 SHOULD_NOT Clients must prove who they are for csrattrs.
4.5.2/1 MUST Attributes are answered with 200.
4.5.2/2 SAYS Where there are none, the answer is 204 or 404.
4.5.2/3 MUST Their type is application/csrattrs.
4.5.2/4 MUST A kind of key that is required is told.
4.5.2/5 MUST Where linking identity and possession is required, challengePassword is told.
4.5.2/6 SHOULD Attributes have the structure of the request that they ask for.
6/1 MUST_NOT Cipher suites with EXPORT or DES in their names are used.
""",
)

RFC_8951 = read_requirements(
    "8951",
    """
3/1 MUST Bodies of requests and answers are base64 of DER.
3/2 MUST A Content-Transfer-Encoding in a request is ignored.
3.1/1 SHOULD White space in base64 is tolerated: CR, LF, space and tab.
4/1 SAYS CsrAttrs is a SEQUENCE of OIDs and attributes.
5.1/1 SAYS Errors of enrolment are text for people, and may say text/plain.
5.2/1 SAYS So are errors of serverkeygen.
""",
)

RFC_9908 = read_requirements(
    "9908",
    """
3.2/1 MUST Extensions are asked for by id-ExtensionReq.
3.2/2 MUST There is one such attribute.
3.2/3 MUST Its set has one element, of type Extensions.
3.2/4 MUST_NOT An extension is in it twice.
3.2/5 MUST A kind of key is asked for by one attribute, with the kind as its type.
3.2/6 MUST Its values, if any, are parameters of that kind.
3.4/1 MUST A template has a subject where the server wants something of it, and none otherwise.
3.4/2 MUST It has subjectPKInfo where the server wants something of the key, and none otherwise.
3.4/3 MUST A size of RSA keys is told by a public key of that size.
3.4/4 MUST Otherwise there is no public key.
3.4/5 MUST Extensions whose values are all there are in id-ExtensionReq.
3.4/6 MUST A template's version is v1.
3.4/7 MUST_NOT A template has several attributes for extensions.
3.4/8 MUST An attribute for extensions with holes has one element.
3.4/9 MUST It has subjectPKInfo also where keys of some kinds are taken and of others not.
""",
)
