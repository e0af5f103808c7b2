"""Secrets that must be read again: stored encrypted, with a key in a file of its own.

Only what has to be sent on is kept so, such as the API key of an endpoint
elsewhere. Our own credentials are hashed.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from modelry.errors import ModelryError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_HINT = (
    "restore the file from a backup, or delete the service and connect it again with its API key"
)


class SecretUnreadable(ModelryError):
    """A sealed text cannot be opened (any more)."""

    code = "secret_unreadable"


class Sealer:
    """AES-256-GCM with the key in `key_file`, which the first `seal` makes.

    What was sealed for one `context` opens for no other, so that who can write
    to the database cannot have a secret sent elsewhere by moving it.
    """

    def __init__(self, key_file: Path) -> None:
        self._key_file = key_file
        self._key: bytes | None = None

    def seal(self, text: str, context: str) -> str:
        """Raises `ModelryError` where the key's file can be neither read nor made."""
        if not self._key_file.exists():
            self._make_key()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher().encrypt(nonce, text.encode(), context.encode())
        return base64.urlsafe_b64encode(nonce + sealed).decode()

    def open(self, sealed: str, context: str) -> str:
        """Raises `SecretUnreadable`."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        cipher = self._cipher()
        try:
            data = base64.urlsafe_b64decode(sealed)
            nonce, encrypted = data[:_NONCE_BYTES], data[_NONCE_BYTES:]
            return cipher.decrypt(nonce, encrypted, context.encode()).decode()
        except (InvalidTag, ValueError):
            raise SecretUnreadable(
                f"a stored secret was not sealed with the key in {self._key_file}", hint=_HINT
            ) from None

    def signing_key(self, purpose: str, *, make: bool) -> bytes:
        """A key of its own for every purpose, from the file's key, which is made where there is
        none and `make` says so. Raises `ModelryError`, a `SecretUnreadable` where it stays missing.
        """
        if make and not self._key_file.exists():
            self._make_key()
        return hmac.digest(self._read_key(), b"sign " + purpose.encode(), hashlib.sha256)

    def _cipher(self) -> "AESGCM":
        # Imported where it is needed: 40 ms that hardly any start has to spend.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415

        return AESGCM(self._read_key())

    def _read_key(self) -> bytes:
        if self._key is None:
            try:
                key = base64.b64decode(self._key_file.read_bytes().strip(), validate=True)
            except binascii.Error:
                key = b""
            except OSError as error:
                raise SecretUnreadable(
                    f"{self._key_file} cannot be read: {error.strerror}", hint=_HINT
                ) from None
            if len(key) != _KEY_BYTES:
                raise SecretUnreadable(
                    f"{self._key_file} does not hold {_KEY_BYTES} bytes in base64", hint=_HINT
                )
            self._key = key
        return self._key

    def _make_key(self) -> None:
        """The file appears whole or not at all, and never in the place of another."""
        draft = self._key_file.with_name(f"{self._key_file.name}.{secrets.token_hex(4)}")
        try:
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(base64.b64encode(secrets.token_bytes(_KEY_BYTES)) + b"\n")
                    file.flush()
                    os.fsync(file.fileno())
                os.link(draft, self._key_file)
            finally:
                draft.unlink()
        except FileExistsError:
            # Somebody else was quicker by a moment: that key is the one.
            return
        except OSError as error:
            raise ModelryError(f"{self._key_file} cannot be made: {error.strerror}") from None
