"""Secrets of a study: links of readers and passwords of owners, kept as hashes alone."""

import hmac
import json
import secrets
from hashlib import scrypt, sha256

TOKEN_BYTES = 16
_COST = {"n": 2**14, "r": 8, "p": 1}


def new_token() -> str:
    """128 random bits as text for a link."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def link(page: str, token: str) -> str:
    """The link by which a reader comes in; page: where the program is served."""
    return f"{page.rstrip('/')}/review?reader={token}"


def token_hash(token: str) -> str:
    """What is kept of a token. One round is enough, as it is random."""
    return sha256(token.encode("utf-8", "replace")).hexdigest()


def password_hash(password: str) -> str:
    """What is kept of a password: scrypt with a salt of its own (RFC 7914)."""
    salt = secrets.token_bytes(16)
    return json.dumps({"salt": salt.hex(), "hash": _scrypt(password, salt, _COST).hex(), **_COST})


def verified(password: str, kept: str) -> bool:
    """Whether `password` is the one that `kept` was made from."""
    cost = json.loads(kept)
    wanted, salt = bytes.fromhex(cost.pop("hash")), bytes.fromhex(cost.pop("salt"))
    return hmac.compare_digest(_scrypt(password, salt, cost), wanted)


def _scrypt(password: str, salt: bytes, cost: dict[str, int]) -> bytes:
    return scrypt(password.encode("utf-8", "replace"), salt=salt, **cost)
