"""One target for each thing that is parsed out of this machine: files, the database, the control socket.

Their authors are our user, an earlier version, or a failing disk: whatever stands there is taken, or
refused with an error that says what to do; nothing else is raised, and nothing runs away.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import shutil
import sqlite3
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from pqdht.cli.wireguard import parse_wireguard
from pqdht.config import Config
from pqdht.daemon.control import ControlClient, parse_line
from pqdht.daemon.failure import describe
from pqdht.daemon.requests import Announce, Get, Put, Status, _Where, parse_request
from pqdht.errors import ConfigError, KeyFileError, NotFound, PqdhtError, StorageError
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import UnsolvedIdentity
from pqdht.node.environment import Environment
from pqdht.node.guard import Guard
from pqdht.node.handlers import to_wire
from pqdht.node.publication import STATE, Journal
from pqdht.node.publisher import Publisher
from pqdht.node.routing import REMEMBERED, Routing
from pqdht.records import Named, RecordVerifier, make_record
from pqdht.storage import keyfiles
from pqdht.storage.base import Floor, StoredRecord
from pqdht.storage.database import TABLES, replace
from pqdht.storage.memory import MemoryStore
from pqdht.storage.sqlite import SqliteStore
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from tests.fuzz.parsers import CONTACT, ID, NODE, NOW, OWNER, PARAMS, SUITE, TAG
from tests.fuzz.source import Source, Target


@cache
def _scratch() -> Path:
    """A directory in memory where there is one: a fuzzer writes some hundred files a second."""
    shm = Path("/dev/shm")
    place = tempfile.TemporaryDirectory(prefix="pqdht-fuzz-", dir=shm if shm.is_dir() else None)
    _KEPT.append(place)
    return Path(place.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


# --- key files -----------------------------------------------------------------------------------


def keyfile(data: bytes) -> bool:
    """A file where a key file should be."""
    path = _scratch() / "node.key"
    path.write_bytes(data)
    path.chmod(0o600)
    kept = _scratch() / "again.key"
    accepted = False
    with contextlib.suppress(KeyFileError):
        identity = keyfiles.load_node(path, SUITE, TAG)
        accepted = True
        with contextlib.suppress(KeyFileError):
            keyfiles.save_node(kept, identity, replace=True)
            assert keyfiles.load_node(kept, SUITE, TAG).node_id == identity.node_id
    with contextlib.suppress(KeyFileError):
        owner = keyfiles.load_owner(path, SUITE)
        accepted = True
        keyfiles.save_owner(kept, owner, replace=True)
        assert keyfiles.load_owner(kept, SUITE) == owner
    with contextlib.suppress(KeyFileError):
        unsolved, position = keyfiles.load_puzzle(path, SUITE, TAG, NODE.born)
        accepted |= unsolved is not None
        assert 0 <= position < 1 << 64
    return accepted


def _keyfile_seeds() -> list[bytes]:
    path = _scratch() / "seed.key"
    seeds = []
    unsolved = UnsolvedIdentity.from_seeds(SUITE, TAG, NODE.signing.seed, NODE.kem.seed, NODE.born)
    saves: tuple[Callable[[], None], ...] = (
        lambda: keyfiles.save_node(path, NODE, replace=True),
        lambda: keyfiles.save_owner(path, OWNER, replace=True),
        lambda: keyfiles.save_puzzle(path, unsolved, 7),
    )
    for save in saves:
        save()
        seeds.append(path.read_bytes())
    return seeds


# --- saved states --------------------------------------------------------------------------------


def state(data: bytes) -> bool:
    """A blob where the publisher's journal, or (first byte odd) the remembered contacts, should be."""
    return run(_load_state(data), strict=False)


async def _load_state(data: bytes) -> bool:
    env = _environment()
    store = env.store
    is_contacts = bool(data and data[0] & 1)
    key = Named(OWNER.owner_id, "x").key()
    name = REMEMBERED if is_contacts else f"{STATE}{key.hex()}/{OWNER.owner_id.hex()}"
    await store.save_state(name, data[1:])
    if is_contacts:
        routing = Routing(env, Guard(env))
        return bool(routing.load())
    none: Any = None
    publisher = Publisher(env, none, none, none, none, none)
    publisher.load()
    last = publisher.last(Named(OWNER.owner_id, "x"), OWNER.owner_id)
    for slot, publication in publisher._own.items():
        assert publication.record.locator.key() == slot[0]
        assert publication.interval_ms(3600.0) > 0
        await publisher._save(publication)
        assert publisher._journalled(publisher._name(*slot)) is not None
        try:
            await publisher._sign(
                publication.record.locator, b"w", OWNER, publication.ttl_s, 0, None, publication.renew
            )
        except ConfigError:
            continue
    return last is not None


def _environment() -> Environment:
    contacts = ContactVerifier(SUITE, PARAMS, TAG, cache_size=16)
    return Environment(
        config=Config(network=PARAMS),
        params=PARAMS,
        suite=SUITE,
        network_tag=TAG,
        identity=NODE,
        owner=OWNER,
        clock=lambda: NOW,
        dice=random.Random(1),
        store=MemoryStore(PARAMS.limits.bytes_total),
        transports={},
        contacts=contacts,
        records=RecordVerifier(SUITE, PARAMS, TAG, contacts, cache_size=16),
    )


def _wire(name: str = "x") -> Any:
    where = Named(OWNER.owner_id, name)
    return make_record(SUITE, TAG, OWNER, where, b"v", ttl=3600, timestamp=NOW, params=PARAMS).wire


def _state_seeds() -> list[bytes]:
    journal = Journal(_wire(), 3600, True, True, False, NOW)
    return [b"\0" + encode(journal), b"\1" + encode((CONTACT,))]


# --- the database --------------------------------------------------------------------------------


def database(data: bytes) -> bool:
    """A database with arbitrary rows, or with bytes of its file changed, opened and read whole."""
    where = _scratch() / "db"
    where.mkdir(exist_ok=True)
    for old in where.iterdir():
        old.unlink()
    path = where / "records.sqlite"
    shutil.copyfile(_template(), path)
    source = Source(data)
    if source.flag():
        _insert_rows(path, source)
    else:
        _change_bytes(path, source)
    try:
        return asyncio.run(_read_all(path))
    except StorageError:
        return False


def _insert_rows(path: Path, source: Source) -> None:
    values: dict[type, Any] = {
        bytes: lambda: source.pick((ID, b"", source.blob())),
        int: lambda: source.pick((0, NOW, NOW + 1, -1, 2**63 - 1, -(2**63), source.u16())),
        str: lambda: source.pick(("", "10.0.0.0/24", source.blob().decode("utf-8", "replace"))),
    }
    db = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(db):
        for _ in range(source.u8() % 4 + 1):
            table = source.pick(list(TABLES))
            kinds = [
                source.pick((bytes, int, str)) if source.u8() == 7 else t for t in TABLES[table].values()
            ]
            with contextlib.suppress(sqlite3.Error):
                db.execute(replace(table), [values[kind]() for kind in kinds])


def _change_bytes(path: Path, source: Source) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(source.u8() % 8 + 1):
        at = int.from_bytes(source.exactly(3), "big") % len(raw)
        new = source.blob()
        raw[at : at + len(new)] = new
    path.write_bytes(raw[: len(raw) - source.u16()] if source.flag() else raw)


async def _read_all(path: Path) -> bool:
    store = SqliteStore(path, 2**20, NOW)
    try:
        for key in store.keys():
            for record in store.get(key):
                encode(to_wire(record))
                store.usage_of_owner(record.owner)
                store.usage_of_group(record.group)
        for floor in store.floors():
            store.floor(floor.key, floor.owner)
        for name in store.list_states(""):
            store.load_state(name)
        store.usage()
        await store.commit([_stored(2)], floors=[Floor(ID, ID, NOW, NOW)])
        assert any(r.record_id == bytes([2]) * 32 for r in store.get(bytes([2]) * 32))
        store.expire(NOW)
        sound = store.salvaged is None
    finally:
        await store.close()
    again = SqliteStore(path, 2**20, NOW)
    assert again.salvaged is None, "what was just repaired is damaged again"
    await again.close()
    return sound


def _stored(n: int) -> StoredRecord:
    one = bytes([n]) * 32
    return StoredRecord(one, one, one, 2, NOW, NOW + 10**9, "10.0.0.0/24", b"", 40, b"t" * 20, b"s" * 20)


@cache
def _template() -> Path:
    path = _scratch() / "template" / "records.sqlite"
    path.parent.mkdir(exist_ok=True)

    async def make() -> None:
        store = SqliteStore(path, 2**20, NOW)
        await store.commit([_stored(9), _stored(3)], floors=[Floor(ID, ID, NOW, NOW + 10**9)])
        await store.save_state("contacts", b"blob")
        await store.close()

    asyncio.run(make())
    return path


def _database_seeds() -> list[bytes]:
    rows = b"\1\3" + b"\0" + bytes(1 + 11) + bytes(22)
    return [rows, b"\0\0" + (2**15).to_bytes(3, "big") + b"\0"]


# --- the user's WireGuard file -------------------------------------------------------------------

PRIVATE = base64.b64encode(b"\x07" * 32).decode()


def wireguard(data: bytes) -> bool:
    """A wg-quick file; no message quotes what may be a key."""
    text = data.decode("utf-8", "replace")
    try:
        found = parse_wireguard(text)
    except ConfigError as e:
        _check_message(str(e), text)
        return False
    assert len(found.public_key) == 32
    assert found.listen_port is None or 0 < found.listen_port < 65_536
    assert "%" not in found.allowed_ips
    assert found.allowed_ips.isprintable()
    return True


def _check_message(message: str, text: str) -> None:
    assert PRIVATE not in message
    assert len(message) < 400 + 10 * len(text)


def _wireguard_seeds() -> list[bytes]:
    whole = (
        f"[Interface]\n# Endpoint = 203.0.113.5:51820\nPrivateKey = {PRIVATE} # x\nListenPort = 51820\n"
        "Address = 10.0.0.3/24, fd00::3/64\nDNS = 10.0.0.1\nPostUp = iptables -A x\n\n"
        "[Peer]\nPublicKey = x\nAllowedIPs = 10.0.0.4/32\nEndpoint = 198.51.100.7:1\n"
    )
    return [whole.encode(), f"[Interface]\nPrivateKey={PRIVATE}".encode()]


# --- the control socket --------------------------------------------------------------------------


class _Facts:
    """What parameters are checked against before anything is asked of the network."""

    def __init__(self) -> None:
        self.owner_id = OWNER.owner_id

    def named(self, name: str, owner: Any) -> Named:
        return Named(owner or self.owner_id, name)


def control(data: bytes) -> bool:
    """A line to the daemon, or (first byte odd) a line from it."""
    line = data[1:]
    if data and data[0] & 1:
        try:
            ControlClient(_scratch())._open(line)
        except PqdhtError as e:
            msgspec.json.encode(describe(e))
            return type(e) is not PqdhtError
        return True
    try:
        request = parse_line(line)
    except ConfigError as e:
        msgspec.json.encode(describe(e))
        return False
    sent = msgspec.json.decode(msgspec.json.encode(request))
    assert parse_request(request.method, sent) == request
    assert request.limit_s >= 0 or isinstance(request, Get)
    if isinstance(request, _Where):
        facts: Any = _Facts()
        with contextlib.suppress(ConfigError):
            request.locator(facts).key()
    return True


def _control_seeds() -> list[bytes]:
    requests = (
        Status(),
        Put(name="a", value="00ff", ttl=60, previous="ab" * 32),
        Get(topic="t", owner="ab" * 32, consistency="first", timeout=1.5),
        Get(content="ab" * 32),
        Announce(endpoints=("a:1",), attributes={"a": "b"}, wireguard_key="ab" * 32),
    )
    lines = [msgspec.json.encode({"method": r.method, "params": r}) for r in requests]
    failure = {"error": describe(NotFound("no", result={"a": 1}, key=b"k"))}
    return [b"\0" + line for line in lines] + [
        b"\1" + msgspec.json.encode(failure),
        b"\1" + msgspec.json.encode({"result": {"a": 1}}),
    ]


TARGETS = (
    Target("keyfile", keyfile, _keyfile_seeds, max_len=2048),
    Target("state", state, _state_seeds, is_msgpack=True, max_len=8192),
    Target("database", database, _database_seeds, max_len=256),
    Target("wireguard", wireguard, _wireguard_seeds, max_len=2048),
    Target("control", control, _control_seeds, max_len=1024),
)
