"""Bad input over real sockets: each gives a clear typed error, costs little, and the node serves on."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pqdht import (
    DEMO,
    TESTNET,
    ConfigError,
    HandshakeFailed,
    KeyFileError,
    ListenError,
    NotBootstrapped,
    PeerError,
    PeerIdentityMismatch,
    PeerUnreachable,
    QuorumNotReached,
    RemoteError,
    SecureDHT,
    SessionFailed,
    StorageError,
    StorageFull,
    WireCode,
)
from pqdht.channel.framing import FRAME_OVERHEAD
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.session import FrameKind
from pqdht.constants import DAY_MS
from pqdht.identity.contact import ContactVerifier
from pqdht.node.environment import Parts, choose_suite, system_clock, tag_of
from pqdht.node.identities import load_or_make_node
from pqdht.storage.sqlite import SqliteStore
from pqdht.testing.testnet import Testnet
from pqdht.wire.codec import encode
from pqdht.wire.messages import Envelope, FindValue, MessageType, Ping, Store, Stored
from tests.live.harness import (
    Forwarder,
    Mangle,
    Raw,
    address,
    at_offset,
    bytewise,
    counter,
    entry,
    make,
    run,
    splitter,
    strict,
    until,
    whole,
)

STRANGER = "127.88.8.1"
QUICK = strict(handshake_timeout_s=0.3)


async def assert_serves(node: SecureDHT) -> None:
    """A newcomer joins, writes and reads: nothing that happened before hurt the node."""
    async with make(200, bootstrap=(entry(node),), network=node.config.network) as newcomer:
        await newcomer.bootstrapped(10)
        await newcomer.put("after", b"the flood")
        got = await node.get("after", owner=newcomer.owner_id, ignore_local=True)
        assert got.value == b"the flood"
        await newcomer.close()
    await until(lambda: not node._peers._all)


def assert_released(node: SecureDHT) -> None:
    """Nothing of refused or failed links is left."""
    peers = node._peers
    assert (len(peers._all), len(peers._inbound), len(peers._half_open)) == (0, 0, 0)
    assert not peers.sessions


async def first_flight(node: SecureDHT, versions: tuple[int, int] = (1, 1), **change: Any) -> tuple[Handshake, bytes]:
    """A caller's handshake towards `node`, and its first frame."""
    config = node.config
    suite = choose_suite(config, None)
    identity = change.pop("identity", None) or await load_or_make_node(config, suite, tag_of(config), system_clock())
    tag = change.pop("tag", tag_of(config))
    params = HandshakeParams(
        suite=suite,
        network_tag=tag,
        identity=identity,
        verifier=ContactVerifier(suite, config.params, tag),
        versions=versions,
        padding_spread=1,
    )
    kem_key = node.env.identity.kem.public if change.pop("know", True) else None
    handshake = Handshake.initiate(
        params, expected=node.node_id, kem_key=kem_key, observed="tcp/127.0.0.1:1", now=system_clock()
    )
    handshake.prepare()
    return handshake, handshake.finish()


async def shake(raw: Raw, handshake: Handshake, flight: bytes) -> None:
    """Complete the handshake of `first_flight` over a raw socket."""
    await raw.send(flight)
    while not handshake.done:
        data = await raw.reader.read(65_536)
        assert data, "the node hung up"
        if handshake.receive(data, system_clock()) is not None and not handshake.done:
            handshake.prepare()
            await raw.send(handshake.finish())


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


def test_a_replayed_first_flight_opens_a_session_that_stays_unproven() -> None:
    """pqIK's first message can be recorded: the answer is of no use, and nobody enters the table."""

    async def main() -> None:
        async with make(0, network=QUICK) as node:
            _, flight = await first_flight(node)
            for i in range(4):
                raw = await Raw.connect(address(node), f"127.62.{i}.1")
                await raw.send(flight)
                answer = await raw.reader.read(65_536)
                assert len(answer) > FRAME_OVERHEAD
                await raw.close()
            await until(lambda: not node._peers._all)
            assert node.status()["table"] == 0
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
            handshake, flight = await first_flight(node, know=False)
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
            await until(lambda: counter(node, "links_refused.half_open") == 26)
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
                raws.append(raw)
            refused = await Raw.connect(address(node), "127.65.1.9")
            assert await refused.drained() == b""
            assert counter(node, "links_refused.sessions") == 1
            await asyncio.gather(*(raw.close() for raw in [*raws, refused]))
            await until(lambda: not node._peers._all)
            assert_released(node)

    run(main())


def test_handshakes_of_one_group_have_a_price() -> None:
    async def main() -> None:
        network = strict(group_cost_burst=40.0, group_cost_per_s=1.0)
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
                "replayed frame": lambda: keepalive * 2_000,
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
    return encode(
        Envelope(1, MessageType.PING, bytes(8), sender, node.node_id, zeros, system_clock(), zeros, encode(Ping()), b"")
    )


def test_unknown_frames_are_ignored() -> None:
    async def main() -> None:
        async with make(0) as node:
            handshake, flight = await first_flight(node)
            raw = await Raw.connect(address(node), STRANGER)
            await shake(raw, handshake, flight)
            session = handshake.session("constant")
            await raw.send(session.send(FrameKind.ADDRESSES, handshake.address_part()))
            await raw.send(b"".join(session.send(kind, b"of a later version") for kind in range(6, 256)))
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
        got = await node.get("through", owner=writer.owner_id)
        assert got.value == value
        assert await writer.ping(f"{node.node_id.hex()}@{forwarder.address}") < 15
    assert forwarder.connections > 0


def test_valid_traffic_split_anywhere() -> None:
    async def main() -> None:
        async with make(0) as node:
            for seed in range(3):
                dice = random.Random(seed)
                async with Forwarder.before(
                    address(node), lambda d=dice: splitter(d), lambda d=dice: splitter(d)  # type: ignore[misc]
                ) as forwarder:
                    await work_through(forwarder, node, 100 + seed)
            async with Forwarder.before(address(node), lambda: bytewise) as forwarder:
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
                    parts = Parts(node=identity, clock=(lambda t=then: t) if days else system_clock)
                    raw = await Raw.connect(address(node), f"127.66.{2 * i + know}.1")
                    handshake, flight = await first_flight(node, know=know, identity=parts.node)
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


# --- our own faults ------------------------------------------------------------------------------------


def test_an_occupied_port(tmp_path: Path) -> None:
    async def main() -> None:
        async with make(0) as node:
            second = make(1, listen=(str(address(node)),), data_dir=tmp_path)
            with pytest.raises(ListenError, match="another program listens") as caught:
                await second.start()
            assert caught.value.fields["address"] == str(address(node))
            async with make(1, data_dir=tmp_path) as third:  # nothing of the second is left locked
                assert third.status()["bootstrapped"] in (True, False)

    run(main())


@pytest.mark.parametrize("name", ["node.key", "owner.key"])
def test_an_unusable_key_file(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path):
            pass
        path = tmp_path / name
        good = path.read_bytes()
        path.chmod(0o644)
        with pytest.raises(KeyFileError, match="chmod 600"):
            await make(0, data_dir=tmp_path).start()
        for bad in (b"", good[:100], good.replace(b"_seed", b"_speed"), b"\xff" * 100, bytes(1 << 20)):
            path.write_bytes(bad)
            path.chmod(0o600)
            with pytest.raises(KeyFileError, match="damaged"):
                await make(0, data_dir=tmp_path).start()
            assert path.read_bytes() == bad, "a key file is never overwritten"
        path.unlink()
        path.mkdir(mode=0o700)
        with pytest.raises(KeyFileError, match="cannot be read|not a file"):
            await make(0, data_dir=tmp_path).start()
        path.rmdir()
        path.write_bytes(good)
        path.chmod(0o600)
        async with make(0, data_dir=tmp_path) as node:
            assert node.status()["bootstrapped"] in (True, False)

    run(main())


def test_keys_of_another_network_or_suite(tmp_path: Path) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path):
            pass
        with pytest.raises(KeyFileError, match="another data directory"):
            await make(0, data_dir=tmp_path, network="testnet").start()
        with pytest.raises(KeyFileError, match="another data directory"):
            await make(0, data_dir=tmp_path, suite=3).start()

    run(main())


def test_an_expired_identity_is_replaced_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        old = Parts(clock=lambda: system_clock() - 40 * DAY_MS)
        async with make(0, data_dir=tmp_path, parts=old) as node:
            before, owner = node.node_id, node.owner_id
        async with make(0, data_dir=tmp_path) as node:
            assert node.node_id != before
            assert node.owner_id == owner
            assert (tmp_path / "node.key.1").exists()

    run(main())


def test_a_data_directory_serves_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path) as node:
            with pytest.raises(StorageError, match="in use by process") as caught:
                await make(1, data_dir=tmp_path).start()
            assert caught.value.fields["pid"] == os.getpid()
            await assert_serves(node)

    run(main())


@pytest.mark.parametrize(
    "settings", [{"bootstrap": ("nonsense",)}, {"listen": ("tcp/nowhere",)}, {"listen": ("obfs4/127.0.0.1:1",)}]
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError):
            await make(0, **settings).start()

    run(main())


@pytest.mark.parametrize("damage", ["middle", "header", "cut", "garbage"])
def test_a_corrupt_database_is_kept_aside_and_what_can_be_read_is_saved(tmp_path: Path, damage: str) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path) as node:
            for i in range(30):
                await node.put(f"name {i}", bytes(3_000))
            assert node.status()["records"] == 30
            before = node.node_id
        path = tmp_path / "records.sqlite"
        data = bytearray(path.read_bytes())
        match damage:
            case "middle":
                middle = len(data) // 2 // 4096 * 4096
                data[middle : middle + 8192] = random.Random(3).randbytes(8192)
            case "header":
                data[:100] = random.Random(3).randbytes(100)
            case "cut":
                del data[len(data) // 2 :]
            case _:
                data[:] = random.Random(3).randbytes(len(data))
        path.write_bytes(bytes(data))
        async with make(0, data_dir=tmp_path) as node:
            assert node.node_id == before
            kept = [p for p in tmp_path.iterdir() if ".corrupt-" in p.name]
            assert len(kept) == 1
            assert kept[0].read_bytes() == bytes(data)
            if damage == "middle":
                assert node.status()["records"] > 15
            await node.put("new", b"!")
            await assert_serves(node)

    run(main())


def test_a_database_damaged_under_a_running_node_answers_so(tmp_path: Path) -> None:
    """The disk fails: who asks is told, and the node answers everything else."""

    async def main() -> None:
        async with make(0, data_dir=tmp_path) as node, make(1, bootstrap=(entry(node),)) as other:
            await other.bootstrapped(10)
            put = await node.put("name", bytes(3_000))
            other_has = [r for r in put.receipts if r.node == other.node_id]
            assert [r.code for r in other_has] == ["OK"]
            contact = other._routing.table.get(node.node_id)
            assert contact is not None
            break_reads(node)
            with pytest.raises(PeerError) as caught:
                await other._peers.request(contact.contact, FindValue(put.key))
            assert caught.value.code is WireCode.INTERNAL
            stored = (await other._peers.request(contact.contact, Store((put.record.wire,)))).body
            assert isinstance(stored, Stored)
            assert [r.code for r in stored.receipts] == [WireCode.INTERNAL]
            assert await other.ping(node.node_id) < 5
            # Cold: the question travels in the handshake.
            for conn in list(other._peers._all):
                conn.close()
            with pytest.raises(PeerError):
                await other._peers.request(contact.contact, FindValue(put.key))

    run(main())


def break_reads(node: SecureDHT) -> None:
    """Every further read of a record fails as on a broken disk."""
    store = node.env.store
    assert isinstance(store, SqliteStore)
    store._reader.close()
    broken = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    store._reader = broken


def test_a_full_disk_refuses_and_keeps_what_was_there(tmp_path: Path) -> None:
    async def main() -> None:
        full = SqliteStore(tmp_path / "records.sqlite", 1 << 30, 0, max_pages=40)
        async with make(0, parts=Parts(store=full)) as node, make(1, bootstrap=(entry(node),)) as other:
            await other.bootstrapped(10)
            accepted: list[int] = []
            codes: dict[str, int] = {}
            for i in range(30):
                try:
                    result = await other.put(f"name {i}", bytes(4_000))
                except QuorumNotReached as e:
                    result = e.result
                code = next(r.code for r in result.receipts if r.node == node.node_id)
                codes[code] = codes.get(code, 0) + 1
                if code == "OK":
                    accepted.append(i)
            assert set(codes) == {"OK", "STORAGE_FULL"}
            assert counter(node, "commits_failed.STORAGE_FULL") == codes["STORAGE_FULL"]
            for i in accepted:
                key = other.named(f"name {i}").key()
                assert node.env.store.get(key), "what a receipt promised is kept"
            record = result.record.wire
            contact = await other._entrance.reach(node.node_id, address(node))
            answer = (await other._peers.request(contact, Store((record, record)))).body
            assert isinstance(answer, Stored)
            assert {r.code for r in answer.receipts} == {WireCode.STORAGE_FULL}, "no promise before the disk has it"
            with pytest.raises(StorageFull, match="free some disk space"):
                for i in range(30):
                    await node.put(f"own {i}", bytes(4_000))
            assert await other.ping(node.node_id) < 5

    run(main())


def test_a_quota_refuses_and_says_so() -> None:
    async def main() -> None:
        network = strict(records_per_owner=3, bytes_per_owner=1 << 20)
        async with make(0, network=network) as node, make(1, network=network, bootstrap=(entry(node),)) as other:
            await other.bootstrapped(10)
            for i in range(3):
                await other.put(f"name {i}", b"!")
            with pytest.raises(QuorumNotReached) as caught:
                await other.put("one too many", b"!")
            assert {r.code for r in caught.value.result.receipts} == {"QUOTA"}
            await other.put("name 1", b"a new version takes no new place")

    run(main())
