"""The token that settings name, for the ceremony, the workers and the command line.

The library for it is optional, so nothing here imports it before there is a token to use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import succeed
from twisted.logger import Logger

from opencertd.errors import StartError
from opencertd.issuance.ceremony import HeldKey
from opencertd.issuance.issuers import Issuers, SignerInToken
from opencertd.issuance.key_types import NewKey
from opencertd.keys.key_uri import in_token
from opencertd.keys.kinds import PrivateKey, PublicKey, Scheme
from opencertd.keys.signer import Elsewhere, Signer
from opencertd.keys.token_errors import TokenAway, TokenError
from opencertd.settings.sections import Pkcs11Settings
from opencertd.state import StateDirectory

if TYPE_CHECKING:
    from opencertd.keys.pkcs11 import Token
    from opencertd.keys.token_signer import TokenThread


class TokenAccess:
    """The token of one process, or none. Making it touches nothing."""

    _log = Logger()

    def __init__(self, settings: Pkcs11Settings, state: StateDirectory) -> None:
        self._settings = settings
        self._state = state
        self._token: Token | None = None
        self._thread: TokenThread | None = None

    @property
    def token(self) -> Token:
        """The token, not looked for yet. Raises StartError without settings for one or without the library."""
        if self._token is not None:
            return self._token
        settings = self._settings
        if not (settings.module and settings.token and settings.pin_file):
            raise StartError("there is no token: give module, token and pin_file under [pkcs11] in the settings file")
        try:
            from opencertd.keys.pin import PinFile
            from opencertd.keys.pkcs11 import Token
        except ImportError:
            raise StartError(
                "keys in a token need the library python-pkcs11: install it by pip install 'opencertd[hsm]'"
            ) from None
        pin = PinFile(settings.pin_file, self._state.path / "pkcs11-refused-pin")
        self._token = Token(settings.module, settings.token, pin)
        return self._token

    def hold(self, name: str, wanted: NewKey) -> HeldKey:
        """A new key made in the token (a `HoldKey`). Raises StartError."""
        token = self.token
        from opencertd.keys.token_keys import make_key

        try:
            key = make_key(token, name, wanted.label)
        except TokenError as error:
            raise StartError(f"no CA key can be made in the token: {error}") from None
        return HeldKey(key, str(key.uri))

    def bring(self, name: str, key: PrivateKey) -> str:
        """Bring a key into the token, and make sure that it signs there; answers its reference. Raises StartError."""
        token = self.token
        from opencertd.keys.token_keys import bring_key
        from opencertd.keys.token_signer import TokenSigner

        try:
            reference = str(bring_key(token, name, key).uri)
            TokenSigner(token, reference, key.public_key(), lambda sign: succeed(sign())).prove()
        except TokenError as error:
            raise StartError(f"the key cannot be moved into the token: {error}") from None
        return reference

    def signer(self, elsewhere: Elsewhere[bytes]) -> SignerInToken | None:
        """What makes signers for keys in the token; `elsewhere` runs a function that may block. None without token."""
        if self._settings.module is None:
            return None
        token = self.token
        from opencertd.keys.token_signer import TokenSigner

        def make(reference: str, public_key: PublicKey, scheme: Scheme) -> Signer:
            return TokenSigner(token, reference, public_key, elsewhere, scheme)

        return make

    def threaded_signer(self, reactor: Any) -> SignerInToken | None:
        """The same, in a thread of the token's own. `stop` ends it."""
        if self._settings.module is None:
            return None
        from opencertd.keys.token_signer import TokenThread

        self._thread = TokenThread(reactor)
        return self.signer(self._thread.run)

    def check(self, issuers: Issuers) -> None:
        """Make sure, here and now, that the token has the issuers' keys. Raises StartError in words.

        A token that is away is said in the log only: status is served without it, and it may come back.
        """
        for issuer in issuers.all():
            if not in_token(issuer.record.key_reference):
                continue
            signer: Any = issuer.signer
            try:
                signer.check()
            except TokenAway as error:
                self._log.error("until the token is back, nothing can be issued, only status served: {why}", why=error)
                return
            except TokenError as error:
                raise StartError(f"the key of the CA {issuer.name!r} cannot be used: {error}") from None

    def stop(self) -> None:
        """Let the thread end when it has done what was asked, and the token go with the process."""
        if self._thread is not None:
            self._thread.stop()

    def close(self) -> None:
        """Log out and let go of the token. Blocks."""
        if self._token is not None:
            self._token.close()
