"""What can be asked of a running node: one struct per request, with JSON parameters and results.

The command line makes these; the control socket carries them; `run` carries them out on a
`SecureDHT`, in the daemon or in a short-lived node of the command line's own.  Ids, keys and values
are hex, times are ms since the epoch.
"""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, Protocol

import msgspec

from ..config import DEFENCES, Config, Consistency
from ..constants import BORN_MAX_AGE_DAYS, DAY_S, MS
from ..errors import ConfigError, DecodeError, RecordInvalid
from ..ids import NodeId, OwnerId, RecordId, parse_id
from ..node.dht import SecureDHT
from ..node.publication import STATE, decode_journal
from ..peer_record import PeerRecord, peer_locator
from ..records import Content, Locator, Named, Topic
from ..storage.base import StoredRecord
from ..trust.events import EventKind
from ..trust.quarantine import Held

EVENTS_SHOWN = 50
LOOKUP_LIMIT_S = Config().lookup_timeout_s
"""Seconds for one search; a PUT may place after it for as long again."""


class Caller(Protocol):
    """Somebody who carries requests out: a daemon behind its control socket, or a node right here."""

    async def call(self, request: Request) -> dict[str, Any]:
        """The result. Raises PqdhtError."""
        ...


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Base of all requests; `method` is its name on the control socket."""

    method: ClassVar[str]
    signs: ClassVar[bool] = False
    """Whether it needs the owner's key."""
    of_daemon: ClassVar[bool] = False
    """Whether it asks about a running daemon, so that a node made for the moment is no answer."""

    @property
    def limit_s(self) -> float:
        """Seconds after which the node itself gives up."""
        return 0.0 if self.of_daemon else 2 * LOOKUP_LIMIT_S

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        """Carry it out. Raises PqdhtError."""
        raise NotImplementedError


class _Where(Request, frozen=True):
    """A place: `name` (of `owner`, the node's own by default), `topic`, or `content` (a hash)."""

    name: str | None = None
    owner: str | None = None
    topic: str | None = None
    content: str | None = None

    def locator(self, dht: SecureDHT) -> Locator:
        if sum(x is not None for x in (self.name, self.topic, self.content)) != 1:
            raise ConfigError("give exactly one of a name, a topic and a content hash", name="name")
        if self.topic is not None:
            return Topic(self.topic)
        if self.content is not None:
            return Content(parse_id(self.content, "content hash"))
        assert self.name is not None
        return dht.named(self.name, self.owner_id)

    @property
    def owner_id(self) -> OwnerId | None:
        return OwnerId(parse_id(self.owner, "owner id")) if self.owner is not None else None


class Status(Request, frozen=True):
    """Facts and counters of the node."""

    method = "status"
    of_daemon = True

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        env = dht.env
        return dht.status() | {
            "bootstrap_entries": bootstrap_entries(dht),
            "join_errors": dict(env.join_errors),
            "announced": announced(dht),
            "valid_until": valid_until(env.identity.born),
            "uptime_s": (env.clock() - env.started) // 1000,
            "k": env.params.k,
            "defences": unusual_modes(dht),
            "version": _version(),
        }


class Table(Request, frozen=True):
    """The routing table."""

    method = "table"
    of_daemon = True

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        return {"peers": [p.as_dict() for p in dht.peers()]}


class Records(Request, frozen=True):
    """What the node stores: every live record, by key."""

    method = "records"
    of_daemon = True

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        store, now = dht.env.store, dht.env.clock()
        held = [r for key in store.keys() for r in store.get(key) if r.expires > now]
        return {"records": [_stored(r) for r in held]}


class Put(_Where, frozen=True, kw_only=True):
    """Sign and store a value under a name of ours, a topic, or (`immutable`) its own hash."""

    method = "put"
    signs = True
    value: str
    ttl: int = DAY_S
    previous: str | None = None
    immutable: bool = False

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        value = _from_hex(self.value, "value")
        where = Content.of(value) if self.immutable else self.locator(dht)
        if isinstance(where, Named) and where.owner != dht.owner_id:
            raise ConfigError("only its owner can write a value", name="owner")
        previous = RecordId(parse_id(self.previous, "record id")) if self.previous is not None else None
        return (await dht.put(where, value, ttl=self.ttl, previous=previous)).as_dict()


class Get(_Where, frozen=True):
    """Fetch a value; for a topic without an owner, everybody's."""

    method = "get"
    ignore_local: bool = False
    thorough: bool = False
    consistency: Consistency | None = None
    timeout: float | None = None

    @property
    def limit_s(self) -> float:
        return self.timeout or 2 * LOOKUP_LIMIT_S

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        where = self.locator(dht)
        if isinstance(where, Topic) and self.owner is None:
            found = await dht.get_topic(where.name, ignore_local=self.ignore_local, timeout=self.timeout)
            return {"results": [r.as_dict() for r in found]}
        result = await dht.get(
            where,
            owner=self.owner_id,
            consistency=self.consistency,
            ignore_local=self.ignore_local,
            thorough=self.thorough,
            timeout=self.timeout,
        )
        return result.as_dict()


class Delete(_Where, frozen=True):
    """Replace a value of ours by a tombstone."""

    method = "delete"
    signs = True

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        return (await dht.delete(self.locator(dht))).as_dict()


class Announce(Request, frozen=True):
    """Publish the peer record.  Without `endpoints`: the hosts we listen on, with `listen_port`."""

    method = "announce"
    signs = True
    endpoints: tuple[str, ...] = ()
    listen_port: int | None = None
    wireguard_key: str | None = None
    attributes: dict[str, str] = {}

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        key = _from_hex(self.wireguard_key, "WireGuard key") if self.wireguard_key is not None else None
        endpoints = self.endpoints or self._own_endpoints(dht)
        result = await dht.announce(endpoints, wireguard_key=key, attributes=self.attributes)
        return result.as_dict() | {"endpoints": list(endpoints)}

    def _own_endpoints(self, dht: SecureDHT) -> tuple[str, ...]:
        hosts = [address.partition("/")[2].rpartition(":")[0] for address in dht.env.addresses]
        if self.listen_port is None or not hosts:
            raise ConfigError(
                "nothing to announce, since this node does not know under which address others reach it:"
                " give --endpoint HOST:PORT, or a remark `# Endpoint = host:port` in the WireGuard file,"
                " or start the node with --advertise",
                name="endpoint",
            )
        return tuple(f"{host}:{self.listen_port}" for host in dict.fromkeys(hosts))


class FindPeer(Request, frozen=True):
    """Where an owner's peer is."""

    method = "find_peer"
    owner: str
    ignore_local: bool = False
    consistency: Consistency | None = None

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        owner = OwnerId(parse_id(self.owner, "owner id"))
        found = await dht.find_peer(owner, ignore_local=self.ignore_local, consistency=self.consistency)
        return found.as_dict()


class FindNode(Request, frozen=True):
    """The live nodes closest to an id."""

    method = "find_node"
    target: str

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        found = await dht.find_node(parse_id(self.target, "target"))
        return {"nodes": [n.as_dict() for n in found]}


class Ping(Request, frozen=True):
    """Round trip to a node id, or to `<node id>@tcp/host:port`."""

    method = "ping"
    node: str

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        node = self.node if "@" in self.node else NodeId(parse_id(self.node, "node id"))
        return {"node": self.node, "rtt_s": await dht.ping(node)}


class Verify(_Where, frozen=True):
    """Cross-verify a value: ask all of the k closest.  The result, whatever its verdict."""

    method = "verify"

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        return (await dht.verify(self.locator(dht), owner=self.owner_id)).as_dict()


class Reputation(Request, frozen=True):
    """What the node thinks of another."""

    method = "reputation"
    of_daemon = True
    node: str

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        node = parse_id(self.node, "node id")
        is_held = any(h.node == node for h in dht.quarantined())
        return {"node": node.hex(), "score": dht.reputation(node), "quarantined": is_held}


class Quarantine(Request, frozen=True):
    """Whom the node leaves out, and why."""

    method = "quarantine"
    of_daemon = True

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        return {"quarantined": [_held(h) for h in dht.quarantined()]}


class Lift(Request, frozen=True):
    """Let a node out of quarantine."""

    method = "lift"
    of_daemon = True
    node: str

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        node = parse_id(self.node, "node id")
        return {"node": node.hex(), "lifted": dht.lift(node)}


class Events(Request, frozen=True):
    """The latest `limit` security events (of one kind) since the start, oldest first."""

    method = "events"
    of_daemon = True
    limit: int = EVENTS_SHOWN
    kind: str | None = None

    async def run(self, dht: SecureDHT) -> dict[str, Any]:
        kind, limit = event_kind(self.kind), self.limit
        if limit < 1:
            raise ConfigError(f"limit must be at least 1, got {limit}", name="limit")
        found = [e for e in dht.anomalies() if kind is None or e.kind is kind]
        return {"events": [e.as_dict() for e in found[-limit:]]}


REQUESTS: tuple[type[Request], ...] = (
    Status,
    Table,
    Records,
    Put,
    Get,
    Delete,
    Announce,
    FindPeer,
    FindNode,
    Ping,
    Verify,
    Reputation,
    Quarantine,
    Lift,
    Events,
)


def parse_request(method: str, params: Any) -> Request:
    """From the control socket. Raises ConfigError."""
    for kind in REQUESTS:
        if kind.method == method:
            try:
                return msgspec.convert(params, kind)
            except msgspec.ValidationError as e:
                raise ConfigError(f"{method}: {e}", name="params") from None
    known = ", ".join(kind.method for kind in REQUESTS)
    raise ConfigError(f"no method {method!r}; use one of: {known}", name="method")


def bootstrap_entries(dht: SecureDHT) -> list[str]:
    """What others write into `bootstrap` to join through this node."""
    return [f"{dht.node_id.hex()}@{address}" for address in dht.env.addresses]


def event_kind(name: str | None) -> EventKind | None:
    """A kind of security event by its name. Raises ConfigError."""
    if name is None:
        return None
    try:
        return EventKind(name)
    except ValueError:
        raise ConfigError(
            f"no kind of event is named {name!r:.80}; there are {', '.join(EventKind)}", name="kind"
        ) from None


def _version() -> str:
    try:
        return version("pqdht")
    except PackageNotFoundError:  # run from a checkout
        return "unknown"


def valid_until(born: int) -> str:
    """The last day (UTC, ISO 8601) on which others accept a node id born on day `born`."""
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=born + BORN_MAX_AGE_DAYS)).isoformat()


def unusual_modes(dht: SecureDHT) -> dict[str, str]:
    """The defences whose mode is not the usual one."""
    modes = dht.config.defences
    assert isinstance(modes, Mapping)
    return {name: mode for name, mode in modes.items() if mode != DEFENCES[name]}


def announced(dht: SecureDHT) -> list[str]:
    """The endpoints this node keeps published for its owner; also those of an earlier run."""
    env = dht.env
    key = peer_locator(dht.owner_id).key()
    blob = env.store.load_state(f"{STATE}{key.hex()}/{dht.owner_id.hex()}")
    try:
        journal = decode_journal(blob or b"")
        return list(PeerRecord.decode(env.records.parse(journal.record).value).endpoints)
    except (DecodeError, RecordInvalid):
        return []


def _stored(record: StoredRecord) -> dict[str, Any]:
    return {
        "key": record.key.hex(),
        "owner": record.owner.hex(),
        "record_id": record.record_id.hex(),
        "kind": record.kind,
        "timestamp": record.timestamp,
        "expires": record.expires,
        "size": record.size,
    }


def _held(held: Held) -> dict[str, Any]:
    return {
        "node": held.node.hex(),
        "reason": held.reason,
        "since": round(held.since * MS),
        "until": round(held.until * MS),
        "times": held.times,
        "on_probation": held.is_on_probation,
    }


def _from_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise ConfigError(f"{what} must be hex digits", name=what) from None
