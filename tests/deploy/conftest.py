"""What the tests of deploy/ share."""

from __future__ import annotations

import pytest

from tests.deploy.site import NATS_USERS, password


@pytest.fixture
def nats_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the passwords of nats.conf into the environment."""
    for user in NATS_USERS:
        monkeypatch.setenv(f"NATS_{user.upper()}_PASSWORD", password(user))
