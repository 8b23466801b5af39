"""A whole network to test against: simulated, over loopback TCP, or as separate processes.

    async with Testnet.loopback(n=8) as net:
        await net.nodes[0].put("greeting", b"hello")
        print((await net.nodes[5].get("greeting", owner=net.nodes[0].owner_id)).value)

Every node has an address group of its own (127.a.b.1, or 10.a.b.1 in the simulator), so that the
address-group rules are on as they are outside.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ..config import Config
from ..constants import ParameterSet
from ..crypto.api import Provider
from ..errors import PqdhtError
from ..node.dht import SecureDHT
from ..node.environment import Parts, choose_suite, tag_of
from ..node.identities import load_or_make_node, load_or_make_owner
from ..storage.memory import MemoryStore
from .fake import FakeProvider
from .processes import ProcessNode
from .simnet import SimNetwork

N = TypeVar("N")

JOIN_TIMEOUT_S = 60.0
SIM_PORT = 4733


def group_address(index: int, first: int = 127) -> str:
    """The IP address of node `index`: in a /24 of its own."""
    return f"{first}.{1 + index // 250}.{1 + index % 250}.1"


class Testnet(Generic[N]):
    """A network of `nodes`, up and joined inside `async with`."""

    __test__ = False  # not a pytest class, in spite of its name

    def __init__(self) -> None:
        self.nodes: list[N] = []

    @staticmethod
    def loopback(
        n: int,
        *,
        network: str | ParameterSet = "demo",
        data_dir: Path | None = None,
        **settings: Any,
    ) -> Loopback:
        """`n` nodes in this process over loopback TCP.  `settings` are fields of `Config`.

        `data_dir`: nodes keep their state in subdirectories of it; in memory without.
        """
        return Loopback(n, network=network, data_dir=data_dir, settings=settings)

    @staticmethod
    def simulated(
        n: int,
        seed: int,
        *,
        network: str = "testnet",
        simulator: dict[str, Any] | None = None,
        provider: Callable[[int], Provider] | None = None,
        **settings: Any,
    ) -> Simulated:
        """`n` nodes on a simulated network; enter it inside `testing.loop.run`.

        `simulator`: options of `SimNetwork` (latency, loss, ...).  `provider(i)`: the cryptography of
        node i, the INSECURE fake suite by default, so that the same seed gives the same packets.
        """
        return Simulated(n, seed, network, simulator or {}, provider, settings)

    @staticmethod
    def processes(
        n: int,
        directory: Path,
        *,
        network: str = "demo",
        provider: str = "auto",
        arguments: Callable[[int], Sequence[str]] = lambda index: (),
    ) -> ProcessNet:
        """`n` processes `pqdht run`, with their state in subdirectories of `directory`.

        `arguments(i)`: more for the command line of node i.
        """
        return ProcessNet(
            ProcessNode(
                index,
                group_address(index),
                directory / f"node{index:02}",
                network=network,
                provider=provider,
                arguments=arguments(index),
            )
            for index in range(n)
        )

    async def start(self) -> None:
        """Bring every node up and wait until all have joined."""
        raise NotImplementedError

    async def close(self) -> None:
        """Bring every node down; safe to call twice."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


def entry_of(node: SecureDHT) -> str:
    """The bootstrap entry of a node."""
    return f"{node.node_id.hex()}@{node.env.addresses[0]}"


async def join_all(nodes: list[SecureDHT]) -> None:
    """Wait until each knows somebody, then let each look itself up: now all are there to be met.

    Raises NotBootstrapped.
    """
    await asyncio.gather(*(node.bootstrapped(JOIN_TIMEOUT_S) for node in nodes))
    if len(nodes) > 1:
        await nodes[0].ping(entry_of(nodes[1]))  # the first was bootstrapped before anybody came
        await asyncio.gather(*(node.find_node(node.node_id) for node in nodes))


class Loopback(Testnet[SecureDHT]):
    """Nodes in this process, each listening on its own 127.a.b.1."""

    def __init__(
        self, n: int, *, network: str | ParameterSet, data_dir: Path | None, settings: dict[str, Any]
    ) -> None:
        super().__init__()
        self._n = n
        self._network = network
        self._data_dir = data_dir
        self._settings = settings

    async def start(self) -> None:
        for index in range(self._n):
            await self.add(index)
        await join_all(self.nodes)

    async def add(self, index: int) -> SecureDHT:
        """Start one more node that joins through the first."""
        config: dict[str, Any] = {
            "network": self._network,
            "listen": (f"tcp/{group_address(index)}:0",),
            "data_dir": self._data_dir / f"node{index:02}" if self._data_dir is not None else None,
            "bootstrap": self.bootstrap,
        }
        node = SecureDHT(Config(**(config | self._settings)))
        await node.start()
        self.nodes.append(node)
        return node

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """The entry through which others join; empty before the first node is up."""
        return tuple(entry_of(node) for node in self.nodes[:1])

    async def close(self) -> None:
        nodes, self.nodes = self.nodes, []
        await asyncio.gather(*(node.close() for node in nodes))


class _Disk(MemoryStore):
    """What survives a crash of the process that wrote it."""

    def reopen(self) -> _Disk:
        self._closed = False
        return self


class Simulated(Testnet[SecureDHT]):
    """Nodes on a simulated network, in virtual time.  `network` is the simulator: cut it, slow it."""

    network: SimNetwork

    def __init__(
        self,
        n: int,
        seed: int,
        network: str,
        simulator: dict[str, Any],
        provider: Callable[[int], Provider] | None,
        settings: dict[str, Any],
    ) -> None:
        super().__init__()
        self.seed = seed
        self._n = n
        self._name = network
        self._simulator = simulator
        self._provider = provider or (lambda index: FakeProvider(seed * 1_000_003 + index))
        self._settings = settings
        self._parts: list[Parts] = []
        self._disks: list[_Disk] = []
        self._bootstrap: tuple[str, ...] = ()

    @staticmethod
    def ip(index: int) -> str:
        """The host of a node."""
        return group_address(index, 10)

    async def start(self) -> None:
        self.network = SimNetwork(seed=self.seed, **self._simulator)
        for index in range(self._n):
            await self.add(index)
        await join_all(self.nodes)

    async def add(self, index: int) -> SecureDHT:
        """Start one more node; `index` must be the next one."""
        assert index == len(self._parts)
        config = self._config(index)
        provider = self._provider(index)
        suite, clock = choose_suite(config, provider), self.network.clock(self.ip(index))
        self._disks.append(_Disk(config.params.limits.bytes_total))
        self._parts.append(
            Parts(
                provider=provider,
                clock=clock,
                dice=random.Random(f"{self.seed} {index}"),
                node=await load_or_make_node(config, suite, tag_of(config), clock()),
                owner=load_or_make_owner(config, suite),
            )
        )
        self.nodes.append(await self._boot(index))
        if not self._bootstrap:
            self._bootstrap = (entry_of(self.nodes[0]),)
        return self.nodes[index]

    def _config(self, index: int) -> Config:
        config: dict[str, Any] = {
            "network": self._name,
            "listen": (f"tcp/{self.ip(index)}:{SIM_PORT}",),
            "bootstrap": self._bootstrap,
        }
        return Config(**(config | self._settings))

    async def _boot(self, index: int) -> SecureDHT:
        made = self._parts[index]
        parts = Parts(
            provider=made.provider,
            clock=made.clock,
            dice=made.dice,
            node=made.node,
            owner=made.owner,
            store=self._disks[index].reopen(),
            transports=(self.network.transport(self.ip(index)),),
        )
        node = SecureDHT(self._config(index), parts)
        await node.start()
        return node

    async def crash(self, index: int, *, silent: bool = False) -> None:
        """Kill a node as `kill -9` does (`silent`: as a power cut does): nothing more is sent or saved."""
        self.network.crash(self.ip(index), silent=silent)
        await self._disks[index].close()
        with contextlib.suppress(PqdhtError):
            await self.nodes[index].close()

    async def restart(self, index: int) -> SecureDHT:
        """Bring a crashed node back with its identity and what was on its disk."""
        self.network.restart(self.ip(index))
        self.nodes[index] = await self._boot(index)
        return self.nodes[index]

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))


class ProcessNet(Testnet[ProcessNode]):
    """Nodes as processes `pqdht run`."""

    def __init__(self, nodes: Iterable[ProcessNode]) -> None:
        super().__init__()
        self.nodes = list(nodes)

    async def start(self) -> None:
        if self.nodes:
            await self.nodes[0].start(())
            await asyncio.gather(*(node.start(self.bootstrap) for node in self.nodes[1:]))

    @property
    def bootstrap(self) -> tuple[str, ...]:
        """The entry through which others join."""
        return (self.nodes[0].entry,)

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self.nodes))
