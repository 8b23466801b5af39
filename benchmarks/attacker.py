"""One attacker of `benchmarks.flood`: opens connections at a given rate and sends what costs a victim most.

    python -m benchmarks.attacker '{"kind": "garbage", ...}'       one JSON document when it is done

A process of its own, without asyncio: an attacker is not slowed by politeness.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import struct
import sys
from collections import OrderedDict
from dataclasses import asdict, dataclass, field
from time import monotonic, process_time

from pqdht.channel.cookie import SEALED_SIZE, unseal
from pqdht.channel.framing import Expected, FrameKey, FrameReader, Kind
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.config import Config
from pqdht.crypto.batch import BatchSigner
from pqdht.crypto.labels import BATCH_ROOT
from pqdht.envelope import ZEROS, signed_bytes, with_signature
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, born_day, new_commit
from pqdht.ids import NodeId
from pqdht.node.environment import choose_suite, system_clock, tag_of
from pqdht.wire.address import parse_address
from pqdht.wire.codec import encode
from pqdht.wire.messages import Envelope, MessageType, Ping

IN_FLIGHT = 2000
"""Connections held at once."""
HELD_S = 6.0
"""Longer than a victim holds an unfinished handshake."""
RESET = struct.pack("ii", 1, 0)


@dataclass
class Order:
    """What an attacker is told on its command line."""

    kind: str
    """garbage, half_open, replayed, or valid"""
    address: str
    node_id: str
    network: str = "testnet"
    provider: str = "auto"
    seconds: float = 5.0
    rate: float = 100.0
    """Connections a second; 0: as fast as they are answered, `at_once` at a time."""
    at_once: int = 64
    prefixes: int = 50
    first_prefix: int = 0
    messages: int = 1
    """Distinct first messages made beforehand, sent in turn."""
    identities: int = 50
    answers_cookies: bool = False
    hold: bool = True
    """Keep answered connections open, and say no more."""


@dataclass
class Outcome:
    """What became of the connections."""

    kind: str
    seconds: float = 0.0
    cpu_s: float = 0.0
    opened: int = 0
    sent: int = 0
    refused: int = 0
    """Ended by the victim before anything was answered."""
    cookies: int = 0
    answered: int = 0
    """The second message of a handshake came back."""
    failed: int = 0
    """No connection."""
    per_s: float = 0.0
    """Connections opened, from the first to the last."""
    answered_per_s: float = 0.0


@dataclass
class Link:
    """One connection."""

    sock: socket.socket
    flight: bytes
    opened_at: float
    is_done: bool = False
    got: bytearray = field(default_factory=bytearray)


class Author:
    """Makes first messages towards one victim."""

    def __init__(self, order: Order) -> None:
        config = Config(network=order.network, provider=order.provider)  # type: ignore[arg-type]
        self._params, self._suite, self._tag = config.params, choose_suite(config, None), tag_of(config)
        self.node_id = NodeId(bytes.fromhex(order.node_id))
        self._verifier = ContactVerifier(self._suite, self._params, self._tag)

    def identity(self) -> NodeIdentity:
        """A member with a right puzzle."""
        day = born_day(system_clock())
        commit = new_commit(self._suite, self._tag, day)
        for n in range(1 << 30):
            found = commit.solved(n.to_bytes(8, "big"))
            with contextlib.suppress(Exception):
                self._verifier.check_bits(found.contact())
                return found
        raise AssertionError("no nonce solves it")

    def handshake(self, me: NodeIdentity, kem_key: bytes | None) -> Handshake:
        """pqIK where the victim's KEM key is known."""
        params = HandshakeParams(
            suite=self._suite, network_tag=self._tag, identity=me, verifier=self._verifier
        )
        return Handshake.initiate(
            params, expected=self.node_id, kem_key=kem_key, observed="", now=system_clock()
        )

    def flight(self, me: NodeIdentity, kem_key: bytes) -> bytes:
        """A first message of pqIK with a signed PING: nothing is wrong with it."""
        handshake = self.handshake(me, kem_key)
        binding = handshake.prepare()
        rpc, body = os.urandom(8), encode(Ping())
        e = Envelope(
            1, MessageType.PING, rpc, me.node_id, self.node_id, ZEROS, system_clock(), binding, body, b""
        )
        signer = BatchSigner(os.urandom)
        signer.submit(signed_bytes(self._tag, e))
        job = signer.take()
        assert job is not None
        ((_, proof),) = job.sign(me.signing, BATCH_ROOT)
        return handshake.finish(encode(with_signature(e, proof)))

    def kem_key_of(self, host: str, port: int) -> bytes:
        """What any member learns of a node: its KEM key, by pqXX."""
        handshake = self.handshake(self.identity(), None)
        handshake.prepare()
        with socket.create_connection((host, port), timeout=20) as sock:
            sock.sendall(handshake.finish())
            while handshake.peer is None:
                data = sock.recv(65_536)
                if not data:
                    raise ConnectionError("the victim hung up")
                handshake.receive(data, system_clock())
                if reply := handshake.take_reply():
                    sock.sendall(reply)
        return handshake.peer.kem_key


class Attacker:
    """Carries out one order."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.outcome = Outcome(order.kind)
        address = parse_address(order.address)
        self._to = (address.host, address.port)
        self._author = Author(order)
        self._key = FrameKey(self._author.node_id)
        self._dice = random.Random(order.first_prefix)
        self._links: OrderedDict[int, Link] = OrderedDict()
        self._poll = select.epoll()
        self._flights = self._make()
        self._last_open = 0.0

    def _make(self) -> list[bytes]:
        order = self.order
        if order.kind == "garbage":
            return [os.urandom(5000) for _ in range(64)]
        kem_key = self._author.kem_key_of(*self._to)
        callers = [self._author.identity() for _ in range(min(order.identities, order.messages))]
        flights = [self._author.flight(callers[i % len(callers)], kem_key) for i in range(order.messages)]
        if order.kind == "half_open":
            return [flight[: len(flight) * 3 // 4] for flight in flights]
        return flights

    def run(self) -> Outcome:
        """Until the time is over, or every message of a `valid` flood was sent."""
        order, outcome = self.order, self.outcome
        began, cpu = monotonic(), process_time()
        while (now := monotonic()) - began < order.seconds:
            if order.rate:
                due = min(int((now - began) * order.rate), outcome.opened + 256) - outcome.opened
            else:
                due = order.at_once - len(self._links)
            if order.kind == "valid":
                due = min(due, order.messages - outcome.opened)
                if not self._links and outcome.opened == order.messages:
                    break
            for _ in range(due):
                self._open(now)
            for fd, events in self._poll.poll(0.001):
                self._event(fd, events)
            self._expire(now)
        outcome.seconds, outcome.cpu_s = monotonic() - began, process_time() - cpu
        outcome.per_s = round(outcome.opened / max(self._last_open - began, 0.001), 1)
        outcome.answered_per_s = round(outcome.answered / outcome.seconds, 1)
        for fd in list(self._links):
            self._close(fd)
        return outcome

    def _open(self, now: float) -> None:
        n, order = self.outcome.opened, self.order
        self._last_open = now
        self.outcome.opened += 1
        prefix = order.first_prefix + n % order.prefixes
        host = f"127.{100 + prefix // 250}.{1 + prefix % 250}.{1 + self._dice.randrange(250)}"
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            sock.bind((host, 0))
            sock.connect_ex(self._to)
            self._poll.register(sock.fileno(), select.EPOLLOUT | select.EPOLLIN)
        except OSError:
            self.outcome.failed += 1
            sock.close()
            return
        self._links[sock.fileno()] = Link(sock, self._flights[n % len(self._flights)], now)

    def _event(self, fd: int, events: int) -> None:
        link = self._links.get(fd)
        if link is None:
            return
        try:
            if events & select.EPOLLOUT:
                link.sock.send(link.flight)
                self.outcome.sent += 1
                self._poll.modify(fd, select.EPOLLIN)
            if events & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
                self._read(fd, link)
        except BlockingIOError:
            pass
        except OSError:
            self._ended(fd, link)

    def _read(self, fd: int, link: Link) -> None:
        data = link.sock.recv(65_536)
        if not data:
            self._ended(fd, link)
            return
        link.got += data
        if link.is_done:
            return
        if (cookie := self._cookie(link)) is not None:
            self.outcome.cookies += 1
            if self.order.answers_cookies:
                message = cookie + self._key.open(link.flight)
                link.got.clear()
                link.sock.send(self._key.seal(Kind.IK_1_COOKIE, message, 0, os.urandom(16)))
                return
        elif len(link.got) > 2000:
            self.outcome.answered += 1
        else:
            return
        link.is_done = True
        if not self.order.hold:
            self._close(fd)

    def _cookie(self, link: Link) -> bytes | None:
        if not 37 + SEALED_SIZE <= len(link.got) < 2000:
            return None
        reader = FrameReader()
        reader.expect(Expected(Kind.COOKIE, self._key, SEALED_SIZE, SEALED_SIZE))
        reader.feed(bytes(link.got))
        frame = reader.next()
        return unseal(frame[1], self._key.secret, link.flight[-16:]) if frame is not None else None

    def _ended(self, fd: int, link: Link) -> None:
        if not link.is_done:
            self.outcome.refused += 1
        self._close(fd)

    def _close(self, fd: int) -> None:
        self._links.pop(fd).sock.close()

    def _expire(self, now: float) -> None:
        while self._links:
            fd, oldest = next(iter(self._links.items()))
            if now - oldest.opened_at < HELD_S and len(self._links) < IN_FLIGHT:
                return
            self._close(fd)


def main() -> int:
    attacker = Attacker(Order(**json.loads(sys.argv[1])))
    print(json.dumps({"ready": len(attacker._flights)}), flush=True)
    sys.stdin.readline()  # the starter's signal
    print(json.dumps(asdict(attacker.run())), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
