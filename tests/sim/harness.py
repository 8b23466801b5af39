"""Real nodes on a simulated network: made, killed and brought back one by one.

async def main():
    net = Net(seed=1, params=replace(TESTNET, k=8))
    await net.grow(50)
    await net.nodes[3].put("x", b"hello")
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pqdht.config import Config
from pqdht.constants import TESTNET, ParameterSet
from pqdht.crypto.api import Suite, make_suite
from pqdht.crypto.labels import network_tag
from pqdht.errors import PqdhtError, WireCode
from pqdht.identity.contact import VerifiedContact
from pqdht.identity.keys import NodeIdentity, OwnerIdentity
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.node.identities import load_or_make_node
from pqdht.records import Record, make_record
from pqdht.storage.memory import MemoryStore
from pqdht.testing.fake import FakeProvider
from pqdht.testing.latency import Constant
from pqdht.testing.loop import run
from pqdht.testing.simnet import SimNetwork
from pqdht.wire.messages import Store, Stored

PORT = 4733
Scenario = Callable[["Net"], Awaitable[None]]
Listens = Callable[[int], str]


def own_group(i: int) -> str:
    """Every node in a /24 of its own."""
    return f"10.{i // 200}.{i % 200}.1"


def one_group(i: int) -> str:
    """Up to 200 nodes in one /24."""
    return f"10.0.0.{i + 1}"


def at(ip: str) -> str:
    """Where the node of a host listens."""
    return f"tcp/[{ip}]:{PORT}" if ":" in ip else f"tcp/{ip}:{PORT}"


class Disk(MemoryStore):
    """What survives a crash of the process that wrote it."""

    def reopen(self) -> Disk:
        self._closed = False
        return self


@dataclass
class Seat:
    """What a node keeps across its lives."""

    ip: str
    provider: FakeProvider
    suite: Suite
    dice: random.Random
    disk: Disk
    identity: NodeIdentity
    owner: OwnerIdentity
    bootstrap: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)


class Net:
    """`params` of the network, `settings` of every node's `Config`, `simulator` options of `SimNetwork`."""

    def __init__(
        self,
        seed: int = 1,
        *,
        params: ParameterSet = TESTNET,
        ips: Listens = own_group,
        simulator: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        options = {"latency": Constant(0.05, 0.01)} | (simulator or {})
        self.sim = SimNetwork(seed=seed, **options)
        self.seed = seed
        self.params = params
        self.tag = network_tag(params.name, params.genesis_salt, 1)
        self.seats: list[Seat] = []
        self.nodes: list[SecureDHT] = []
        self.up: list[bool] = []
        self.bootstrap: tuple[str, ...] = ()
        self._ips = ips
        self._settings = settings

    async def grow(self, n: int, *, pause_s: float = 0.5) -> None:
        """Add `n` nodes, each joined before the next comes; then let each look itself up once."""
        for _ in range(n):
            await (await self.add()).bootstrapped(60.0)
            await asyncio.sleep(pause_s)
        if len(self.nodes) > 1:
            await asyncio.gather(*(node.find_node(node.node_id) for node in self.nodes))

    async def add(self, *, identity: NodeIdentity | None = None, **settings: Any) -> SecureDHT:
        """One more node, on its way in through the first; `identity` if it is to have a certain place."""
        index = len(self.seats)
        ip = self._ips(index)
        provider = FakeProvider(self.seed * 1_000_003 + index)
        suite = make_suite(1, provider)
        config = Config(network=self.params)
        if identity is None:
            identity = await load_or_make_node(config, suite, self.tag, self.sim.clock(ip)())
        disk = Disk(self.params.limits.bytes_total)
        dice = random.Random(f"{self.seed} {index}")
        owner = OwnerIdentity.generate(suite)
        self.seats.append(Seat(ip, provider, suite, dice, disk, identity, owner, self.bootstrap, settings))
        self.nodes.append(await self._boot(index))
        self.up.append(True)
        if not self.bootstrap:
            self.bootstrap = (self.entry(0),)
        return self.nodes[index]

    def entry(self, i: int) -> str:
        """`<node id>@address` of a node."""
        return f"{self.seats[i].identity.node_id.hex()}@{at(self.seats[i].ip)}"

    async def _boot(self, index: int) -> SecureDHT:
        seat = self.seats[index]
        settings: dict[str, Any] = {
            "network": self.params,
            "listen": (at(seat.ip),),
            "bootstrap": seat.bootstrap,
        }
        parts = Parts(
            provider=seat.provider,
            transports=(self.sim.transport(seat.ip),),
            clock=self.sim.clock(seat.ip),
            dice=seat.dice,
            store=seat.disk.reopen(),
            node=seat.identity,
            owner=seat.owner,
        )
        node = self.make(index, Config(**(settings | self._settings | seat.settings)), parts)
        await node.start()
        return node

    def make(self, index: int, config: Config, parts: Parts) -> SecureDHT:
        """Node `index`; a network of several kinds of nodes overrides it."""
        return SecureDHT(config, parts)

    async def crash(self, index: int, *, silent: bool = False) -> None:
        """As `kill -9` (`silent`: a power cut): nothing more is sent, nothing more is written."""
        self.up[index] = False
        self.sim.crash(self.seats[index].ip, silent=silent)
        await self.seats[index].disk.close()
        with contextlib.suppress(PqdhtError):
            await self.nodes[index].close()

    async def restart(self, index: int) -> SecureDHT:
        """A new process on the same disk, under the same identity."""
        self.sim.restart(self.seats[index].ip)
        self.nodes[index] = await self._boot(index)
        self.up[index] = True
        return self.nodes[index]

    async def close(self) -> None:
        """Close every node that is up."""
        await asyncio.gather(*(n.close() for n, up in zip(self.nodes, self.up, strict=True) if up))

    # --- what a test makes by itself -------------------------------------------------------------

    def clock(self, i: int = 0) -> int:
        """Wall clock of a node's host, ms."""
        return self.sim.clock(self.seats[i].ip)()

    def sign(
        self,
        owner: OwnerIdentity,
        locator: Any,
        value: bytes,
        *,
        timestamp: int,
        ttl: int = 86_400,
        **more: Any,
    ) -> Record:
        """A record of any owner, made outside of any node."""
        return make_record(
            owner.suite,
            self.tag,
            owner,
            locator,
            value,
            ttl=ttl,
            timestamp=timestamp,
            params=self.params,
            **more,
        )


def with_limits(params: ParameterSet, **limits: Any) -> ParameterSet:
    """The same network with some limits changed."""
    return replace(params, limits=replace(params.limits, **limits))


def contact(net: Net, asker: int, of: int) -> VerifiedContact:
    """What one node's table says of another."""
    entry = net.nodes[asker]._routing.table.get(net.seats[of].identity.node_id)
    assert entry is not None
    return entry.contact


def counter(node: SecureDHT, name: str) -> int:
    """A counter of `status`, 0 where nothing was counted."""
    count: int = node.status()["counters"].get(name, 0)
    return count


async def strangers(net: Net, n: int, ip: Callable[[int], str]) -> list[VerifiedContact]:
    """Contacts of nodes that do not exist, with right puzzles."""
    verifier = net.nodes[0].env.contacts
    found = []
    for i in range(n):
        identity = await load_or_make_node(net.nodes[0].config, net.seats[0].suite, net.tag, net.clock())
        found.append(verifier.verify(identity.contact((f"tcp/{ip(i)}:9",), with_key=True), net.clock()))
    return found


def play(scenario: Scenario, nodes: int, **options: Any) -> None:
    """Run a scenario on a fresh network of `nodes`; nothing may be left behind."""

    async def main() -> None:
        net = Net(**options)
        await net.grow(nodes)
        await scenario(net)
        await net.close()

    run(main)


async def codes(net: Net, asker: int, of: int, *records: Any, replica: bool = False) -> list[str]:
    """What a node answers to one STORE."""
    wires = tuple(r.wire for r in records)
    answer = await net.nodes[asker]._peers.request(contact(net, asker, of), Store(wires, replica))
    assert isinstance(answer.body, Stored)
    return [WireCode(r.code).name for r in answer.body.receipts]
