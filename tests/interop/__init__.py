"""Real clients over real sockets against the real daemon, on loopback only.

`daemon` starts the CA as a user would, `clients` runs the programs, `https` and `acme_client` speak to it from Python,
`records` writes DNS records, `responders` answers http-01. A client that is missing is a failure that names its
Debian package (`debian-packages.txt`), never a skip.
"""
