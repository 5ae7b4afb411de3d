"""The `opencert` plugin of twistd."""

from twisted.application.service import ServiceMaker

opencert = ServiceMaker(
    "opencertd", "opencertd.service", "A certificate authority: ACME, EST, OCSP, CRL and a /ca API.", "opencert"
)
