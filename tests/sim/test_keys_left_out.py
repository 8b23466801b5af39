"""Signing keys travel only where they are not held; a wrong guess costs a round trip and no question."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pqdht.channel.handshake import Handshake
from pqdht.channel.hello import Payload
from pqdht.errors import HandshakeFailed, WireCode
from pqdht.node import keyring
from pqdht.node.exchange import Answer
from pqdht.testing.loop import run
from pqdht.wire.messages import FindNode, Nodes, Ping, Pong
from tests.sim.harness import Net, contact, counter

Hellos = list[tuple[bytes, bool]]


@pytest.fixture
def hellos(monkeypatch: pytest.MonkeyPatch) -> Hellos:
    """(signing key hash, whether the key came along) of every Hello that was read, in order."""
    seen: Hellos = []
    take = Handshake._take

    def note(self: Handshake, kind: object, payload: Payload, binding: bytes) -> object:
        if payload.hello is not None:
            seen.append((payload.hello.signing_key_hash, payload.hello.signing_key is not None))
        return take(self, kind, payload, binding)  # type: ignore[arg-type]

    monkeypatch.setattr(Handshake, "_take", note)
    return seen


async def hang_up(net: Net) -> None:
    """No session is left; both sides know."""
    for node in net.nodes:
        for conn in list(node._peers.sessions.values()):
            conn.close()
    await asyncio.sleep(1.0)


async def ask(net: Net, asker: int, of: int) -> Answer:
    """One question that may travel in the first flight."""
    return await net.nodes[asker]._peers.request(contact(net, asker, of), FindNode(bytes(32)))


def sent(net: Net, hellos: Hellos, asker: int, of: int) -> list[bool]:
    """Whether each key came along in the last two Hellos: the asker's, the answerer's."""
    ids = [net.seats[i].identity.signing_key_hash for i in (asker, of)]
    came = dict(hellos[-2:])
    return [came[i] for i in ids]


def test_a_second_session_needs_no_keys(hellos: Hellos) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        assert sent(net, hellos, 1, 0) == [True, True]  # they had never met
        for asker, of in ((1, 0), (0, 1), (1, 0)):
            await hang_up(net)
            begun = asyncio.get_running_loop().time()
            assert isinstance((await ask(net, asker, of)).body, Nodes)
            assert asyncio.get_running_loop().time() - begun < 0.12  # connect, then ask and be answered
            assert sent(net, hellos, asker, of) == [False, False]
        assert [counter(n, "signing_key_asked_for") for n in net.nodes] == [0, 0]
        assert sum(counter(n, "early_requests_served") for n in net.nodes) >= 3
        await net.close()

    run(main)


def test_a_peer_that_restarted_asks_for_the_key_and_answers_the_question(hellos: Hellos) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        await net.crash(0)
        await net.restart(0)
        await asyncio.sleep(60.0)
        await asyncio.gather(*(node._maintenance.close() for node in net.nodes))  # no handshakes but ours
        for _ in range(3):  # whatever was asked for in joining again is known again
            await hang_up(net)
            assert isinstance((await ask(net, 1, 0)).body, Nodes)
        await hang_up(net)
        net.nodes[0]._peers.keys.signing.clear()
        before = counter(net.nodes[1], "signing_key_asked_for")
        assert isinstance((await ask(net, 1, 0)).body, Nodes)
        assert sent(net, hellos, 1, 0) == [False, False]
        assert counter(net.nodes[1], "signing_key_asked_for") == before + 1
        for came in (True, False, False):  # it may forget often: sent once more, then believed again
            await hang_up(net)
            assert isinstance((await ask(net, 1, 0)).body, Nodes)
            assert sent(net, hellos, 1, 0) == [came, False]
        assert counter(net.nodes[1], "signing_key_asked_for") == before + 1
        await net.close()

    run(main)


def test_a_node_that_restarted_sends_its_key_and_asks_for_others(hellos: Hellos) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        await hang_up(net)
        net.nodes[1]._peers.keys.signing.clear()
        net.nodes[1]._peers.keys.knowing.clear()
        assert isinstance((await ask(net, 1, 0)).body, Nodes)
        assert sent(net, hellos, 1, 0) == [True, True]
        await net.close()

    run(main)


def test_every_question_is_answered_however_little_is_remembered(
    hellos: Hellos, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Caches of one key: nearly every guess is wrong."""
    monkeypatch.setattr(keyring, "SIGNING_KEYS", 1)

    async def main() -> None:
        net = Net()
        await net.grow(5)
        for _ in range(3):
            await hang_up(net)
            pairs = [(a, b) for a in range(5) for b in range(5) if a != b]
            answers = await asyncio.gather(*(ask(net, a, b) for a, b in pairs))
            assert all(isinstance(a.body, Nodes) for a in answers)
        assert all(len(n._peers.keys.signing) == 1 for n in net.nodes)
        assert sum(counter(n, "signing_key_asked_for") for n in net.nodes) > 0
        assert not any(counter(n, "failed.HandshakeFailed") for n in net.nodes)
        await net.close()

    run(main)


def test_the_first_message_of_pqxx_does_not_tell_who_has_met(hellos: Hellos) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        await hang_up(net)
        net.nodes[1]._peers.keys.kem.clear()
        to = contact(net, 1, 0)
        conn = await net.nodes[1]._peers.connect_address(to.node_id, to.addresses[0])
        assert isinstance((await net.nodes[1]._peers.request_over(conn, Ping())).body, Pong)
        assert [came for _, came in hellos[-2:]] == [True, True]
        await net.close()

    run(main)


# --- liars ---------------------------------------------------------------------------------------


def forgetful(net: Net, liar: int) -> None:
    """Node `liar` says NEED_KEY whenever the key was left out, though it had it a moment ago."""
    peers = net.nodes[liar]._peers
    peers._params = replace(peers._params, held_key=lambda _: None)


def lie(monkeypatch: pytest.MonkeyPatch, net: Net, liar: int) -> None:
    """Node `liar` answers NEED_KEY to everybody for ever, whether the key was there or not."""
    finish = Handshake.finish

    def lying(self: Handshake, early: bytes | None = None, code: WireCode = WireCode.OK) -> bytes:
        if self._params.identity is net.seats[liar].identity and not self._initiator:
            return finish(self, None, WireCode.NEED_KEY)
        return finish(self, early, code)

    monkeypatch.setattr(Handshake, "finish", lying)


def test_who_always_forgets_is_answered_late_and_nobody_else_suffers() -> None:
    """It has its caller ask one round trip later, in every second session; it could do that anyway."""

    async def main() -> None:
        net = Net()
        await net.grow(3)
        asker = net.nodes[1]
        forgetful(net, 0)
        for n in range(8):
            await hang_up(net)
            dials, asked = counter(asker, "dials"), counter(asker, "signing_key_asked_for")
            assert isinstance((await ask(net, 1, 0)).body, Nodes)
            assert counter(asker, "dials") == dials + 1
            assert counter(asker, "signing_key_asked_for") == asked + (n % 2 == 0), n
        assert not any(counter(n, "failed.HandshakeFailed") for n in net.nodes)
        await net.close()

    run(main)


def test_who_asks_for_a_key_that_it_was_sent_gets_nothing_more(
    hellos: Hellos, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        asker = net.nodes[1]
        await hang_up(net)
        lie(monkeypatch, net, 0)
        asker._peers.keys.knowing.clear()
        dials, seen = counter(asker, "dials"), len(hellos)
        with pytest.raises(HandshakeFailed, match="that it was sent"):
            await ask(net, 1, 0)
        assert counter(asker, "dials") == dials + 1
        hashes = [net.seats[i].identity.signing_key_hash for i in (1, 0)]
        assert hellos[seen:] == [(hashes[0], True), (hashes[1], False)]
        await net.close()

    run(main)


def test_a_node_that_lies_to_all_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A liar among others does not keep a GET from its answer."""

    async def main() -> None:
        net = Net()
        await net.grow(6)
        await net.nodes[1].put("x", b"v")
        lie(monkeypatch, net, 0)
        await hang_up(net)
        result = await net.nodes[4].get("x", owner=net.nodes[1].owner_id, ignore_local=True)
        assert result.value == b"v"
        await net.close()

    run(main)
