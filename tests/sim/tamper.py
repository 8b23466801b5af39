"""An answerer that breaks the rules of questions and answers: the treatments, and how to apply them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import msgspec

from pqdht.envelope import with_signature
from pqdht.errors import BadSignature, DecodeError, PeerTimeout, PqdhtError, SessionFailed
from pqdht.node.exchange import Exchange
from pqdht.wire.codec import encode
from pqdht.wire.messages import Envelope, MessageType, Nodes, Pong, Stored
from tests.sim.harness import Net

Send = Callable[[Exchange, Envelope], None]
"""What happens to an answer that is signed and ready to go."""

LATE_S = 60.0


def good(x: Exchange, e: Envelope) -> None:
    Exchange._send_answer(x, e)


def resigned(**changes: object) -> Send:
    """An answer with other fields, signed by the answerer itself."""

    def send(x: Exchange, e: Envelope) -> None:
        x.sign(msgspec.structs.replace(e, **changes), lambda signed: good(x, signed))

    return send


def drop(x: Exchange, e: Envelope) -> None: ...


def late(x: Exchange, e: Envelope) -> None:
    asyncio.get_running_loop().call_later(LATE_S, good, x, e)


def twice(x: Exchange, e: Envelope) -> None:
    good(x, e)
    good(x, e)


def unasked_first(x: Exchange, e: Envelope) -> None:
    x.sign(msgspec.structs.replace(e, rpc_id=bytes(8)), lambda signed: good(x, signed))
    x.sign(msgspec.structs.replace(e), lambda signed: good(x, signed))


def unsigned(x: Exchange, e: Envelope) -> None:
    good(x, with_signature(e, b""))


def forged(x: Exchange, e: Envelope) -> None:
    """The leaf is another one; the root signature may have travelled before, and is left out then."""
    good(x, with_signature(e, e.signature[:40] + bytes([e.signature[40] ^ 1]) + e.signature[41:]))


def body_changed(x: Exchange, e: Envelope) -> None:
    """Another body under the signature of the right one."""
    good(x, msgspec.structs.replace(e, body=encode(Pong(1))))


def garbage(x: Exchange, e: Envelope) -> None:
    x._conn.send_envelope(b"\xc1" * 100)


def truncated(x: Exchange, e: Envelope) -> None:
    x._conn.send_envelope(encode(e)[:-1])


def trailing(x: Exchange, e: Envelope) -> None:
    x._conn.send_envelope(encode(e) + b"\0")


@dataclass(frozen=True)
class Treatment:
    """`error`: what the asker gets instead of an answer; `ends` the session; `counter` that rises."""

    send: Send
    error: type[PqdhtError] | None = None
    ends: bool = False
    counter: str = ""


OTHER = b"\x07" * 32
TREATMENTS: dict[str, Treatment] = {
    "good": Treatment(good),
    "dropped": Treatment(drop, PeerTimeout),
    "late": Treatment(late, PeerTimeout, counter="late_answers"),
    "twice": Treatment(twice, counter="unasked_answers"),
    "unasked": Treatment(unasked_first, counter="unasked_answers"),
    "unsigned": Treatment(unsigned, BadSignature, True),
    "forged": Treatment(forged, BadSignature, True),
    "another body": Treatment(body_changed, BadSignature, True),
    "another question": Treatment(resigned(request=OTHER), SessionFailed, True),
    "another binding": Treatment(resigned(binding=OTHER), SessionFailed, True),
    "another sender": Treatment(resigned(sender=OTHER), SessionFailed, True),
    "another receiver": Treatment(resigned(receiver=OTHER), SessionFailed, True),
    "version 0": Treatment(resigned(version=0), SessionFailed, True),
    "another type": Treatment(
        resigned(type=int(MessageType.STORED), body=encode(Stored((), 1))), DecodeError, True
    ),
    "unknown type": Treatment(resigned(type=999), DecodeError, True),
    "malformed body": Treatment(resigned(body=b"\x91\xc1"), DecodeError, True),
    "another target": Treatment(resigned(body=encode(Nodes(OTHER, ()))), DecodeError, True),
    "garbage": Treatment(garbage, DecodeError, True),
    "truncated": Treatment(truncated, DecodeError, True),
    "trailing": Treatment(trailing, DecodeError, True),
}


class Tampering:
    """Node 1 of a network answers node 0's FIND_NODE as told; everything else as it should."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.next: list[Treatment] = []

    def install(self) -> None:
        """Take over the session the two have now."""
        conn = self.net.nodes[1]._peers.sessions[self.net.nodes[0].node_id]
        exchange = conn.exchange

        def send(e: Envelope) -> None:
            is_ours = e.type == MessageType.NODES and self.next
            (self.next.pop(0).send if is_ours else good)(exchange, e)

        exchange._send_answer = send  # type: ignore[method-assign]

    @property
    def is_installed(self) -> bool:
        conn = self.net.nodes[1]._peers.sessions.get(self.net.nodes[0].node_id)
        return conn is not None and "_send_answer" in vars(conn.exchange)
