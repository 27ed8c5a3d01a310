"""Idempotency: an effect that is not repeated when its event comes again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import NamedTuple

import nats.js.errors
from nats.js import JetStreamContext
from nats.js.api import Header
from nats.js.kv import KeyValue

from tidegate.client.connection import Client
from tidegate.client.delivery import NATS_ERRORS
from tidegate.client.ending import end
from tidegate.client.error import RetryError
from tidegate.core import Backoff, Envelope

log = logging.getLogger(__name__)

_DAY = 86_400.0
_DONE = b"done"


class Once:
    """Remembers in a JetStream key-value bucket which events had their effect: `async with once(event) as first`.

    `first` says whether the effect is to be run; the event counts as done when the block has ended without an error.

    What it guarantees: after a block has ended and that was stored, no event with the same key gets a `first` for `ttl`
    seconds, in any process. Of several that hold the same event at once, one runs; the others get a RetryError, which
    has a `Worker` try again later. If the block raises, the event is free again at once; if its process dies, after
    `lease` seconds without a renewal.

    What it can't: if the process dies, or loses NATS for longer than `lease`, after the effect and before that is
    stored, the effect is run again. No bucket can close that gap, because the effect happens elsewhere; make the effect
    and its record one transaction there, or the effect one that may be repeated. And the memory ends after `ttl`.

    bucket: its name; one for each effect, because a key is an event's, not an effect's. Created if it is missing; an
    existing one keeps its own time to live. Needs nats-server 2.11 or newer.
    """

    def __init__(self, client: Client, bucket: str, *, ttl: float = _DAY, lease: float = 30.0) -> None:
        self._client = client
        self._bucket = bucket
        self._ttl = ttl
        self._lease = lease
        self._opened: KeyValue | None = None

    @asynccontextmanager
    async def __call__(self, event: Envelope, *, key: str | None = None) -> AsyncIterator[bool]:
        """Enter with True where the effect is to be run, and False where it was.

        key: what makes two events the same; by default their `source` and `id` (CloudEvents 1.0 §3.1). An order number,
        say, where a device may send one order as two events.
        Raises RetryError if another process runs it now, or NATS can't be asked.
        """
        name = hashlib.sha256((key if key is not None else f"{event.source} {event.id}").encode()).hexdigest()
        try:
            claim = await self._claim(name)
        except NATS_ERRORS as error:
            raise RetryError(1.0, f"bucket {self._bucket}: {error or 'no answer'}") from error
        if claim is None:
            yield False
            return
        try:
            renewing = asyncio.create_task(claim.renew(), name=f"once {self._bucket}")
            try:
                yield True
            finally:
                await end([renewing])
        except BaseException:
            await claim.release()
            raise
        await claim.finish()

    async def _claim(self, name: str) -> _Claim | None:
        """Return the claim, or None where the effect was run. Raises RetryError where another process has it."""
        bucket = self._opened = self._opened or await self._open()
        mark = b"claimed by " + secrets.token_hex(8).encode()
        while True:
            try:
                revision = await bucket.create(name, mark, msg_ttl=self._lease)
                opened = _Bucket(self._client.jetstream, bucket, self._bucket)
                return _Claim(opened, name, mark, revision, self._lease)
            except (nats.js.errors.KeyWrongLastSequenceError, nats.js.errors.KeyNotFoundError):
                pass  # somebody has it, or had it a moment ago
            with suppress(nats.js.errors.KeyNotFoundError):
                found = await bucket.get(name)
                if found.value == _DONE:
                    return None
                raise RetryError(self._lease, "another process has it in hand")

    async def _open(self) -> KeyValue:
        jetstream = self._client.jetstream
        try:
            return await jetstream.key_value(self._bucket)
        except nats.js.errors.NotFoundError:
            return await jetstream.create_key_value(bucket=self._bucket, ttl=self._ttl)


class _Bucket(NamedTuple):
    """An open bucket, and what it takes to write to it with a time to live."""

    jetstream: JetStreamContext
    keys: KeyValue
    name: str


class _Claim:
    """The right to run one effect, kept by renewing it."""

    def __init__(self, opened: _Bucket, name: str, mark: bytes, revision: int, lease: float) -> None:
        self._jetstream, self._bucket, self._bucket_name = opened
        self._name = name
        self._mark = mark
        self._revision = revision
        self._lease = lease

    async def renew(self) -> None:
        """Keep it until cancelled."""
        while True:
            await asyncio.sleep(self._lease / 3)
            with suppress(*NATS_ERRORS):
                headers = {Header.EXPECTED_LAST_SUBJECT_SEQUENCE.value: str(self._revision)}
                subject = f"$KV.{self._bucket_name}.{self._name}"
                stored = await self._jetstream.publish(subject, self._mark, headers=headers, msg_ttl=self._lease)
                self._revision = stored.seq

    async def finish(self) -> None:
        """Store that the effect was run. Tries for as long as the lease; after that the event may have it again, which
        is no reason to say that it failed."""
        backoff = Backoff()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._lease):
                while True:
                    if await self._store_done():
                        return
                    await asyncio.sleep(backoff.next())
        log.warning("bucket %s: it is not stored that an effect was run; it may be run again", self._bucket_name)

    async def _store_done(self) -> bool:
        """Return whether there is nothing more to do."""
        try:
            await self._bucket.update(self._name, _DONE, last=self._revision)
        except nats.js.errors.KeyWrongLastSequenceError:
            return await self._has_lost()
        except NATS_ERRORS as error:
            log.debug("bucket %s: %s", self._bucket_name, error)
            return False
        return True

    async def _has_lost(self) -> bool:
        """Look why the revision is another: an answer to our own writing may have been lost, or the lease is over."""
        try:
            found = await self._bucket.get(self._name)
        except nats.js.errors.KeyNotFoundError:
            self._revision = 0
            return False
        except NATS_ERRORS:
            return False
        if found.value == self._mark and found.revision is not None:
            self._revision = found.revision
            return False
        if found.value != _DONE:
            log.warning("bucket %s: the lease of an effect ran out; another process runs it too", self._bucket_name)
        return True

    async def release(self) -> None:
        """Let the event be tried again at once."""
        with suppress(*NATS_ERRORS):  # then the lease ends it
            await self._bucket.delete(self._name, last=self._revision)
