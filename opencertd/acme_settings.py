"""`[acme]`."""

from __future__ import annotations

from opencertd.acme_account_settings import AccountSettings


class AcmeSettings(AccountSettings):
    """`[acme]`."""
