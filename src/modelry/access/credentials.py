"""Making and hashing credentials.

API keys and access tokens are random, so one SHA-256 is as strong as a slow
hash and costs the gateway a microsecond. Passwords are chosen by people and
get argon2id.
"""

import hashlib
import hmac
import secrets
from base64 import urlsafe_b64encode

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

# OWASP's first choice for argon2id: 19 MiB, two passes, one lane
# (https://cheatsheetseries.owasp.org, Password Storage).
_passwords = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19 * 1024, parallelism=1),))


def new_api_key() -> str:
    return "sk-" + secrets.token_urlsafe(36)


def session_api_key(cookie: str, access_path: str) -> str:
    """The key with which one browser's session calls one service: the same one every time.

    It is as hard to guess as the session's cookie, which is random.
    """
    made = hmac.digest(cookie.encode(), b"api key " + access_path.encode(), "sha256")
    return "sk-" + urlsafe_b64encode(made).decode().rstrip("=")


def new_access_token() -> str:
    return "pat-" + secrets.token_urlsafe(36)


def new_password() -> str:
    return secrets.token_urlsafe(12)


def new_id(prefix: str) -> str:
    """A public id such as `svc_0123456789abcdef`."""
    return f"{prefix}_{secrets.token_hex(8)}"


def new_owner_id() -> str:
    return f"u-{secrets.token_hex(6)}"


def digest(secret: str) -> str:
    """SHA-256 in hex: how keys and tokens are stored and looked up."""
    return hashlib.sha256(secret.encode()).hexdigest()


def masked(prefix: str, tail: str) -> str:
    return f"{prefix}…{tail}"


def hash_password(password: str) -> str:
    return _passwords.hash(password)


def password_matches(password: str, hashed: str) -> bool:
    return _passwords.verify(password, hashed)
