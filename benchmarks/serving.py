"""The serving core alone: one process answers, this one asks; each pinned to a core of its own.

The rate is answers per second of the server's CPU time (all its threads), which other work on the
machine does not change: what one core serves if it does nothing else.  Chores are stopped, allowances
lifted.  `python -m benchmarks.serving server PROVIDER` is the other process.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import random
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from statistics import quantiles
from time import process_time
from typing import Any

from benchmarks import population
from benchmarks.figures import FULL, QUICK, Effort, progress
from benchmarks.memory import resident
from benchmarks.rpc import without_allowance
from pqdht.config import Config
from pqdht.constants import ParameterSet
from pqdht.crypto.api import Suite
from pqdht.daemon.service import tune_interpreter
from pqdht.errors import RemoteError
from pqdht.identity.contact import ContactVerifier, VerifiedContact
from pqdht.identity.keys import NodeIdentity, OwnerIdentity
from pqdht.ids import NodeId
from pqdht.node.connection import Connection
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Environment, choose_suite, system_clock, tag_of
from pqdht.node.exchange import Reply
from pqdht.node.guard import Guard
from pqdht.node.peers import Peers
from pqdht.records import RecordVerifier
from pqdht.storage.memory import MemoryStore
from pqdht.testing.testnet import group_address
from pqdht.transport.tcp import TcpTransport
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import Body, FindNode, FindValue, Pong

ROOT = Path(__file__).resolve().parent.parent
CLIENTS = 8
BATCH = 8
RECORDS = 100
"""Held by the server; half of the FIND_VALUE ask for one."""
TABLE = 400
"""Nodes it met: about 150 of them are in its table."""
PATIENCE_S = 60.0
"""CPU time is measured: on a machine that does other work nobody may give up."""
LAG_EVERY_S = 0.005
LAG_S = 4.0
SHOWN = 45
_contact = Decoder(Contact, "contact", 8192)


# --- the process that serves ----------------------------------------------------------------------


class Server:
    """A node that does as it is told over standard input, a line at a time, and answers in JSON."""

    def __init__(self, node: SecureDHT) -> None:
        self.node = node
        self._lags: list[float] = []
        self._sampling: asyncio.Task[None] | None = None
        self._profile = cProfile.Profile()

    async def obey(self) -> None:
        """Until standard input ends."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := (await reader.readline()).decode().strip():
            print(json.dumps(getattr(self, line)()), flush=True)

    def mark(self) -> dict[str, float]:
        """CPU seconds so far, and what was done in them."""
        counters = self.node.env.counters
        return {
            "cpu": process_time(),
            "served": counters["requests_served"],
            "early": counters["early_requests_served"],
            "handshakes": counters["handshakes"],
            "signatures": counters["signatures_made"],
            "mib": resident(),
        }

    def lag_on(self) -> None:
        """Begin to look how late the loop is."""
        self._lags.clear()
        self._sampling = asyncio.get_running_loop().create_task(self._sample())

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + LAG_EVERY_S
            await asyncio.sleep(LAG_EVERY_S)
            self._lags.append(max(0.0, loop.time() - due))

    def lag_off(self) -> dict[str, float]:
        """How late it was, ms."""
        assert self._sampling is not None
        self._sampling.cancel()
        cuts = quantiles(self._lags, n=100, method="inclusive")
        return {"p50": 1000 * cuts[49], "p99": 1000 * cuts[98], "samples": len(self._lags)}

    def profile_on(self) -> None:
        """Begin to profile."""
        self._profile.enable()

    def profile_off(self) -> None:
        """Print what was found on standard error."""
        self._profile.disable()
        stats = pstats.Stats(self._profile, stream=sys.stderr)
        stats.strip_dirs().sort_stats("tottime").print_stats(SHOWN)


def params_of(effort: Effort) -> ParameterSet:
    """Nobody is told BUSY, and nobody's links are refused."""
    params = without_allowance(effort.params)
    most = 1_000_000
    limits = replace(
        params.limits,
        sessions_per_group=most,
        sessions_total=most,
        half_open_per_group=most,
        half_open_total=most,
        handshake_timeout_s=PATIENCE_S,
    )
    return replace(params, limits=limits)


async def be_server(provider: str, effort: Effort) -> None:
    """Listen, take up contacts and records, say who we are, obey."""
    config = Config(
        network=params_of(effort),
        provider=provider,  # type: ignore[arg-type]
        listen=(f"tcp/{group_address(0)}:0",),
    )
    async with SecureDHT(config) as node:
        await node._maintenance.close()
        now = asyncio.get_running_loop().time()
        for contact in await population.contacts(node.env.suite, min(TABLE, effort.contacts)):
            known = node.env.contacts.verify(contact, node.env.clock())
            node._routing.table.add(known.node_id, known, known.group, known.wide_group, now)
        made = population.records(node.env.suite, min(RECORDS, effort.records))
        for i in range(0, len(made), 50):
            await node._keeper.keep(made[i : i + 50], "")
        keys = [key.hex() for key in node._keeper.keys()]
        own = node.env.identity.contact(node.env.addresses, with_key=True)
        print(json.dumps({"contact": encode(own).hex(), "keys": keys}), flush=True)
        await Server(node).obey()


# --- the process that asks ------------------------------------------------------------------------


class Caller:
    """A node's sessions without the rest of it: it asks, and answers PING."""

    def __init__(self, suite: Suite, params: ParameterSet, identity: NodeIdentity, index: int) -> None:
        config = Config(network=params, listen=(), dial_timeout_s=PATIENCE_S)
        tag, host = tag_of(config), group_address(20_000 + index)
        contacts = ContactVerifier(suite, params, tag, 64)
        env = Environment(
            config=config,
            params=params,
            suite=suite,
            network_tag=tag,
            identity=identity,
            owner=OWNER or OwnerIdentity.generate(suite),
            clock=system_clock,
            dice=random.Random(index),
            store=MemoryStore(0),
            transports={"tcp": TcpTransport(bind_host=host)},
            contacts=contacts,
            records=RecordVerifier(suite, params, tag, contacts),
        )
        self.peers = Peers(env, self, Guard(env))
        self.peers.set_addresses((f"tcp/{host}:4733",))

    def peer_proven(self, conn: Connection) -> None: ...
    def peer_heard(self, conn: Connection) -> None: ...
    def peer_failed(self, contact: VerifiedContact, error: RemoteError) -> None: ...

    def is_wanted(self, node_id: NodeId) -> bool:
        return True

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        reply(Pong(system_clock()))


OWNER: OwnerIdentity | None = None
"""Nobody here signs a value."""


class Target:
    """The serving process as its callers see it."""

    def __init__(self, process: asyncio.subprocess.Process, hello: dict[str, Any]) -> None:
        self._process = process
        self.contact = _contact(bytes.fromhex(hello["contact"]))
        self.keys = [bytes.fromhex(key) for key in hello["keys"]]

    async def tell(self, command: str) -> Any:
        """What it answers to a command."""
        tell, told = self._process.stdin, self._process.stdout
        assert tell is not None
        assert told is not None
        tell.write(command.encode() + b"\n")
        return json.loads(await told.readline())

    async def cost(self, work: Callable[[], Awaitable[object]]) -> dict[str, float]:
        """What the server did during some work of ours, CPU seconds included."""
        before = await self.tell("mark")
        await work()
        after = await self.tell("mark")
        return {name: after[name] - before[name] for name in after}


@asynccontextmanager
async def serving(provider: str, quick: bool) -> AsyncIterator[Target]:
    """A server in a process of its own, on a core of its own where there are two."""
    command = [sys.executable, "-m", "benchmarks.serving", "server", provider]
    process = await asyncio.create_subprocess_exec(
        *command,
        *(["--quick"] if quick else []),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield Target(process, json.loads(await process.stdout.readline()))
    finally:
        process.stdin.close()
        await process.wait()


def pin(core: int) -> None:
    """Keep this process on one core, where the machine has it."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {allowed[core % len(allowed)]})


class Load:
    """Questions of the usual mix to one server."""

    def __init__(self, suite: Suite, effort: Effort, target: Target) -> None:
        self._suite = suite
        self._params = params_of(effort)
        self._target = target
        self._dice = random.Random(1)
        self._asked = 0

    def _question(self) -> Body:
        """Half FIND_NODE; of the FIND_VALUE half for what the server holds."""
        self._asked += 1
        if self._asked % 2:
            return FindNode(self._dice.randbytes(32))
        held = self._asked % 4 == 0
        return FindValue(self._dice.choice(self._target.keys) if held else self._dice.randbytes(32))

    def _known(self, caller: Caller) -> VerifiedContact:
        return caller.peers.env.contacts.verify(self._target.contact, system_clock())

    async def clients(self) -> list[Caller]:
        """Callers with a session."""
        made = await population.identities(self._suite, self._params, CLIENTS)
        callers = [Caller(self._suite, self._params, node, i) for i, node in enumerate(made)]
        await self.warm(callers, 4 * CLIENTS, 1)
        return callers

    async def warm(self, callers: list[Caller], times: int, at_once: int) -> None:
        """`times` questions; each caller asks `at_once` in one turn, and again when all are answered."""

        async def some(caller: Caller) -> None:
            to = self._known(caller)
            for _ in range(max(1, times // (CLIENTS * at_once))):
                asked = (caller.peers.request(to, self._question(), PATIENCE_S) for _ in range(at_once))
                await asyncio.gather(*asked)

        await asyncio.gather(*map(some, callers))

    async def paced(self, callers: list[Caller], per_s: float, seconds: float) -> None:
        """Questions at even times, whether those before are answered or not."""
        loop = asyncio.get_running_loop()
        begun, asked = loop.time(), []
        while (now := loop.time()) < begun + seconds:
            while len(asked) < (now - begun) * per_s:
                caller = callers[len(asked) % CLIENTS]
                asking = caller.peers.request(self._known(caller), self._question(), PATIENCE_S)
                asked.append(asyncio.ensure_future(asking))
            await asyncio.sleep(0.001)
        await asyncio.gather(*asked, return_exceptions=True)

    async def cold(self, nodes: list[NodeIdentity]) -> None:
        """Each node is new to the server, dials it, asks in its first flight, and leaves."""
        waiting = iter(enumerate(nodes))

        async def some() -> None:
            for i, node in waiting:
                caller = Caller(self._suite, self._params, node, CLIENTS + i)
                question = FindNode(self._dice.randbytes(32))
                await caller.peers.request(self._known(caller), question, PATIENCE_S)
                await caller.peers.close()

        await asyncio.gather(*(some() for _ in range(CLIENTS)))


async def measure(provider: str, effort: Effort) -> dict[str, float]:
    """The serving_* figures and loop_lag_p99_ms."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    suite = choose_suite(Config(network=effort.params, provider=provider), None)  # type: ignore[arg-type]
    quick = effort is QUICK
    try:
        async with serving(provider, quick) as target:
            pin(1)
            load = Load(suite, effort, target)
            callers = await load.clients()
            alone = await target.cost(lambda: load.warm(callers[:1], effort.rpcs // 2 * CLIENTS, 1))
            warm = await target.cost(lambda: load.warm(callers, effort.rpcs, 1))
            batched = await target.cost(lambda: load.warm(callers, effort.rpcs, BATCH))
            nodes = await population.identities(suite, effort.params, effort.callers)
            cold = await target.cost(lambda: load.cold(nodes))
            capacity = warm["served"] / warm["cpu"]
            await target.tell("lag_on")
            await load.paced(callers, capacity / 2, 0.3 if quick else LAG_S)
            lag = await target.tell("lag_off")
            for caller in callers:
                await caller.peers.close()
    finally:
        if before is not None:
            os.sched_setaffinity(0, before)
    costs = {"one caller": alone, f"{CLIENTS} callers": warm, f"each {BATCH} at once": batched, "cold": cold}
    for name, cost in costs.items():
        each = 1000 * cost["cpu"] / cost["served"]
        signed = cost["signatures"] / cost["served"]
        progress(f"  {name}: {each:.3f} ms CPU and {signed:.2f} signatures per question")
    progress(f"  loop lag at half of {capacity:.0f}/s: {lag}")
    if cold["early"] < 0.9 * len(nodes):
        raise RuntimeError(f"only {cold['early']} of {len(nodes)} were answered in their first flight")
    return {
        "serving_warm_rpc_per_s": round(capacity, 1),
        "serving_warm_rpc_per_s_unbatched": round(alone["served"] / alone["cpu"], 1),
        "serving_warm_rpc_per_s_batched": round(batched["served"] / batched["cpu"], 1),
        "serving_cold_peers_per_s": round(cold["early"] / cold["cpu"], 1),
        "loop_lag_p99_ms": round(lag["p99"], 2),
    }


async def profile(provider: str, work: str) -> None:
    """Where the server's time goes: `warm`, `batched` or `cold`."""
    suite = choose_suite(Config(network=FULL.params, provider=provider), None)  # type: ignore[arg-type]
    async with serving(provider, False) as target:
        load = Load(suite, FULL, target)
        callers = await load.clients()
        nodes = await population.identities(suite, FULL.params, FULL.callers if work == "cold" else 0)
        await target.tell("profile_on")
        if work == "cold":
            await load.cold(nodes)
        else:
            await load.warm(callers, FULL.rpcs, BATCH if work == "batched" else 1)
        await target.tell("profile_off")
        for caller in callers:
            await caller.peers.close()


async def sessions(provider: str, count: int) -> None:
    """What a session costs its responder: memory with `count` of them open, on standard error."""
    suite = choose_suite(Config(network=FULL.params, provider=provider), None)  # type: ignore[arg-type]
    async with serving(provider, True) as target:
        load = Load(suite, FULL, target)
        nodes = await population.identities(suite, FULL.params, count)
        callers = [Caller(suite, params_of(FULL), node, i) for i, node in enumerate(nodes)]
        await load.warm(callers[:8], 64, 1)

        async def call() -> None:
            for begin in range(8, count, CLIENTS):
                await load.warm(callers[begin : begin + CLIENTS], CLIENTS, 1)

        opened = await target.cost(call)
        progress(f"{provider}: {1024 * opened['mib'] / (count - 8):.1f} KiB per session of {count}")
        for caller in callers:
            await caller.peers.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("server", "measure", "warm", "batched", "cold", "sessions"))
    parser.add_argument("provider", choices=("liboqs", "openssl"), nargs="?", default="liboqs")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    tune_interpreter()  # as the daemon does
    effort = QUICK if arguments.quick else FULL
    from benchmarks.provider import loop_factory

    if arguments.work == "server":
        pin(0)
        work: Any = be_server(arguments.provider, effort)
    elif arguments.work == "measure":
        work = measure(arguments.provider, effort)
    elif arguments.work == "sessions":
        work = sessions(arguments.provider, FULL.callers)
    else:
        work = profile(arguments.provider, arguments.work)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(work)
    if arguments.work == "measure":
        print(json.dumps(found))


if __name__ == "__main__":
    main()
