"""NKeys, and the JWTs of an operator, an account and a user, signed here: no `nsc` is needed."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from pathlib import Path

import nkeys


class Key:
    """A new key pair of one role: nkeys.PREFIX_BYTE_OPERATOR, _ACCOUNT or _USER."""

    def __init__(self, prefix: int) -> None:
        self.seed = nkeys.encode_seed(os.urandom(32), prefix).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public = self._pair.public_key.decode()

    def jwt(self, subject: Key, kind: str, name: str, **claims: object) -> str:
        """Return a JWT about `subject`, issued by this key."""
        body: dict[str, object] = {
            "iat": int(time.time()),
            "iss": self.public,
            "name": name,
            "sub": subject.public,
            "nats": {"type": kind, "version": 2, **claims},
        }
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).digest()
        body["jti"] = base64.b32encode(digest).decode().rstrip("=")
        unsigned = f"{_encode(json.dumps({'typ': 'JWT', 'alg': 'ed25519-nkey'}).encode())}." + _encode(
            json.dumps(body, separators=(",", ":")).encode()
        )
        return f"{unsigned}.{_encode(self._pair.sign(unsigned.encode()))}"


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Operator:
    """An operator with one account that has JetStream."""

    def __init__(self) -> None:
        operator, self._account = Key(nkeys.PREFIX_BYTE_OPERATOR), Key(nkeys.PREFIX_BYTE_ACCOUNT)
        system = Key(nkeys.PREFIX_BYTE_ACCOUNT)
        storage = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}
        everything = {"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": True}
        limits = {**everything, "conn": -1, "leaf": -1, **storage}
        account_jwt = operator.jwt(self._account, "account", "PLANT", limits=limits)
        system_jwt = operator.jwt(system, "account", "SYS", limits={**everything, "conn": -1, "leaf": -1})
        self.server_config = (
            f"operator: {operator.jwt(operator, 'operator', 'test')}\n"
            f"system_account: {system.public}\n"
            "resolver: MEMORY\n"
            f"resolver_preload {{ {self._account.public}: {account_jwt}, {system.public}: {system_jwt} }}"
        )

    def user(self) -> tuple[str, Key]:
        """Return the JWT and the key of a new user."""
        key = Key(nkeys.PREFIX_BYTE_USER)
        return self._account.jwt(key, "user", "edge", subs=-1, data=-1, payload=-1), key


def credentials(folder: Path, jwt: str, seed: str, end: str = "\n") -> Path:
    """Write a credentials file, as `nsc generate creds` does."""
    lines = (
        "-----BEGIN NATS USER JWT-----",
        jwt,
        "------END NATS USER JWT------",
        "",
        "************************* IMPORTANT *************************",
        "NKEY Seed printed below can be used to sign and prove identity.",
        "",
        "-----BEGIN USER NKEY SEED-----",
        seed,
        "------END USER NKEY SEED------",
        "",
    )
    file = folder / "edge.creds"
    file.write_bytes(end.join(lines).encode())
    return file
