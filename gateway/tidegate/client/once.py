"""Idempotency: an effect that is not repeated when its event comes again."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats.js.errors
from nats.js.kv import KeyValue

from tidegate.client.claim import Claim
from tidegate.client.connection import Client
from tidegate.client.delivery import NATS_ERRORS
from tidegate.client.ending import end
from tidegate.core import Backoff, Envelope

log = logging.getLogger(__name__)

_DAY = 86_400.0


class Once:
    """Remembers in a JetStream key-value bucket which events had their effect: `async with once(event) as first`.

    `first` says whether the effect is to be run; the event counts as done when the block has ended without an error.

    What it guarantees: after a block has ended and that was stored, no event with the same key gets a `first` for `ttl`
    seconds, in any process. Of several that hold the same event at once one runs, and the others wait until that has
    ended. If the block raises, the event is free again at once; if its process dies, after `lease` seconds without a
    renewal. While NATS is away it waits.

    What it can't: if the process dies, or loses NATS for longer than `lease`, after the effect and before that is
    stored, the effect is run again. No bucket can close that gap, because the effect happens elsewhere; make the effect
    and its record one transaction there, or the effect one that may be repeated. And the memory ends after `ttl`.

    bucket: its name; one for each effect, because a key is an event's, not an effect's. Made with one replica if it is
    missing; one that is there keeps its own replicas and time to live. ttl: seconds. lease: whole seconds, at least 1.
    Needs nats-server 2.11 or newer. Raises ValueError for another lease.
    """

    def __init__(self, client: Client, bucket: str, *, ttl: float = _DAY, lease: int = 30) -> None:
        if lease != int(lease) or lease < 1:
            raise ValueError(f"lease={lease}: should be whole seconds, at least 1")
        self._client = client
        self._bucket = bucket
        self._ttl = ttl
        self._lease = int(lease)
        self._opened: KeyValue | None = None

    @asynccontextmanager
    async def __call__(self, event: Envelope, *, key: str | None = None) -> AsyncIterator[bool]:
        """Enter with True where the effect is to be run, and False where it was.

        key: what makes two events the same; by default their `source` and `id` (CloudEvents 1.0 §3.1). An order number,
        say, where a device may send one order as two events.
        """
        claim = await self._claim(hashlib.sha256((key or f"{event.source} {event.id}").encode()).hexdigest())
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

    async def _claim(self, key: str) -> Claim | None:
        """Return the claim, or None where the effect was run. Asks again until it knows: that a lease has ended is not
        announced, and neither is the end of an outage."""
        backoff = Backoff(first=0.05, longest=2.0)
        claim: Claim | None = None
        while True:
            try:
                if claim is None:
                    claim = Claim(self._client.jetstream, await self._open(), self._bucket, key, self._lease)
                taken = await claim.take()
            except NATS_ERRORS as error:
                log.warning("bucket %s: %s; asking again", self._bucket, error or "no answer")
                self._opened = claim = None  # it may be gone
                taken = None
            if taken is not None:
                return claim if taken else None
            await asyncio.sleep(backoff.next())

    async def _open(self) -> KeyValue:
        jetstream = self._client.jetstream
        if self._opened is None:
            try:
                self._opened = await jetstream.key_value(self._bucket)
            except nats.js.errors.NotFoundError:
                self._opened = await jetstream.create_key_value(bucket=self._bucket, ttl=self._ttl)
        return self._opened
