"""What an idle network says: real node code on the simulated network, every byte counted and named.

`python -m benchmarks.traffic [--join] [nodes ...]` prints idle MB per hour and node for each size, and
where the bytes go.  Scenario: each node announces its peer record within ten minutes, as
`pqdht run --announce` does, and nobody asks for anything.  The network begins as `crowd` makes it, an hour
old, and the hour counted begins when all sessions with table peers are open; with `--join` all nodes join
one by one within ten minutes, and it begins an hour after the last.  Either way it holds each hourly chore
once.

All that is said in an idle network is said because some node's chore is due.  So with `--sample n` only n
nodes walk, refresh, probe and republish, the others answer them and replicate what they store for them, and
all bytes on all links are divided by n.  Where two sampled nodes would have shared a session this counts two:
it errs upwards.  The fake suite has the exact lengths of the real one (`tests/unit/testing/test_fake.py`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from time import process_time
from typing import Any
from unittest.mock import patch

from benchmarks.crowd import SEED, crowd, simulated
from benchmarks.figures import progress
from pqdht.channel.handshake import Handshake
from pqdht.channel.session import FRAME_OVERHEAD, FrameKind, Session
from pqdht.errors import PqdhtError
from pqdht.node.dht import SecureDHT
from pqdht.node.entrance import Entrance
from pqdht.node.exchange import Answer
from pqdht.node.maintenance import Maintenance
from pqdht.node.peers import Peers
from pqdht.node.publisher import Publisher
from pqdht.testing.testnet import Simulated, Testnet
from pqdht.wire.messages import MessageType, decode_envelope

HOUR_S = 3600.0
JOINS_S = 600.0
"""All have joined and announced themselves after this."""
OPEN_S = 1500.0
"""A crowd's sessions are open after this: its nodes have sought the silent ones in their tables."""
PURPOSES: tuple[tuple[type, str], ...] = (
    (Maintenance, "walk"),
    (Maintenance, "refresh"),
    (Maintenance, "probe"),
    (Maintenance, "replicate"),
    (Maintenance, "_hand_over"),
    (Publisher, "republish"),
    (Publisher, "retry"),
    (SecureDHT, "_check_inbound"),
    (Entrance, "join"),
)
_purpose: contextvars.ContextVar[str] = contextvars.ContextVar("purpose", default="other")


class Ledger:
    """Bytes by what was on the wire, and by why it was asked, while `recording`."""

    def __init__(self) -> None:
        self.bytes: Counter[str] = Counter()
        self.frames: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        """Questions and their answers by purpose: bytes of the envelopes."""
        self.questions: Counter[str] = Counter()
        self.dials: Counter[str] = Counter()

    def clear(self) -> None:
        """Begin anew."""
        for counter in (self.bytes, self.frames, self.asked, self.questions, self.dials):
            counter.clear()

    def _add(self, what: str, size: int) -> None:
        self.bytes[what] += size
        self.frames[what] += 1

    @contextmanager
    def recording(self) -> Iterator[Ledger]:
        """Look over the shoulder of every node of this process."""
        with ExitStack() as stack:
            for owner, name, wrapper in (
                (Session, "send", self._send),
                (Handshake, "finish", self._finish),
                (Peers, "_measured", self._measured),
                (Peers, "_dial_address", self._dial),
                *((owner, name, functools.partial(_named, name.strip("_"))) for owner, name in PURPOSES),
            ):
                stack.enter_context(patch.object(owner, name, wrapper(getattr(owner, name))))
            yield self

    def _send(self, send: Callable[..., bytes]) -> Callable[..., bytes]:
        def counted(session: Session, kind: FrameKind, content: bytes) -> bytes:
            frame = send(session, kind, content)
            if kind == FrameKind.ENVELOPE:
                what = MessageType(decode_envelope(content).type).name
            else:
                what = FrameKind(kind).name.lower()
            self._add(what, len(content))
            self.bytes["frame headers"] += FRAME_OVERHEAD
            self.bytes["frame padding"] += len(frame) - FRAME_OVERHEAD - len(content)
            return frame

        return counted

    def _finish(self, finish: Callable[..., bytes]) -> Callable[..., bytes]:
        def counted(handshake: Handshake, early: bytes | None = None, *rest: Any) -> bytes:
            kind = handshake._next_kind()
            frame = finish(handshake, early, *rest)
            size = 0 if early is None else len(early)
            if early is not None:
                self._add(f"early {MessageType(decode_envelope(early).type).name}", size)
            self._add(f"handshake {kind.name if kind is not None else '?'}", len(frame) - size)
            return frame

        return counted

    def _measured(self, measured: Callable[..., Answer]) -> Callable[..., Answer]:
        def counted(peers: Peers, answer: Answer) -> Answer:
            self.asked[_purpose.get()] += answer.bytes
            self.questions[_purpose.get()] += 1
            return measured(peers, answer)

        return counted

    def _dial(self, dial: Callable[..., Any]) -> Callable[..., Any]:
        async def counted(*args: Any) -> Any:
            self.dials[_purpose.get()] += 1
            return await dial(*args)

        return counted


def _named(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same coroutine function, whose questions are counted under `name`."""

    @functools.wraps(work)
    async def under(*args: Any, **kwargs: Any) -> Any:
        token = _purpose.set(name)
        try:
            return await work(*args, **kwargs)
        finally:
            _purpose.reset(token)

    return under


async def idle(nodes: int, ledger: Ledger, *, sample: int, join: bool) -> float:
    """MB (10^6 bytes) per hour and node, all links together."""
    net = await (joined(nodes) if join else settled(nodes, sample))
    before, _ = transferred(net), ledger.clear()
    await asyncio.sleep(HOUR_S)
    moved = transferred(net) - before
    report(net, ledger, moved, sample)
    await net.close()
    return moved / sample / 1e6


async def settled(nodes: int, sample: int) -> Simulated:
    """A crowd, of which a sample does all a node does by itself, announced itself and opened its sessions."""
    net = await crowd(nodes)
    for node in net.nodes[sample:]:
        await node._maintenance.close()
        replicating = node._maintenance._every(node._maintenance.replicate, lambda: HOUR_S)
        node._maintenance._tasks = [asyncio.ensure_future(replicating)]
    if sample < nodes:
        net.nodes[0]._maintenance._tasks.append(asyncio.ensure_future(_stay_heard(net.nodes[sample:])))
    await asyncio.gather(*(_announce(node, net.ip(i)) for i, node in enumerate(net.nodes[:sample])))
    await asyncio.sleep(OPEN_S - asyncio.get_running_loop().time())
    return net


async def _stay_heard(nodes: list[SecureDHT]) -> None:
    """Who does not keep its peers' signs of life coming has them all the same."""
    loop = asyncio.get_running_loop()
    while True:
        for node in nodes:
            for entry in node._routing.table._entries.values():
                entry.last_heard = max(entry.last_heard, loop.time())
        await asyncio.sleep(300.0)


async def joined(nodes: int) -> Simulated:
    """Nodes join one after the other, announce themselves, and are left alone for an hour."""
    net = Testnet.simulated(0, SEED)
    await net.start()
    announcing: list[asyncio.Task[None]] = []
    for index in range(nodes):
        node = await net.add(index)
        announcing.append(asyncio.ensure_future(_announce(node, net.ip(index))))
        await asyncio.sleep(JOINS_S / nodes)
    await asyncio.gather(*announcing)
    await asyncio.sleep(HOUR_S)
    return net


async def _announce(node: SecureDHT, ip: str) -> None:
    await node.bootstrapped(60.0)
    await asyncio.sleep(JOINS_S * node.env.dice.random())
    try:
        await node.announce([f"{ip}:51820"])
    except PqdhtError as e:
        progress(f"  {ip}: {e}")  # it is retried


def transferred(net: Simulated) -> int:
    """Payload bytes delivered on all links so far."""
    return sum(net.network.traffic(net.ip(i)).bytes_sent for i in range(len(net.nodes)))


def report(net: Simulated, ledger: Ledger, moved: int, n: int) -> None:
    """The breakdown of the hour, on standard error: kB and numbers per node that was not left passive."""
    tables = sum(len(node.peers()) for node in net.nodes[:n]) / n
    sessions = sum(len(node._peers.sessions) for node in net.nodes[:n]) / n
    progress(f"  {n} of {len(net.nodes)} nodes: {tables:.0f} in the table, {sessions:.0f} sessions each")
    for what, size in sorted(ledger.bytes.items(), key=lambda item: -item[1]):
        progress(f"    {what:24}{size / n / 1000:10.1f} kB {ledger.frames[what] / n:8.1f} times")
    progress(f"    {'sum':24}{sum(ledger.bytes.values()) / n / 1000:10.1f} kB of {moved / n / 1000:.1f}")
    for why in sorted({*ledger.asked, *ledger.dials}):
        progress(
            f"    for {why:20}{ledger.asked[why] / n / 1000:10.1f} kB {ledger.questions[why] / n:8.1f}"
            f" questions {ledger.dials[why] / n:8.1f} dials"
        )


def measure(nodes: int, sample: int, *, join: bool = False) -> float:
    """idle_mb_per_hour of a network of so many."""
    sample = nodes if join else min(sample, nodes)
    ledger = Ledger()
    cpu = process_time()
    with ledger.recording():
        mb: float = simulated(lambda: idle(nodes, ledger, sample=sample, join=join))
    progress(f"  {nodes} nodes: {mb:.2f} MB per hour and node ({process_time() - cpu:.0f} s of CPU)")
    return mb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="*", type=int, default=[100])
    parser.add_argument("--sample", type=int, default=1_000_000, help="nodes with chores")
    parser.add_argument("--join", action="store_true", help="let all nodes join, which takes twice as long")
    arguments = parser.parse_args()
    for nodes in arguments.nodes:
        measure(nodes, arguments.sample, join=arguments.join)


if __name__ == "__main__":
    main()
