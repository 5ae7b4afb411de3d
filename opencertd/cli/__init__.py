"""The `opencert` command: keys, requests, certificates in files; EST, revocation; a CA's users, its keys, its audit.

One module a command group (`keys`, `csr`, `certificate`, `est`, `est_approval`, `est_otp`, `cert`, `users`, `ca`,
`audit`), thin over `client/`, `web/users`, `keys/`, `issuance/` and `store/`.
May import everything below level 7. Exit codes: 0 done, 1 refused or failed (one line on standard error), 2 usage.
Leaves out: the daemon (`twistd opencert`, in `service`).
"""

from opencertd.cli.command import main

__all__ = ["main"]
