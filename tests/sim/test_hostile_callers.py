"""Peers who break the rules from inside a session, or never finish to open one: what they cost is bounded.

Each scenario once was an attack that worked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.hello import AddressPart
from pqdht.channel.session import FrameKind, Session
from pqdht.constants import TESTNET
from pqdht.crypto import puzzle
from pqdht.crypto.api import KemPrivateKey, make_suite
from pqdht.crypto.batch import BatchSigner
from pqdht.crypto.labels import BATCH_ROOT
from pqdht.envelope import ZEROS, signed_bytes, with_signature
from pqdht.errors import Closed, DecodeError, PqdhtError, RemoteError
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, UnsolvedIdentity, born_day, new_commit, public_key_hash
from pqdht.node.connection import Connection
from pqdht.node.dht import INBOUND_CHECKS, SecureDHT
from pqdht.node.exchange import UNASKED_MOST, Answer, Reply
from pqdht.node.identities import solve
from pqdht.testing.fake import FakeProvider
from pqdht.transport.base import Link
from pqdht.wire.address import parse_address
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import (
    Body,
    Envelope,
    Error,
    FindNode,
    FindValue,
    MessageType,
    Nodes,
    Ping,
    Pong,
    Receipt,
    Store,
    Stored,
    Values,
    WireRecord,
)
from tests.sim.harness import Net, contact, counter, play, with_limits

CALLER_GROUP = "10.9.0.0/24"


class PublicKem:
    """Somebody's KEM key without its secret."""

    seed = b""

    def __init__(self, public: bytes) -> None:
        self.public = public

    def decapsulate(self, ciphertext: bytes) -> bytes:
        raise AssertionError("only its owner can do that")


class Caller:
    """Speaks the protocol by hand.  All callers of a network share a /24, unless `ip` says otherwise."""

    def __init__(self, net: Net, seed: int, *, ip: str = "10.9.0.1", addresses: tuple[str, ...] = ()) -> None:
        self.net, self.ip, self.addresses = net, ip, addresses
        self.suite = make_suite(1, FakeProvider(seed))
        self.got = bytearray()
        self.lost = False

    async def identity(self, kem: KemPrivateKey | None = None) -> NodeIdentity:
        """A new one with a right puzzle, over anybody's KEM key."""
        suite, tag, born = self.suite, self.net.tag, born_day(self.net.clock())
        unsolved = new_commit(suite, tag, born)
        if kem is not None:
            signing = suite.node_signer.generate()
            commit = puzzle.commit(tag, public_key_hash(signing.public), public_key_hash(kem.public), born)
            unsolved = UnsolvedIdentity(suite, tag, signing, kem, born, commit)
        return await solve(unsolved, self.net.params.puzzle_bits(born))

    async def knock(self, to: SecureDHT, me: NodeIdentity, *, by_name: bool = True) -> Handshake:
        """Send the first flight, of pqIK (`by_name`) or of pqXX."""
        params = HandshakeParams(
            suite=self.suite,
            network_tag=self.net.tag,
            identity=me,
            verifier=ContactVerifier(self.suite, self.net.params, self.net.tag),
            addresses=self.addresses,
        )
        kem_key = to.env.identity.kem.public if by_name else None
        handshake = Handshake.initiate(
            params, expected=to.node_id, kem_key=kem_key, observed="", now=self.net.clock()
        )
        transport = self.net.sim.transport(self.ip)
        self.link: Link = await transport.dial(parse_address(to.env.addresses[0]), lambda _: self, 5.0)
        handshake.prepare()
        self.link.write(handshake.finish())
        return handshake

    async def listen(self, handshake: Handshake) -> None:
        """Read the next message of a handshake."""
        await asyncio.sleep(1.0)
        handshake.receive(bytes(self.got), self.net.clock())
        self.got.clear()

    async def visit(self, to: SecureDHT, *, goodbye: bool) -> None:
        """Open a session, sign one question in it, and (`goodbye`) leave in the same breath."""
        me = await self.identity()
        handshake = await self.knock(to, me)
        await self.listen(handshake)
        session = handshake.session("off")
        out = session.send(FrameKind.ADDRESSES, handshake.address_part())
        out += session.send(FrameKind.ENVELOPE, encode(self._question(to, me, session)))
        if goodbye:
            out += session.send(FrameKind.CLOSE, b"")
        self.link.write(out)

    def _question(self, to: SecureDHT, me: NodeIdentity, session: Session) -> Envelope:
        asked = Envelope(
            1,
            int(MessageType.PING),
            bytes(8),
            me.node_id,
            to.node_id,
            ZEROS,
            self.net.clock(),
            session.handshake_hash,
            encode(Ping()),
            b"",
        )
        signer = BatchSigner(self.suite.random_bytes)
        signer.submit(signed_bytes(self.net.tag, asked))
        job = signer.take()
        assert job is not None
        return with_signature(asked, job.sign(me.signing, BATCH_ROOT)[0][1])

    # --- a LinkHandler

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def session(net: Net, of: int, to: int) -> Connection:
    """The session that one node has with another."""
    return net.nodes[of]._peers.sessions[net.nodes[to].node_id]


def envelope(conn: Connection, body: Body, number: int, request: bytes = ZEROS) -> Envelope:
    """One of a peer that does not care for what comes back."""
    peer = conn.peer
    assert peer is not None
    conn.exchange._count_unasked = lambda rpc_id: None  # type: ignore[method-assign]
    return conn.exchange._envelope(body, number.to_bytes(8, "big"), peer.node_id, request, ZEROS)


def say(conn: Connection, e: Envelope, **changes: Any) -> None:
    """Send a message well signed, with the `changes`."""
    e = msgspec.structs.replace(e, **changes)
    conn.exchange.sign(e, lambda signed: conn.send_envelope(encode(signed)))


def verified(node: SecureDHT) -> int:
    return counter(node, "signatures_of_others_verified")


# --- before and around the handshake -----------------------------------------------------------


@pytest.mark.parametrize("by_name", [True, False], ids=["pqIK", "pqXX"])
def test_a_borrowed_kem_key_keeps_its_owner_out_of_nothing(by_name: bool) -> None:
    """Whose key it is, is believed only of a peer that used it."""

    async def scenario(net: Net) -> None:
        victim = net.seats[1].identity
        await net.crash(1)
        await net.crash(0)
        target = await net.restart(0)  # it never met the victim
        caller = Caller(net, 7)
        me = await caller.identity(PublicKem(victim.kem.public))
        handshake = await caller.knock(target, me, by_name=by_name)
        if not by_name:
            await caller.listen(handshake)
            handshake.prepare()
            caller.link.write(handshake.finish())
            await asyncio.sleep(1.0)
        await asyncio.sleep(10.0)
        assert caller.lost
        assert me.node_id not in target._peers.sessions
        back = await net.restart(1)
        await back.bootstrapped(60.0)
        await asyncio.sleep(1.0)  # the target asks back before it takes a caller into its table
        await target.ping(back.node_id)
        assert counter(target, "failed.HandshakeFailed") == 0

    play(scenario, 2)


def test_silent_callers_hold_their_places_only_until_the_deadline() -> None:
    async def scenario(net: Net) -> None:
        (node,) = net.nodes
        limits, peers = net.params.limits, node._peers
        callers = [Caller(net, i) for i in range(2 * limits.half_open_per_group)]
        for caller in callers:
            await caller.knock(node, await caller.identity())
        await asyncio.sleep(limits.handshake_timeout_s / 2)
        assert peers._half_open.held(CALLER_GROUP) == limits.half_open_per_group
        assert counter(node, "half_open_evicted") == limits.half_open_per_group
        await asyncio.sleep(limits.handshake_timeout_s)
        assert (len(peers._half_open), len(peers._inbound), len(peers._all)) == (0, 0, 0)
        assert all(caller.lost for caller in callers)
        late = Caller(net, 99)
        await late.visit(node, goodbye=False)
        await asyncio.sleep(1.0)
        assert len(peers.sessions) == 1
        late.link.close()

    play(scenario, 1)


@pytest.mark.parametrize("goodbye", [True, False])
def test_a_caller_cannot_make_us_dial_what_it_names(goodbye: bool) -> None:
    async def scenario(net: Net) -> None:
        (node,) = net.nodes
        callers = [
            Caller(net, i, ip=f"10.9.{i}.1", addresses=tuple(f"tcp/20.{i}.{j}.7:22" for j in range(4)))
            for i in range(INBOUND_CHECKS + 6)
        ]
        await asyncio.gather(*(caller.visit(node, goodbye=goodbye) for caller in callers))
        await asyncio.sleep(1.0)
        if not goodbye:
            assert len(node._peers.sessions) == len(callers)
            assert len(node._pings) == INBOUND_CHECKS
        await asyncio.sleep(30.0)
        assert counter(node, "inbound_checks_failed") >= INBOUND_CHECKS
        assert counter(node, "dials") == 0
        assert len(node._peers._dials) == len(node._pings) == len(node.peers()) == 0
        for caller in callers:
            caller.link.close()

    play(scenario, 1)


def test_contacts_with_impossible_keys_use_up_no_dials() -> None:
    """Every dial that begins ends, or their address group could never be dialled again."""

    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 7)
        for i in range(4):
            public = b"\xff" * (len(node.env.identity.kem.public) - 1) + bytes([i])
            bad = await caller.identity(PublicKem(public))
            address = "tcp/10.0.1.9:9"  # in the group of the next node
            with pytest.raises(DecodeError):
                node.env.contacts.verify(bad.contact((address,), with_key=True), net.clock())
            with pytest.raises(DecodeError):  # nor where it came from elsewhere
                await node._peers._dial_address(bad.node_id, parse_address(address), public, None)
        newcomer = await net.add()
        await newcomer.bootstrapped(30.0)
        await asyncio.sleep(5.0)
        session(net, 0, 1).close()
        await asyncio.sleep(1.0)
        dials = counter(node, "dials")
        await node._peers.request(contact(net, 0, 1), Ping())
        assert counter(node, "dials") == dials + 1

    play(scenario, 1)


def test_a_dialler_with_nothing_to_ask_is_no_silent_caller() -> None:
    """A dialler's first frame says that it has its key, even where it has nothing to ask."""

    async def scenario(net: Net) -> None:
        node, other = net.nodes
        session(net, 0, 1).close()
        await asyncio.sleep(1.0)
        conn = await node._peers.connect_address(other.node_id, parse_address(other.env.addresses[0]))
        await asyncio.sleep(2 * net.params.limits.handshake_timeout_s)
        assert not conn.is_closed
        assert counter(other, "handshakes_timed_out") == 0

    play(scenario, 2)


def test_a_known_node_id_is_no_licence_to_dial_anywhere() -> None:
    """Only addresses where the node answered before are dialled without limit."""

    async def scenario(net: Net) -> None:
        node, there = net.nodes[0], contact(net, 0, 1).with_addresses(["tcp/20.0.0.7:22"])
        dials = counter(node, "dials")
        for _ in range(6):
            if conn := node._peers.sessions.get(there.node_id):
                conn.close()
            with pytest.raises(RemoteError):
                await node._peers.request(there, Ping())
        assert counter(node, "dials_held_back") == 2
        assert counter(node, "dials") == dials + 4

    play(scenario, 2)


def test_when_all_places_are_taken_the_longest_silent_guest_makes_room() -> None:
    async def scenario(net: Net) -> None:
        (node,) = net.nodes
        callers = [Caller(net, i, ip=f"10.9.{i}.1") for i in range(6)]
        for caller in callers[:4]:
            await caller.visit(node, goodbye=False)
        await asyncio.sleep(1.0)
        assert len(node._peers._inbound) == 4
        await callers[4].knock(node, await callers[4].identity())
        await asyncio.sleep(10.0)
        await callers[5].visit(node, goodbye=False)  # at the latest the next caller finds a place
        await asyncio.sleep(1.0)
        assert callers[0].lost
        assert not callers[5].lost
        assert len(node._peers._inbound) <= 4
        for caller in callers[1:]:
            caller.link.close()

    play(scenario, 1, params=with_limits(TESTNET, sessions_total=4))


# --- inside a session --------------------------------------------------------------------------


def test_answers_nobody_asked_for_are_not_verified_and_end_the_session() -> None:
    async def scenario(net: Net) -> None:
        node, liar = net.nodes[0], session(net, 1, 0)
        before = verified(node)
        for i in range(UNASKED_MOST):
            say(liar, envelope(liar, Pong(1), i, b"\x01" * 32))
        await asyncio.sleep(1.0)
        assert [liar.is_closed, counter(node, "unasked_answers")] == [False, UNASKED_MOST]
        say(liar, envelope(liar, Pong(1), UNASKED_MOST, b"\x01" * 32))
        await asyncio.sleep(1.0)
        assert [liar.is_closed, counter(node, "failed.SessionFailed")] == [True, 1]
        assert verified(node) == before

    play(scenario, 2)


def test_requests_over_the_rate_are_not_verified_and_not_even_read() -> None:
    burst, sent = 60, 400

    async def scenario(net: Net) -> None:
        node, greedy = net.nodes[0], session(net, 1, 0)
        await asyncio.sleep(2 * burst)  # the whole burst is there
        before = verified(node)
        for i in range(sent):
            say(greedy, envelope(greedy, Ping(), i))
            await asyncio.sleep(0.01)
        seconds = sent // 100
        assert burst - 10 <= verified(node) - before <= burst + 2 * seconds
        assert 1 <= counter(node, "requests_refused_busy") <= 2 * seconds
        assert not greedy.is_closed
        await asyncio.sleep(sent)  # it is read as slowly as it may ask
        await net.nodes[1].ping(node.node_id)

    params = with_limits(TESTNET, request_cost_burst=float(burst), request_cost_per_s=1.0)
    play(scenario, 2, params=params)


def test_requests_beyond_those_in_flight_are_not_verified() -> None:
    async def scenario(net: Net) -> None:
        node, greedy = net.nodes[0], session(net, 1, 0)
        served: list[Reply] = []
        node._handlers.serve = lambda conn, body, reply: served.append(reply)  # type: ignore[method-assign]
        before = verified(node)
        for i in range(8):
            say(greedy, envelope(greedy, Ping(), i))
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        assert (len(served), verified(node) - before) == (4, 4)
        for reply in served:
            reply(Pong(1))
        await asyncio.sleep(5.0)
        assert len(served) == 7  # one was refused, the others waited unread

    play(scenario, 2, params=with_limits(TESTNET, requests_in_flight=4))


def test_two_nodes_with_much_to_tell_each_other_both_go_on_reading() -> None:
    async def scenario(net: Net) -> None:
        questions = []
        for i, node in enumerate(net.nodes):
            await node.put("big", bytes(30_000))
            questions.append((node, contact(net, i, 1 - i), FindValue(node.named("big").key())))
        asked = [n._peers.request(c, q, 60.0) for n, c, q in questions for _ in range(100)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [a for a in answers if not isinstance(a, Answer)] == []

    play(scenario, 2)


# --- at the end --------------------------------------------------------------------------------


def test_who_asks_while_the_node_closes_is_told_so() -> None:
    """A CancelledError would cancel the caller's own task."""

    async def scenario(net: Net) -> None:
        node = net.nodes[1]
        there = contact(net, 1, 0)
        session(net, 1, 0).close()
        await net.crash(0, silent=True)
        mine = {t for t in (asyncio.current_task(),) if t is not None}
        dialling = asyncio.ensure_future(node._peers.request(there, Ping()))
        await asyncio.sleep(0.5)
        assert not dialling.done()
        await node.close()
        assert asyncio.all_tasks() <= {*mine, dialling}
        with pytest.raises(Closed):
            await dialling
        with pytest.raises(Closed):
            await node.ping(there.node_id)

    play(scenario, 2)


@pytest.mark.parametrize("after_s", [0.0, 1.0, 100.0])
def test_nothing_runs_on_after_close(after_s: float) -> None:
    async def scenario(net: Net) -> None:
        await net.crash(0, silent=True)
        mine = asyncio.all_tasks()
        joining = await net.add()  # it will not find anybody
        await asyncio.sleep(after_s)
        assert asyncio.all_tasks() - mine
        await joining.close()
        assert asyncio.all_tasks() == mine

    play(scenario, 1)


# --- anything at all ---------------------------------------------------------------------------


class Fuzz:
    """Well-formed bodies without meaning, from one seed."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)

    def some(self, n: int = 32) -> bytes:
        return self.dice.randbytes(n)

    def one(self, *choices: Any) -> Any:
        return self.dice.choice(choices)

    def several(self, make: Callable[[], Any], most: int) -> tuple[Any, ...]:
        return tuple(make() for _ in range(self.dice.randrange(most)))

    def address(self) -> str:
        many = "tcp/1.2.3.4:5 x \u0661/1 tcp/[::1]:0 tcp/[fe80::1]:99999 tcp/999.1.1.1:1".split()
        return str(self.one(*many, f"relay/{'0' * 64}/{'1' * 64}"))

    def contact(self) -> Contact:
        return Contact(
            self.some(),
            self.some(),
            self.one(0, 20_454, 2**32 - 1),
            self.some(8),
            bytes(2) + self.some(30),
            self.several(self.address, 5),
            self.one(None, self.some(1216), self.some(3)),
            self.one(0, 2**63 - 1),
        )

    def body(self, key: bytes = bytes(32)) -> Body:
        """Of any type; `key` is one that could be right."""
        b, one = self.some, self.one
        key = one(key, b())
        late = one(0, 2**63 - 1)
        code = one(0, 1, 5, 999, 65_535)
        bodies: tuple[Body, ...] = (
            Ping(),
            Pong(late),
            FindNode(b(), one(None, b(), bytes(32)), one(None, b())),
            Nodes(key, self.several(self.contact, 32)),
            FindValue(b(), one(None, b()), self.several(b, 64), one(None, b(), b"\xff" * 32), one(None, b())),
            Values(key, self.several(self.record, 3), (b(),), self.several(self.contact, 4), one(None, b())),
            Store((self.record(), *self.several(self.record, 64)), one(True, False)),
            Stored(self.several(lambda: Receipt(one(b(), bytes(32)), code, late), 3), late),
            Error(code, late, one(0, 2**63 - 1)),
        )
        return self.dice.choice(bodies)

    def record(self) -> WireRecord:
        return WireRecord(self.one(self.some(40), encode((1, 1, bytes(32), 3)), b""), self.some(9))

    def send(self, conn: Connection) -> None:
        """One message or frame, wrong in one of six ways."""
        dice, b, one = self.dice, self.some, self.one
        e = envelope(conn, self.body(), dice.getrandbits(64), one(ZEROS, ZEROS, b()))
        how = dice.randrange(6)
        if how == 0:
            say(conn, e, version=one(1, 0, 2, 255), sent_at=one(0, 2**63 - 1))
        elif how == 1:
            say(conn, e, type=one(0, 9, 14, 65_535, *range(1, 21)))
        elif how == 2:
            say(conn, e, body=b(dice.randrange(200)))
        elif how == 3:
            flipped = bytearray(e.body)
            flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
            say(conn, e, body=bytes(flipped))
        elif how == 4:
            seen = "x" * dice.randrange(500)
            part = AddressPart(self.several(self.address, 5), seen, None, one(None, b(9)))
            conn._send_frame(one(*FrameKind), one(b"", b(50), encode(part)))
        elif dice.random() < 0.5:
            conn.send_envelope(encode(with_signature(e, b(dice.randrange(4_000)))))
        else:
            # A right signature, of another message.
            conn.exchange.sign(
                msgspec.structs.replace(e, sent_at=1),
                lambda signed: conn.send_envelope(encode(with_signature(e, signed.signature))),
            )


def test_a_peer_that_sends_anything_breaks_its_own_sessions_only() -> None:
    """What the node does not expect would be an error nobody saw, which `play` does not let pass."""

    async def scenario(net: Net) -> None:
        node, fuzz = net.nodes[0], Fuzz(3)
        for _ in range(400):
            if node.node_id not in net.nodes[1]._peers.sessions:
                await net.nodes[1].ping(net.entry(0))
            fuzz.send(session(net, 1, 0))
            await asyncio.sleep(0.2)
        failed = {k for k in node.status()["counters"] if k.startswith("failed.")}
        assert failed >= {"failed.BadSignature", "failed.DecodeError", "failed.SessionFailed"}
        await net.nodes[2].ping(node.node_id)
        await net.crash(1)
        await asyncio.sleep(30.0)
        peers = node._peers
        assert [c.peer.node_id for c in peers._all if c.peer] == [net.nodes[2].node_id]
        assert [c.exchange.in_use for c in peers._all] == [False]
        assert (len(peers._half_open), node._pings) == (0, {})
        assert len(peers._inbound) == sum(not c.outbound for c in peers._all)

    play(scenario, 3)


def test_answers_of_any_kind_end_in_a_result_or_a_documented_error() -> None:
    async def scenario(net: Net) -> None:
        node, fuzz = net.nodes[0], Fuzz(4)
        await node.put("x", b"1")
        await node.put("big", bytes(30_000))

        def confuse(honest: Callable[[Connection, Body, Reply], None]) -> Any:
            def serve(conn: Connection, body: Body, reply: Reply) -> None:
                if fuzz.dice.random() < 0.4:
                    honest(conn, body, reply)
                else:
                    right = body.key if isinstance(body, FindValue) else bytes(32)
                    reply(fuzz.body(body.target if isinstance(body, FindNode) else right))

            return serve

        for other in net.nodes[1:]:
            other._handlers.serve = confuse(other._handlers.serve)  # type: ignore[method-assign]
        outcomes: list[str] = []
        for i in range(20):
            for operation in (
                node.get("x", ignore_local=True, consistency="all"),
                node.get("big", ignore_local=True, consistency="first"),
                node.put(f"y{i}", b"1"),
                node.find_node(fuzz.some()),
                node.get_topic("z"),
            ):
                try:
                    await operation
                    outcomes.append("ok")
                except PqdhtError as e:
                    outcomes.append(type(e).__name__)
            await asyncio.sleep(1.0)
        assert len(outcomes) == 100
        assert len(set(outcomes)) > 1

    play(scenario, 6)
