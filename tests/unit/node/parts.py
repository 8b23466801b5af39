"""The parts of one node without a network: fake suite, memory store, a clock set by hand."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pqdht.config import Config
from pqdht.constants import DAY_MS, TESTNET, ParameterSet
from pqdht.crypto.api import Provider, make_suite
from pqdht.crypto.labels import network_tag
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, new_commit
from pqdht.node.environment import Environment
from pqdht.node.identities import solve
from pqdht.records import Locator, Named, Record, RecordVerifier, make_record
from pqdht.storage.base import Floor, Store, StoredRecord
from pqdht.storage.memory import MemoryStore
from pqdht.testing.fake import FakeProvider
from pqdht.transport.tcp import TcpTransport

NOW = 20_454 * DAY_MS


class Clock:
    """ms since the epoch, moved by the test."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


class SlowStore(MemoryStore):
    """A store whose commits wait for `gate`, and fail with `error`, as a disk's do."""

    def __init__(self, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def commit(
        self,
        put: Sequence[StoredRecord],
        remove: Sequence[tuple[bytes, bytes]] = (),
        floors: Sequence[Floor] = (),
    ) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        await super().commit(put, remove, floors)


async def identity(env: Environment, born: int | None = None) -> NodeIdentity:
    """One more node's identity."""
    day = NOW // DAY_MS if born is None else born
    return await solve(new_commit(env.suite, env.network_tag, day), env.params.puzzle_bits(day))


async def environment(
    seed: int = 1,
    *,
    params: ParameterSet = TESTNET,
    store: Store | None = None,
    provider: Provider | None = None,
    limits: dict[str, Any] | None = None,
    **settings: Any,
) -> tuple[Environment, Clock]:
    """An Environment as `SecureDHT` composes it."""
    if limits:
        params = replace(params, limits=replace(params.limits, **limits))
    suite = make_suite(1, provider or FakeProvider(seed))
    tag = network_tag(params.name, params.genesis_salt, 1)
    clock = Clock()
    contacts = ContactVerifier(suite, params, tag)
    day = NOW // DAY_MS
    env = Environment(
        config=Config(network=params, **settings),
        params=params,
        suite=suite,
        network_tag=tag,
        identity=await solve(new_commit(suite, tag, day), params.puzzle_bits(day)),
        owner=OwnerIdentity.generate(suite),
        clock=clock,
        dice=random.Random(seed),
        store=store or MemoryStore(params.limits.bytes_total),
        transports={"tcp": TcpTransport()},
        contacts=contacts,
        records=RecordVerifier(suite, params, tag, contacts),
        addresses=("tcp/10.0.0.1:4733",),
    )
    return env, clock


def sign(
    env: Environment,
    value: bytes = b"v",
    *,
    at: Locator | str = "x",
    owner: OwnerIdentity | None = None,
    timestamp: int = NOW,
    ttl: int = 3600,
    params: ParameterSet | None = None,
    **more: Any,
) -> Record:
    """A signed record, by default of the node's own owner under the name x."""
    signer = owner or env.owner
    return make_record(
        env.suite,
        env.network_tag,
        signer,
        Named(signer.owner_id, at) if isinstance(at, str) else at,
        value,
        ttl=ttl,
        timestamp=timestamp,
        params=params or env.params,
        **more,
    )
