"""What RFC 5280 asks of a CRL issuer, in our words."""

from __future__ import annotations

from tests.conformance import read_requirements

RFC_5280 = read_requirements(
    "5280",
    """
3.3/1 SAYS A revoked certificate is on the next CRL after the CA was told.
3.3/2 MUST_NOT An entry is removed before it was on a regularly scheduled CRL of after the certificate's expiry.
4.2.1.13/1 SHOULD A distribution point has an HTTP or LDAP URI.
4.2.1.13/2 MUST The HTTP URI leads to a single CRL in DER.
4.2.1.13/3 SHOULD The answer's media type is application/pkix-crl.
5/1 MUST CRLs are of version 2.
5/2 MUST They say in nextUpdate by when the next one is issued.
5/3 MUST They have a CRL number.
5/4 MUST They have an authority key identifier.
5/5 SAYS A complete CRL lists all revoked certificates of its scope that have not expired.
5/6 MUST The scope of a delta CRL is that of its base CRL.
5.1.1.2/1 MUST signatureAlgorithm is what the signature field of tbsCertList says.
5.1.1.3/1 SAYS The signature is computed over the DER encoding of tbsCertList.
5.1.2.1/1 MUST The version is there and is the integer 1.
5.1.2.2/1 MUST The signature field is what signatureAlgorithm says.
5.1.2.3/1 MUST The issuer is a distinguished name that is not empty.
5.1.2.3/2 MUST It is encoded as certificates have their issuer.
5.1.2.4/1 MUST thisUpdate is a UTCTime through 2049.
5.1.2.4/2 MUST It is a GeneralizedTime from 2050.
5.1.2.4/3 MUST A UTCTime is in GMT and has seconds.
5.1.2.4/4 MUST_NOT A GeneralizedTime has fractions of seconds, or is not in GMT.
5.1.2.5/1 MUST nextUpdate is in all CRLs.
5.1.2.5/2 MUST It is a UTCTime through 2049.
5.1.2.5/3 MUST It is a GeneralizedTime from 2050.
5.1.2.5/4 SHOULD It is no earlier than that of any CRL before.
5.1.2.6/1 MUST Without revoked certificates there is no list of them.
5.1.2.6/2 SAYS A revoked certificate is listed by its serial number, with the date of its revocation.
5.1.2.6/3 MUST revocationDate is expressed as thisUpdate is.
5.2/1 MUST All CRLs have the authority key identifier and the CRL number.
5.2.1/1 MUST The authority key identifier is by key identifier.
5.2.1/2 MUST It is in all CRLs.
5.2.2/1 SHOULD issuerAltName is not critical.
5.2.3/1 SAYS The CRL number is not critical, and grows with each CRL of a scope.
5.2.3/2 MUST Complete and delta CRLs of a scope share one sequence of numbers.
5.2.3/3 MUST Those issued at the same time have the same number and say the same.
5.2.3/4 MUST_NOT CRLs of a scope with different thisUpdate have the same number.
5.2.3/5 MUST_NOT A number is longer than 20 octets.
5.2.4/1 MUST A delta CRL has a critical delta CRL indicator.
5.2.4/2 MUST The base CRL was published as a complete CRL.
5.2.4/3 MUST A delta CRL covers the reasons and certificates of its base.
5.2.4/4 MUST Neither it nor its base has an issuing distribution point, or both have the same.
5.2.4/5 MUST The same key signs it and each complete CRL that it updates.
5.2.4/6 MUST Put together with a complete CRL that it fits, it tells how things stand.
5.2.4/7 MUST It has an entry for each certificate whose status has changed since its base.
5.2.4/8 MUST A certificate revoked since is listed as revoked.
5.2.4/9 MUST A certificate held on the base or a later CRL, and valid again, is listed with removeFromCRL.
5.2.4/10 MUST A certificate whose reason has changed is listed with the new one.
5.2.4/11 MUST A certificate held after the base, and released, is listed with removeFromCRL.
5.2.4/12 MUST A revocation that was first on a delta CRL is on all further ones until a complete CRL has it.
5.2.5/1 SAYS The issuing distribution point is critical.
5.2.5/2 SAYS The CRL is signed with the issuer's key: distribution points have none of their own.
5.2.5/3 MUST Without onlySomeReasons it lists revocations for all reasons.
5.2.5/4 MUST indirectCRL is FALSE where all certificates are of the CRL's issuer.
5.2.5/5 MUST_NOT More than one of the kinds of certificates has an "only".
5.2.5/6 MUST onlyContainsAttributeCerts is FALSE.
5.2.5/7 MUST_NOT The extension is an empty sequence.
5.2.5/8 MUST Without a distribution point's name, all revoked certificates of the scope are listed.
5.2.5/9 MUST The distribution point is encoded as it is in certificates.
5.2.5/10 MUST_NOT A scope of "only" users or CAs includes certificates of version 1 or 2.
5.2.6/1 MUST_NOT freshestCRL is in a delta CRL.
5.2.6/2 MUST It is not critical.
5.2.6/3 MUST The delta CRLs that it leads to have the scope of the complete CRL.
5.2.6/4 MUST It has neither reasons nor cRLIssuer.
5.2.7/1 MUST authorityInfoAccess in a CRL is not critical.
5.2.7/2 MUST It says where the issuer's certificates are.
5.3/1 SAYS Extensions of entries are not critical, but for certificateIssuer.
5.3.1/1 SAYS Entries have a reason that means something.
5.3.1/2 SHOULD Instead of "unspecified" there is no reason.
5.3.1/3 SAYS removeFromCRL is in delta CRLs only.
5.3.2/1 MUST invalidityDate is a GeneralizedTime in GMT, without fractions of seconds.
5.3.2/2 SAYS It is there when it is known.
5.3.3/1 MUST certificateIssuer is critical where it is used.
""",
)
