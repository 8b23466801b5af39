"""Bad input from peers and networks: a clear typed error each, little cost, and the node serves on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, cast

import pytest

from pqdht import (
    DEMO,
    TESTNET,
    HandshakeFailed,
    NotBootstrapped,
    PeerIdentityMismatch,
    PeerUnreachable,
    QuorumNotReached,
    RemoteError,
    SecureDHT,
    SessionFailed,
)
from pqdht.channel.framing import FRAME_OVERHEAD
from pqdht.channel.handshake import Handshake
from pqdht.channel.session import FrameKind
from pqdht.constants import DAY_MS
from pqdht.node.environment import Parts, choose_suite, system_clock, tag_of
from pqdht.node.identities import load_or_make_node
from pqdht.testing.testnet import Testnet
from pqdht.wire.codec import encode
from pqdht.wire.messages import Envelope, MessageType, Ping
from tests.live.harness import (
    Forwarder,
    Mangle,
    Raw,
    address,
    assert_released,
    assert_serves,
    at_offset,
    bytewise,
    counter,
    entry,
    first_flight,
    make,
    run,
    shake,
    splitter,
    strict,
    until,
    whole,
)

STRANGER = "127.88.8.1"
QUICK = strict(handshake_timeout_s=0.3)


# --- raw bytes -------------------------------------------------------------------------------------


def test_garbage_is_refused_in_silence() -> None:
    async def main() -> None:
        dice = random.Random(1)
        lengths = [1, 20, 21, 37, 100, 3_000, 70_000, 300_000]
        async with make(0, network=QUICK) as node:
            for i, n in enumerate(lengths):
                raw = await Raw.connect(address(node), f"127.60.{i}.1")
                await raw.send(dice.randbytes(n))
                assert await raw.drained() == b"", "a scanner learns nothing"
                await raw.close()
            http = await Raw.connect(address(node), STRANGER)
            await http.send(b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n")
            assert await http.drained() == b""
            await http.close()
            await until(lambda: not node._peers._all)
            assert_released(node)
            assert counter(node, "failed.HandshakeFailed") >= 5
            assert counter(node, "handshakes_timed_out") >= 2, "too short to tell"
            await assert_serves(node)

    run(main())


@pytest.mark.parametrize("know", [True, False], ids=["pqIK", "pqXX"])
@pytest.mark.parametrize("part", ["cut", "flipped", "longer", "twice"])
def test_a_damaged_first_flight(know: bool, part: str) -> None:
    async def main() -> None:
        async with make(0, network=QUICK) as node:
            for i in range(6):
                _, flight = await first_flight(node, know=know)
                at = (len(flight) * i) // 6
                damaged = {
                    "cut": flight[:at],
                    "flipped": flight[:at] + bytes([flight[at] ^ 0x10]) + flight[at + 1 :],
                    "longer": flight + b"\0" * (i + 1),
                    "twice": flight + flight,
                }[part]
                raw = await Raw.connect(address(node), f"127.61.{i}.1")
                await raw.send(damaged)
                assert await raw.drained() == b""
                await raw.close()
            await until(lambda: not node._peers._all)
            assert_released(node)
            assert counter(node, "handshakes") == 0
            await assert_serves(node)

    run(main())


def test_a_recorded_first_flight_is_answered_once_and_opens_nothing() -> None:
    """pqIK's first message can be recorded: the answer is of no use, and nobody enters the table."""

    async def main() -> None:
        async with make(0, network=QUICK) as node:
            _, flight = await first_flight(node)
            for i in range(4):
                raw = await Raw.connect(address(node), f"127.62.{i}.1")
                await raw.send(flight)
                answer = await raw.reader.read(65_536)
                assert (len(answer) > FRAME_OVERHEAD) == (i == 0)
                await raw.close()
            await until(lambda: not node._peers._all)
            assert node.status()["table"] == 0
            assert counter(node, "handshakes") == 1
            assert_released(node)

    run(main())


def test_a_stall_in_the_middle_of_the_handshake_times_out() -> None:
    async def main() -> None:
        async with make(0, network=QUICK) as node:
            raws: list[Raw] = []
            for i in range(5):
                _, flight = await first_flight(node, know=i % 2 == 0)
                raw = await Raw.connect(address(node), f"127.63.{i}.1")
                await raw.send(flight[: 1 + i * 400])
                raws.append(raw)
            _, flight = await first_flight(node, know=False)
            last = await Raw.connect(address(node), "127.63.9.1")
            await last.send(flight)  # and never the third message
            await asyncio.gather(*(raw.drained() for raw in [*raws, last]))
            await asyncio.gather(*(raw.close() for raw in [*raws, last]))
            await until(lambda: not node._peers._all)
            assert counter(node, "handshakes_timed_out") == 6
            assert_released(node)
            await assert_serves(node)

    run(main())


def test_half_open_links_of_one_group_are_bounded_and_others_served() -> None:
    async def main() -> None:
        network = strict(half_open_per_group=4, sessions_per_group=16, handshake_timeout_s=2.0)
        async with make(0, network=network) as node:
            flood = [await Raw.connect(address(node), f"127.64.1.{i}") for i in range(1, 31)]
            await until(lambda: counter(node, "half_open_evicted") == 26)
            await until(lambda: len(node._peers._all) == 4)
            assert len(node._peers._all) == len(node._peers._half_open) == 4
            async with make(1, network=network, bootstrap=(entry(node),)) as other:
                await other.bootstrapped(10)  # another group is not in its way
                assert await other.ping(node.node_id) < 2
            await asyncio.gather(*(raw.drained() for raw in flood))
            await asyncio.gather(*(raw.close() for raw in flood))
            await until(lambda: not node._peers._all)
            assert_released(node)
            await assert_serves(node)

    run(main())


def test_sessions_of_one_group_are_bounded() -> None:
    async def main() -> None:
        network = strict(sessions_per_group=3)
        async with make(0, network=network) as node:
            raws: list[Raw] = []
            for i in range(3):
                handshake, flight = await first_flight(node)
                raw = await Raw.connect(address(node), f"127.65.1.{i + 1}")
                await shake(raw, handshake, flight)
                await raw.send(handshake.session("off").send(FrameKind.KEEPALIVE, b""))
                raws.append(raw)
            await until(lambda: len(node._peers._inbound) == 3)
            refused = await Raw.connect(address(node), "127.65.1.9")
            assert await refused.drained() == b""
            assert counter(node, "links_refused.sessions") == 1
            await asyncio.gather(*(raw.close() for raw in [*raws, refused]))
            await until(lambda: not node._peers._all)
            assert_released(node)

    run(main())


def test_handshakes_of_one_group_have_a_price() -> None:
    async def main() -> None:
        network = strict(group_cost_burst=80.0, group_cost_per_s=2.0)  # half of it is for handshakes
        async with make(0, network=network) as node:
            for _ in range(14):
                raw = await Raw.connect(address(node), STRANGER)
                await raw.send(bytes(64))
                await raw.drained()
                await raw.close()
            assert counter(node, "links_refused.cost") == 4
            await assert_serves(node)

    run(main())


# --- inside a session ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "error"),
    [
        ("garbage", "SessionFailed"),
        ("replayed frame", "SessionFailed"),
        ("not an envelope", "DecodeError"),
        ("unsigned first message", "SessionFailed"),
        ("address part of nonsense", "DecodeError"),
    ],
)
def test_a_good_handshake_followed_by_nonsense(what: str, error: str) -> None:
    async def main() -> None:
        async with make(0) as node:
            handshake, flight = await first_flight(node)
            raw = await Raw.connect(address(node), STRANGER)
            await shake(raw, handshake, flight)
            session = handshake.session("off")
            hello = session.send(FrameKind.ADDRESSES, handshake.address_part())
            keepalive = session.send(FrameKind.KEEPALIVE, b"")
            nonsense: dict[str, Callable[[], bytes]] = {
                "garbage": lambda: random.Random(2).randbytes(100_000),
                "replayed frame": lambda: keepalive * 4_000,
                "not an envelope": lambda: session.send(FrameKind.ENVELOPE, b"\xc1" * 100),
                "unsigned first message": lambda: session.send(
                    FrameKind.ENVELOPE, envelope_of(node, handshake)
                ),
                "address part of nonsense": lambda: session.send(FrameKind.ADDRESSES, b"\x00"),
            }
            await raw.send(hello + keepalive + nonsense[what]())
            await raw.drained()
            await raw.close()
            await until(lambda: not node._peers._all)
            assert counter(node, f"failed.{error}") == 1
            assert_released(node)
            await assert_serves(node)

    run(main())


def envelope_of(node: SecureDHT, handshake: Handshake) -> bytes:
    """A PING without signature or binding."""
    sender = handshake._params.identity.node_id
    zeros = bytes(32)
    now, body = system_clock(), encode(Ping())
    return encode(Envelope(1, MessageType.PING, bytes(8), sender, node.node_id, zeros, now, zeros, body, b""))


def test_unknown_frames_are_ignored() -> None:
    async def main() -> None:
        async with make(0) as node:
            handshake, flight = await first_flight(node)
            raw = await Raw.connect(address(node), STRANGER)
            await shake(raw, handshake, flight)
            session = handshake.session("constant")
            await raw.send(session.send(FrameKind.ADDRESSES, handshake.address_part()))
            later = [cast(FrameKind, kind) for kind in range(6, 256)]
            await raw.send(b"".join(session.send(kind, b"of a later version") for kind in later))
            await raw.send(session.send(FrameKind.CLOSE, b""))
            await raw.drained()
            await raw.close()
            await until(lambda: not node._peers._all)
            assert not [k for k in node.status()["counters"] if k.startswith("failed.")]
            assert_released(node)

    run(main())


# --- a bad network -----------------------------------------------------------------------------------


async def work_through(forwarder: Forwarder, node: SecureDHT, index: int = 100) -> None:
    """Join, write and read through a forwarder."""
    known = (f"{node.node_id.hex()}@{forwarder.address}",)
    async with make(index, bootstrap=known, network=node.config.network) as writer:
        await writer.bootstrapped(15)
        value = bytes(range(256)) * 20
        await writer.put("through", value)
        await until(lambda: writer.node_id in [p.node_id for p in node.peers()])
        got = await node.get("through", owner=writer.owner_id)
        assert got.value == value
        assert await writer.ping(f"{node.node_id.hex()}@{forwarder.address}") < 15
    assert forwarder.connections > 0


def test_valid_traffic_split_anywhere() -> None:
    async def main() -> None:
        for seed in range(3):
            cut = partial(splitter, random.Random(seed))
            # A node each: its writers share the forwarder's address group, two of which a bucket takes.
            async with make(0) as node, Forwarder.before(address(node), cut, cut) as forwarder:
                await work_through(forwarder, node, 100 + seed)
                assert not [k for k in node.status()["counters"] if k.startswith("failed.")]
        async with make(0) as node, Forwarder.before(address(node), lambda: bytewise) as forwarder:
            handshake, flight = await first_flight(node, know=False)
            raw = await Raw.connect(forwarder.address)
            await shake(raw, handshake, flight)
            await raw.close()
            assert not [k for k in node.status()["counters"] if k.startswith("failed.")]

    run(main())


def test_a_slow_network() -> None:
    """Everything comes 30 ms late: nothing is lost."""

    async def main() -> None:
        async with make(0) as node, Forwarder.before(address(node), delay_s=0.03) as forwarder:
            await work_through(forwarder, node)

    run(main())


CHANGES: dict[str, Mangle] = {
    "flipped": lambda d: [bytes([d[0] ^ 1]), d[1:]],
    "doubled": lambda d: [d[:1], d],
    "lost": lambda d: [d[1:]],
    "swapped": lambda d: [d[len(d) // 2 :], d[: len(d) // 2]],
}


@pytest.mark.parametrize("how", CHANGES)
def test_bytes_damaged_on_the_way_end_the_session_and_nothing_else(how: str) -> None:
    async def main() -> None:
        async with make(0, network=QUICK) as node:
            for i, offset in enumerate([0, 500, 3_000, 9_000, 15_000]):
                damage = iter([at_offset(offset, CHANGES[how])])
                async with Forwarder.before(address(node), lambda d=damage: next(d, whole)) as forwarder:  # type: ignore[misc]
                    known = f"{node.node_id.hex()}@{forwarder.address}"
                    async with make(1 + i, network=QUICK, request_timeout_s=0.3) as client:
                        errors = await ping_until(client, known, lambda: forwarder.connections > 1)
                        assert errors, "the damage went unnoticed"
                        assert all(
                            isinstance(e, PeerUnreachable | HandshakeFailed | SessionFailed) for e in errors
                        ), errors
                        assert await client.ping(known) < 5, "a new session works"
            await until(lambda: not node._peers._all)
            assert_released(node)
            await assert_serves(node)

    run(main())


async def ping_until(client: SecureDHT, known: str, done: Callable[[], bool]) -> list[RemoteError]:
    """Ping until `done`, 40 times at most; what went wrong meanwhile."""
    errors: list[RemoteError] = []
    for _ in range(40):
        try:
            await client.ping(known)
        except RemoteError as e:
            errors.append(e)
        if done():
            break
    assert done()
    return errors


# --- the wrong peer ----------------------------------------------------------------------------------


def test_another_node_than_the_bootstrap_entry_names() -> None:
    async def main() -> None:
        async with make(0) as node, make(1) as asker:
            wrong = f"{bytes(32).hex()}@{address(node)}"
            with pytest.raises(PeerIdentityMismatch) as caught:
                await asker.ping(wrong)
            assert caught.value.fields == {"expected": bytes(32).hex(), "found": node.node_id.hex()}
            async with make(2, bootstrap=(wrong,)) as lost:
                with pytest.raises(NotBootstrapped, match="bootstrap entries"):
                    await lost.bootstrapped(0.5)
                assert lost.status()["table"] == 0
            with pytest.raises(HandshakeFailed, match="itself"):
                await asker.ping(entry(asker))
            await assert_serves(node)

    run(main())


@pytest.mark.parametrize(
    "change",
    [
        {"network": TESTNET},
        {"network": replace(DEMO, name="other")},
        {"network": replace(DEMO, genesis_salt=b"another genesis!")},
        {"suite": 3},
        {"suite": 2},
    ],
    ids=["testnet", "name", "salt", "suite 3", "suite 2"],
)
def test_networks_and_suites_never_mix(change: dict[str, Any]) -> None:
    async def main() -> None:
        async with make(0) as node, make(1, dial_timeout_s=2.0, **change) as stranger:
            with pytest.raises(PeerUnreachable):
                await stranger.ping(entry(node))
            assert (node.status()["table"], stranger.status()["table"]) == (0, 0)
            assert counter(node, "failed.HandshakeFailed") == 1
            assert counter(node, "handshakes") == 0
            await assert_serves(node)

    run(main())


def test_a_bad_contact_over_the_wire() -> None:
    """Expired, from the future, or without work: refused at the handshake, whatever the keys."""

    async def main() -> None:
        async with make(0) as node:
            for i, (network, days) in enumerate(
                [(DEMO, -38), (DEMO, 3), (replace(DEMO, puzzle_schedule=((0, 0),)), 0)]
            ):
                then = system_clock() + days * DAY_MS
                config = replace(node.config, network=network)
                suite = choose_suite(config, None)
                while True:
                    identity = await load_or_make_node(config, suite, tag_of(config), then)
                    if days or identity.bits < 4:
                        break
                for know in (True, False):
                    raw = await Raw.connect(address(node), f"127.66.{2 * i + know}.1")
                    handshake, flight = await first_flight(node, know=know, identity=identity)
                    await raw.send(flight)
                    if not know:
                        answer = handshake.receive(await raw.reader.readexactly(1), system_clock())
                        while answer is None:
                            answer = handshake.receive(await raw.reader.read(65_536), system_clock())
                        handshake.prepare()
                        await raw.send(handshake.finish())
                    assert await raw.drained() == b""
                    await raw.close()
            await until(lambda: not node._peers._all)
            assert counter(node, "failed.BadPuzzle") == 6
            assert_released(node)
            await assert_serves(node)

    run(main())


def test_no_common_version() -> None:
    async def main() -> None:
        async with make(0) as node:
            for i, versions in enumerate([(2, 9), (0, 0)]):
                _, flight = await first_flight(node, versions=versions)
                raw = await Raw.connect(address(node), f"127.67.{i}.1")
                await raw.send(flight)
                assert await raw.drained() == b""
                await raw.close()
            _, flight = await first_flight(node, versions=(0, 250))
            raw = await Raw.connect(address(node), "127.67.9.1")
            await raw.send(flight)
            assert await raw.reader.read(100), "a range that holds ours is fine"
            await raw.close()
            await until(lambda: not node._peers._all)
            assert counter(node, "failed.HandshakeFailed") == 2

    run(main())


def test_a_bridge_answers_only_who_knows_its_key() -> None:
    async def main() -> None:
        async with make(0, bridge=True, network=QUICK) as bridge, make(1, network=QUICK) as stranger:
            with pytest.raises(PeerUnreachable):
                await stranger.ping(entry(bridge))
            handshake, flight = await first_flight(bridge)
            raw = await Raw.connect(address(bridge), STRANGER)
            await shake(raw, handshake, flight)
            assert handshake.peer is not None
            assert handshake.peer.node_id == bridge.node_id
            await raw.close()

    run(main())


def test_a_wrong_clock_costs_a_round_trip_not_membership() -> None:
    async def main() -> None:
        async with Testnet.loopback(6) as net:
            ahead = Parts(clock=lambda: system_clock() + 10 * 60_000)
            async with make(50, bootstrap=net.bootstrap, parts=ahead) as late:
                await late.bootstrapped(10)
                assert len(await late.find_node(late.node_id)) >= 4
                assert counter(late, "early_requests_repeated") > 0
                with pytest.raises(QuorumNotReached, match="clock") as caught:
                    await late.put("from the future", b"!")
                codes = [r.code for r in caught.value.result.receipts if r.node != late.node_id]
                assert set(codes) == {"CLOCK_SKEW"}
                await net.nodes[1].put("now", b"!")
                assert (await late.get("now", owner=net.nodes[1].owner_id)).value == b"!"

    run(main())
