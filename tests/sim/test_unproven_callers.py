"""Callers who did not show that they hold both their keys: nothing is believed of or done for them."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from pqdht.channel.handshake import Handshake
from pqdht.channel.session import FrameKind
from pqdht.crypto.batch import BatchSigner
from pqdht.crypto.labels import BATCH_ROOT
from pqdht.envelope import ZEROS, signed_bytes, with_signature
from pqdht.identity.keys import NodeIdentity
from pqdht.node.connection import HELD_MOST, Connection
from pqdht.node.dht import SecureDHT
from pqdht.records import Named
from pqdht.wire.codec import encode
from pqdht.wire.messages import Body, Envelope, Ping, Store, message_type
from tests.sim.harness import Net, counter, play
from tests.sim.test_hostile_callers import Caller


def _signed(caller: Caller, me: NodeIdentity, e: Envelope) -> Envelope:
    signer = BatchSigner(caller.suite.random_bytes)
    signer.submit(signed_bytes(caller.net.tag, e))
    job = signer.take()
    assert job is not None
    return with_signature(e, job.sign(me.signing, BATCH_ROOT)[0][1])


def _question(net: Net, me: NodeIdentity, to: SecureDHT, body: Body, binding: bytes) -> Envelope:
    number, now = int(message_type(body)), net.clock()
    return Envelope(1, number, bytes(8), me.node_id, to.node_id, ZEROS, now, binding, encode(body), b"")


def _connection(node: SecureDHT) -> Connection:
    """The one inbound connection of a node that has no peers."""
    (conn,) = node._peers._all
    return conn


def _is(conn: Connection) -> tuple[bool, bool]:
    """(closed, proven)."""
    return conn.is_closed, conn.is_proven


async def _knock_with(
    caller: Caller, me: NodeIdentity, to: SecureDHT, body: Body, *, sign: bool
) -> Handshake:
    """A first flight of pqIK with a question in it."""
    finish = Handshake.finish

    def with_early(self: Handshake, early: Any = None, *rest: Any) -> bytes:
        e = _question(caller.net, me, to, body, self._noise.h)  # type: ignore[union-attr]
        return finish(self, encode(_signed(caller, me, e) if sign else e), *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Handshake, "finish", with_early)
        return await caller.knock(to, me)


def test_a_signed_early_question_is_answered_so_that_the_refusals_below_mean_something() -> None:
    async def scenario(net: Net) -> None:
        caller = Caller(net, 7)
        me = await caller.identity()
        handshake = await _knock_with(caller, me, net.nodes[0], Ping(), sign=True)
        await caller.listen(handshake)
        assert handshake.done
        assert counter(net.nodes[0], "early_requests_served") == 1

    play(scenario, 1)


def test_an_early_question_must_be_signed() -> None:
    """A first flight can be made for anybody's node id by whoever took over its KEM key alone."""

    async def scenario(net: Net) -> None:
        caller = Caller(net, 7)
        me = await caller.identity()
        await _knock_with(caller, me, net.nodes[0], Ping(), sign=False)
        await _settle()
        assert counter(net.nodes[0], "early_requests_served") == 0
        assert counter(net.nodes[0], "handshakes") == 0
        assert caller.lost
        assert not caller.got

    play(scenario, 1)


def test_a_store_in_a_first_flight_is_refused_since_it_could_be_replayed() -> None:
    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 7)
        me = await caller.identity()
        owner = net.seats[0].owner
        record = net.sign(owner, Named(owner.owner_id, "x"), b"v", timestamp=net.clock())
        await _knock_with(caller, me, node, Store((record.wire,)), sign=True)
        await _settle()
        assert counter(node, "records_stored") == 0
        assert counter(node, "early_requests_served") == 0
        assert counter(node, "failed.HandshakeFailed") == 1
        assert caller.lost

    play(scenario, 1)


def test_the_first_message_of_a_session_must_be_signed() -> None:
    """Frames show the KEM key; that the signing key is there too only a signature does."""

    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 7, addresses=("tcp/10.9.0.1:4733",))
        me = await caller.identity()
        handshake = await caller.knock(node, me)
        await caller.listen(handshake)
        session = handshake.session("off")
        caller.link.write(session.send(FrameKind.ADDRESSES, handshake.address_part()))
        await _settle()
        conn = _connection(node)
        assert _is(conn) == (False, False)
        assert me.node_id not in node._peers.sessions
        e = _question(net, me, node, Ping(), session.handshake_hash)
        caller.link.write(session.send(FrameKind.ENVELOPE, encode(e)))
        await _settle()
        assert _is(conn) == (True, False)
        assert counter(node, "failed.BadSignature") == 1
        assert counter(node, "requests_served") == 0

    play(scenario, 1)


def test_the_same_message_signed_proves_the_caller() -> None:
    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 7)
        me = await caller.identity()
        handshake = await caller.knock(node, me)
        await caller.listen(handshake)
        session = handshake.session("off")
        caller.link.write(session.send(FrameKind.ADDRESSES, handshake.address_part()))
        e = _signed(caller, me, _question(net, me, node, Ping(), session.handshake_hash))
        caller.link.write(session.send(FrameKind.ENVELOPE, encode(e)))
        await _settle()
        assert _connection(node).is_proven
        assert counter(node, "requests_served") == 1
        other = msgspec.structs.replace(e, binding=ZEROS, rpc_id=b"\1" * 8, signature=b"")
        caller.link.write(session.send(FrameKind.ENVELOPE, encode(other)))  # later questions may do without
        await _settle()
        assert counter(node, "requests_served") == 2

    play(scenario, 1)


def test_one_kem_key_serves_one_node_id() -> None:
    """Else one key pair, and one memory of it here, would do for any number of ids."""

    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 7)
        first = await caller.identity()
        second = await caller.identity(kem=first.kem)
        proven = []
        for me in (first, second):
            handshake = await caller.knock(node, me)
            await caller.listen(handshake)
            session = handshake.session("off")
            e = _signed(caller, me, _question(net, me, node, Ping(), session.handshake_hash))
            caller.link.write(session.send(FrameKind.ADDRESSES, handshake.address_part()))
            caller.link.write(session.send(FrameKind.ENVELOPE, encode(e)))
            await _settle()
            proven.append(me.node_id in node._peers.sessions)
            caller.got.clear()
        assert proven == [True, False]
        assert counter(node, "requests_served") == 1
        assert node._peers.keys.kem_key(first.kem_key_hash) == first.kem.public

    play(scenario, 1)


def test_what_comes_while_a_first_answer_is_signed_is_held_up_to_a_bound() -> None:
    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 7)
        me = await caller.identity()
        node._peers.signer.sign = lambda m, done: None  # type: ignore[method-assign]
        await _knock_with(caller, me, node, Ping(), sign=True)
        await asyncio.sleep(0.5)
        conn = _connection(node)
        caller.link.write(bytes(HELD_MOST))
        await asyncio.sleep(0.5)
        assert _is(conn) == (False, False)
        assert len(conn._held) == HELD_MOST
        caller.link.write(b"x")
        await asyncio.sleep(0.5)
        assert _is(conn) == (True, False)
        assert counter(node, "failed.HandshakeFailed") == 1

    play(scenario, 1)


async def _settle() -> None:
    await asyncio.sleep(2.0)
