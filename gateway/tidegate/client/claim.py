"""The right to run one effect, for as long as it is renewed: an entry of a key-value bucket with a time to live."""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import suppress

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.kv import KeyValue

from tidegate.client.delivery import NATS_ERRORS
from tidegate.core import Backoff

log = logging.getLogger(__name__)

_DONE = b"done"


class Claim:
    """One attempt at one key. lease: whole seconds, counted by the server, because clocks differ."""

    def __init__(self, jetstream: JetStreamContext, keys: KeyValue, bucket: str, key: str, lease: int) -> None:
        self._jetstream = jetstream
        self._keys = keys
        self._key = key
        self._subject = f"$KV.{bucket}.{key}"  # nats-py has no update with a time to live
        self._lease = lease
        self._mark = b"claimed by " + secrets.token_hex(8).encode()
        self._revision = 0

    async def take(self) -> bool | None:
        """Return True if the claim is ours, False if the effect was run, None if somebody else has it now. Raises
        nats-py's errors."""
        with suppress(nats.js.errors.KeyWrongLastSequenceError, nats.js.errors.KeyNotFoundError):
            self._revision = await self._keys.create(self._key, self._mark, msg_ttl=self._lease)
            return True
        found = await self._find()
        if found == self._mark:  # the answer to an earlier try was lost
            return True
        return False if found == _DONE else None

    async def _find(self) -> bytes | None:
        """Return what is stored; if it is our own mark, its revision is now ours."""
        try:
            found = await self._keys.get(self._key)
        except nats.js.errors.KeyNotFoundError:
            return None
        if found.value == self._mark:
            self._revision = found.revision or 0
        return found.value

    async def renew(self) -> None:
        """Keep it until cancelled."""
        quarter = self._lease / 4
        while True:
            await asyncio.sleep(quarter)
            with suppress(*NATS_ERRORS):
                async with asyncio.timeout(quarter):
                    await self._renew()

    async def _renew(self) -> None:
        try:
            await self._write()
        except nats.js.errors.APIError:  # perhaps the answer to the last renewal was lost, and the revision is another
            if await self._find() == self._mark:
                await self._write()

    async def _write(self) -> None:
        headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(self._revision)}
        answer = await self._jetstream.publish(self._subject, self._mark, headers=headers, msg_ttl=self._lease)
        self._revision = answer.seq

    async def finish(self) -> None:
        """Store that the effect was run. Tries for as long as the lease; after that it may be run again, which is no
        reason to say that it failed."""
        backoff = Backoff()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease):
                while True:
                    with suppress(*NATS_ERRORS):
                        await self._store_done()
                        return
                    await asyncio.sleep(backoff.next())
        log.warning("%s: it is not stored that an effect was run; it may be run again", self._subject)

    async def _store_done(self) -> None:
        try:
            await self._keys.update(self._key, _DONE, last=self._revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            found = await self._find()
            if found == self._mark:
                await self._keys.update(self._key, _DONE, last=self._revision)
            elif found is None:
                await self._keys.create(self._key, _DONE)
            elif found != _DONE:
                log.warning("%s: the lease of an effect ran out; another process runs it too", self._subject)

    async def release(self) -> None:
        """Let the effect be run again at once. Where that can't be said, the end of the lease does."""
        with suppress(*NATS_ERRORS):
            if await self._find() == self._mark:
                await self._keys.delete(self._key, last=self._revision)
