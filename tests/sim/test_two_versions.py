"""Half the nodes speak a next protocol version: fields appended to messages, and a new message.

The next version exists here only. It is handed to its nodes as one value (`Parts.messages`).
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from pqdht import Content, NotFound, Topic, Verdict
from pqdht.config import Config
from pqdht.constants import TESTNET
from pqdht.errors import NotBootstrapped, PeerError, WireCode
from pqdht.node.connection import Connection
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.node.exchange import Answer, Exchange, Reply
from pqdht.testing.loop import run
from pqdht.wire.codec import U16, Struct
from pqdht.wire.messages import (
    ANSWERS,
    EARLY_TYPES,
    MESSAGES,
    Body,
    Envelope,
    Error,
    FindNode,
    FindValue,
    MessageSet,
    MessageType,
    Nodes,
    Ping,
    Pong,
    Stored,
    decode_body,
    decode_envelope,
)
from tests.sim.harness import Net, contact, counter

ECHO, ECHOED = 300, 301


class NextFindNode(FindNode, frozen=True):
    wants: U16 = 0


class NextFindValue(FindValue, frozen=True):
    wants: U16 = 0


class NextNodes(Nodes, frozen=True):
    load: U16 = 0


class NextStored(Stored, frozen=True):
    load: U16 = 0


class Echo(Struct, frozen=True):
    """The new message, which may travel in a handshake."""

    text: bytes


class Echoed(Struct, frozen=True):
    text: bytes
    load: U16 = 0


APPENDED: dict[type[Struct], tuple[type[Struct], dict[str, int]]] = {
    FindNode: (NextFindNode, {"wants": 7}),
    FindValue: (NextFindValue, {"wants": 7}),
    Nodes: (NextNodes, {"load": 9}),
    Stored: (NextStored, {"load": 9}),
}


class NextMessages(MessageSet):
    """Sends the appended fields to everybody; the node's code makes this version's structs."""

    __slots__ = ()

    def number(self, body: Body) -> int:
        return super().number(self._appended(body))

    def encode(self, body: Body) -> bytes:
        return super().encode(self._appended(body))

    @staticmethod
    def _appended(body: Any) -> Any:
        if type(body) not in APPENDED:
            return body
        struct, fields = APPENDED[type(body)]
        return struct(*(getattr(body, f) for f in body.__struct_fields__), **fields)


def next_messages(versions: tuple[int, int]) -> MessageSet:
    structs: dict[int, type[Struct]] = {
        int(t): MESSAGES_STRUCTS[t] for t in MessageType if MESSAGES.is_known(t)
    }
    structs |= {n: APPENDED[s][0] for n, s in structs.items() if s in APPENDED}
    structs |= {ECHO: Echo, ECHOED: Echoed}
    return NextMessages(versions, structs, {**ANSWERS, ECHO: ECHOED}, {*EARLY_TYPES, ECHO})


MESSAGES_STRUCTS: dict[int, type[Struct]] = {n: s for s, n in MESSAGES._numbers.items()}
NEXT = next_messages((1, 2))
ONLY_NEXT = next_messages((2, 2))


class NextDHT(SecureDHT):
    """A node of the next version: it answers the new message too."""

    def __init__(self, config: Config, parts: Parts) -> None:
        super().__init__(config, parts)
        self.seen: list[Body] = []

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        self.seen.append(body)
        if isinstance(body, Echo):
            reply(Echoed(body.text, 9))  # type: ignore[arg-type]
        else:
            super().serve(conn, body, reply)


class Mixed(Net):
    """Nodes with an odd index speak the next version."""

    def make(self, index: int, config: Config, parts: Parts) -> SecureDHT:
        return NextDHT(config, replace(parts, messages=NEXT)) if index % 2 else SecureDHT(config, parts)


async def echo(net: Net, asker: int, of: int) -> Answer:
    body: Any = Echo(b"hello")
    return await net.nodes[asker]._peers.request(contact(net, asker, of), body)


async def hang_up(net: Net) -> None:
    for node in net.nodes:
        for conn in list(node._peers.sessions.values()):
            conn.close()
    await asyncio.sleep(1.0)


def version(net: Net, a: int, b: int) -> int:
    """What the session between two nodes chose, as one of them sees it."""
    peer = net.nodes[a]._peers.sessions[net.nodes[b].node_id].peer
    assert peer is not None
    return peer.version


def test_every_operation_works_in_a_network_of_two_versions() -> None:
    async def main() -> None:
        net = Mixed(params=replace(TESTNET, k=4), seed=3)
        await net.grow(10)
        for i, node in enumerate(net.nodes):
            put = await node.put("x", b"%d" % i)
            assert put.confirmed >= put.need
        for i, writer in enumerate(net.nodes):
            for reader in (net.nodes[(i + 1) % 10], net.nodes[(i + 2) % 10]):  # one of each version
                got = await reader.get("x", owner=writer.owner_id, ignore_local=True)
                assert (got.value, got.verdict) == (b"%d" % i, Verdict.CONFIRMED)
        for writer, reader in ((net.nodes[2], net.nodes[3]), (net.nodes[5], net.nodes[6])):
            first = await writer.put("cas", b"1")
            await writer.put("cas", b"2", previous=first.record.record_id)
            assert (await reader.get("cas", owner=writer.owner_id)).value == b"2"
            await writer.delete("cas")
            with pytest.raises(NotFound):
                await reader.get("cas", owner=writer.owner_id)
            content = Content.of(b"immutable")
            await writer.put(content, b"immutable")
            assert (await reader.get(content)).value == b"immutable"
            await writer.put(Topic("lobby"), b"here")
            await writer.announce(["192.0.2.1:51820"])
            assert (await reader.find_peer(writer.owner_id)).endpoints == ("192.0.2.1:51820",)
            assert await writer.ping(reader.node_id) > 0
        found = [await net.nodes[i].find_node(bytes(32)) for i in (0, 1)]
        assert len({n.node_id for n in found[0]} & {n.node_id for n in found[1]}) >= 3
        for i in (4, 7):
            await net.crash(i)
            await net.restart(i)
            await net.nodes[i].bootstrapped(60.0)
            assert (await net.nodes[i].get("x", owner=net.nodes[9].owner_id)).value == b"9"
        for node in net.nodes:
            failed = [n for n in node.status()["counters"] if n.startswith("failed.")]
            assert set(failed) <= {"failed.PeerTimeout", "failed.PeerUnreachable", "failed.SessionFailed"}
            assert counter(node, "malformed_requests") == 0
        await net.close()

    run(main)


def test_both_hellos_choose_the_version_of_each_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every envelope carries it; a question in a first flight the oldest its sender offers."""
    envelopes: list[tuple[bytes, bytes, int, bool]] = []
    answers: list[Body] = []
    check = Exchange.check

    def note(self: Exchange, e: Envelope, peer: Any, binding: bytes) -> bytes:
        envelopes.append((e.sender, e.receiver, e.version, self._conn.phase > 1))
        return check(self, e, peer, binding)

    async def main() -> None:
        monkeypatch.setattr(Exchange, "check", note)
        net = Mixed()
        await net.grow(4)
        kinds = {n.node_id: 2 if i % 2 else 1 for i, n in enumerate(net.nodes)}
        for a in range(4):
            for b in range(4):
                if a != b:
                    answers.append((await net.nodes[a]._peers.request(contact(net, a, b), Ping())).body)
                    assert version(net, a, b) == version(net, b, a) == (2 if a % 2 and b % 2 else 1)
        seen = set()
        for sender, receiver, found, is_inside in envelopes:
            both = min(kinds[sender], kinds[receiver])  # type: ignore[index]
            assert found in (both, 1)
            if is_inside:
                seen.add((kinds[sender], kinds[receiver], found))  # type: ignore[index]
        assert (2, 2, 2) in seen
        assert {s for s in seen if s[2] == 2} == {(2, 2, 2)}
        await net.close()

    run(main)
    assert len(answers) == 12


def test_appended_fields_arrive_where_they_are_known_and_are_ignored_elsewhere() -> None:
    async def main() -> None:
        net = Mixed()
        await net.grow(4)
        bodies = {}
        for asker in (0, 1):
            for of in (2, 3):
                answer = await net.nodes[asker]._peers.request(contact(net, asker, of), FindNode(bytes(32)))
                bodies[asker, of] = answer.body
                raw = decode_envelope(answer.envelope).body
                assert len(msgspec.msgpack.decode(raw)) == (3 if of == 3 else 2)
                assert type(decode_body(MessageType.NODES, raw)) is Nodes  # as this version reads it
        assert {k: type(b) for k, b in bodies.items()} == {
            (0, 2): Nodes,
            (0, 3): Nodes,
            (1, 2): NextNodes,
            (1, 3): NextNodes,
        }
        loads = {k: getattr(b, "load", None) for k, b in bodies.items()}
        assert loads == {(0, 2): None, (0, 3): None, (1, 2): 0, (1, 3): 9}
        node = net.nodes[3]
        assert isinstance(node, NextDHT)
        assert {b.wants for b in node.seen if isinstance(b, NextFindNode)} == {0, 7}
        await net.close()

    run(main)


@pytest.mark.parametrize("early", [False, True], ids=["in the session", "in the first flight"])
def test_a_new_message_is_answered_or_unsupported(early: bool) -> None:
    """Unsupported costs the question, not the session."""

    async def main() -> None:
        net = Mixed()
        await net.grow(4)
        if early:
            await hang_up(net)
        answer: Any = (await echo(net, 1, 3)).body
        assert answer == Echoed(b"hello", 9)
        if early:
            assert counter(net.nodes[3], "early_requests_served") > 0
        dials = counter(net.nodes[1], "dials")
        with pytest.raises(PeerError) as caught:
            await echo(net, 1, 2)
        assert caught.value.code == WireCode.UNSUPPORTED
        assert counter(net.nodes[1], "dials") == dials + early
        before = net.nodes[1]._peers.sessions[net.nodes[2].node_id]
        pong = await net.nodes[1]._peers.request(contact(net, 1, 2), Ping())
        assert isinstance(pong.body, Pong)
        assert net.nodes[1]._peers.sessions[net.nodes[2].node_id] is before
        await net.close()

    run(main)


@pytest.mark.parametrize("number", [9, 13, 19, 23, 300, 65_535])
def test_numbers_this_version_has_no_struct_for(number: int) -> None:
    """Reserved ones and those beyond all we know, asked by a peer whose version has them."""
    structs: dict[int, type[Struct]] = {**MESSAGES_STRUCTS, number: Echo}
    odd = MessageSet((1, 9), structs, {**ANSWERS, number: ECHOED}, EARLY_TYPES)

    class OneOdd(Net):
        def make(self, index: int, config: Config, parts: Parts) -> SecureDHT:
            return SecureDHT(config, replace(parts, messages=odd) if index else parts)

    async def main() -> None:
        net = OneOdd()
        await net.grow(2)
        assert version(net, 1, 0) == 1
        with pytest.raises(PeerError) as caught:
            await echo(net, 1, 0)
        assert caught.value.code == WireCode.UNSUPPORTED
        await net.close()

    run(main)


def test_without_a_common_version_there_is_no_session_and_a_reason() -> None:
    class TooNew(Net):
        def make(self, index: int, config: Config, parts: Parts) -> SecureDHT:
            return NextDHT(config, replace(parts, messages=ONLY_NEXT)) if index else SecureDHT(config, parts)

    async def main() -> None:
        net = TooNew()
        await net.add()
        late = await net.add()
        with pytest.raises(NotBootstrapped):
            await late.bootstrapped(1.0)
        assert "no common version" in str(late.env.join_errors)
        assert not net.nodes[0]._peers.sessions
        await net.close()

    run(main)


def test_two_message_sets_share_nothing() -> None:
    assert not MESSAGES.is_known(ECHO)
    assert NEXT.is_known(ECHO)
    assert (MESSAGES.versions, NEXT.versions) == ((1, 1), (1, 2))
    assert ECHO not in MESSAGES.answers
    assert type(NEXT.decode(MessageType.ERROR, MESSAGES.encode(Error(2)))) is Error
