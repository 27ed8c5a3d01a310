"""Who to be: the forms of login, and what each adds to CONNECT."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Fields = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Login:
    """In at most one of the four forms. Secrets are read again for each connection."""

    username: str | None = None
    password: Callable[[], str] | None = None
    token: Callable[[], str] | None = None
    nkey_seed_file: Path | None = None
    credentials_file: Path | None = None

    def read(self) -> Callable[[str | None], Fields]:
        """Read the secrets; return what makes CONNECT's fields of the server's nonce. Nothing is sent here.

        Raises OSError and ValueError where a file can't be used.
        """
        if self.nkey_seed_file is not None:
            return _signer(_read(self.nkey_seed_file).strip(), self.nkey_seed_file, None)
        if self.credentials_file is not None:
            return _credentials(self.credentials_file)
        fields: Fields = {}
        if self.username is not None:
            fields["user"] = self.username
        if self.password is not None:
            fields["pass"] = self.password()
        if self.token is not None:
            fields["auth_token"] = self.token()
        return lambda _nonce: fields


NOBODY = Login()
"""No login at all."""


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace")


def _credentials(file: Path) -> Callable[[str | None], Fields]:
    text = _read(file)
    jwt = _JWT.search(text)
    seed = _SEED.search(text)
    if jwt is None or seed is None:
        raise ValueError(f"{file} is not a credentials file: it has no {'NKey seed' if jwt else 'user JWT'}")
    return _signer(seed[1], file, jwt[1])


_JWT = re.compile(r"BEGIN NATS USER JWT-*\s+([\w.-]+?)\s+-+END")
_SEED = re.compile(r"BEGIN USER NKEY SEED-*\s+(\w+)\s")


def _signer(seed: str, file: Path, jwt: str | None) -> Callable[[str | None], Fields]:
    """Return what signs a nonce. A server without a nonce asks for no such login, and gets none."""
    try:
        import nkeys
    except ImportError:
        raise ValueError("NKeys need an extra package: pip install 'tidegate[nkeys]'") from None
    try:
        key = nkeys.from_seed(bytearray(seed.encode()))
    except (nkeys.NkeysError, ValueError):
        raise ValueError(f"{file} holds no valid NKey seed") from None

    def sign(nonce: str | None) -> Fields:
        if nonce is None:
            return {}
        signature = base64.urlsafe_b64encode(key.sign(nonce.encode())).rstrip(b"=").decode()
        identity = {"nkey": key.public_key.decode()} if jwt is None else {"jwt": jwt}
        return {**identity, "sig": signature}

    return sign
