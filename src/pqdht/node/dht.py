"""`SecureDHT`: the whole node behind one async context manager.

    get -> Reader -> Lookups -> Peers.request -> Connection -> Session -> Link

is the way from here to the wire.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..config import Config, Consistency
from ..constants import DAY_S
from ..errors import (
    Closed,
    ConfigError,
    DecodeError,
    NotBootstrapped,
    NotConfirmed,
    NotFound,
    PqdhtError,
    RecordInvalid,
    RemoteError,
)
from ..identity.contact import VerifiedContact
from ..identity.keys import OwnerIdentity
from ..ids import NodeId, OwnerId, parse_id, parse_owner_id
from ..peer_record import PeerRecord, parse_wireguard_key, peer_locator
from ..records import TOMBSTONE, Locator, Named, Record, Topic
from ..trust.events import SecurityEvent
from ..trust.quarantine import Held
from ..wire.address import Address
from ..wire.messages import Body, Ping, Report, WireRecord
from . import arguments
from .compose import compose, own_address
from .connection import Connection
from .entrance import Entrance
from .environment import Environment, Parts, split_bootstrap
from .exchange import Reply
from .gathering import Gathering
from .guard import Guard
from .handlers import Handlers
from .keeper import Keeper
from .lookups import Lookups
from .maintenance import Maintenance
from .peers import Peers
from .publisher import Publisher
from .reader import Reader
from .reports import Reports
from .results import GetResult, NodeInfo, PeerInfo, PutResult
from .routing import Routing
from .status import facts

INBOUND_CHECKS = 64
"""Callers asked for an answer at a time; more wait for their next session."""
BATCH = 128
"""Operations of one put_many or get_many under way at a time: what they ask of one peer at once travels
as one message."""


class SecureDHT:
    """A node of the network.

        async with SecureDHT(Config(network="testnet", bootstrap=("<id>@tcp/192.0.2.1:4733",))) as dht:
            await dht.put("greeting", b"hello")
            print((await dht.get("greeting")).value)

    Every method raises a subclass of `PqdhtError` whose text names the remedy.
    """

    def __init__(self, config: Config | None = None, parts: Parts | None = None) -> None:
        self.config = config if config is not None else Config()
        self._parts = parts if parts is not None else Parts()
        self._env: Environment | None = None
        self._changing = asyncio.Lock()
        """Held by start and close, so that neither overtakes the other."""
        self._joining: asyncio.Task[None] | None = None
        self._pings: dict[asyncio.Task[None], None] = {}

    # --- life ----------------------------------------------------------------------------------

    async def __aenter__(self) -> SecureDHT:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Load or make the identities, open the store, listen, and begin to join.

        Does nothing while it runs; after `close` it starts anew, with the identities of `data_dir`.
        Raises ConfigError, KeyFileError, StorageError, ListenError, ProviderUnavailable.
        """
        async with self._changing:
            if self._env is None:
                await self._start()

    async def _start(self) -> None:
        env = await compose(self.config, self._parts)
        try:
            self._env = env
            self._guard = guard = Guard(env)
            self._peers = Peers(env, self, guard)
            self._routing = Routing(env, guard)
            self._reports = Reports(env, self._peers, self._routing, guard)
            self._keeper = Keeper(env)
            self._handlers = Handlers(env, self._routing, self._keeper)
            gathering = Gathering(self._peers)
            self._lookups = Lookups(env, self._peers, gathering, self._routing, guard)
            self._reader = Reader(env, self._peers, self._keeper, self._lookups, guard)
            self._publisher = Publisher(env, gathering, self._routing, self._keeper, self._lookups, guard)
            self._maintenance = Maintenance(
                env, self._peers, self._routing, self._keeper, self._lookups, self._publisher, guard
            )
            self._entrance = Entrance(env, self._peers, self._routing, self._lookups, guard)
            self._routing.on_added = self._maintenance.hand_over_to
            await self._listen(env)
            guard.load()
            self._publisher.load()
        except BaseException:
            await self._close_parts(env)
            self._env = None
            raise
        self._peers.start()
        self._maintenance.start()
        self._reports.start()
        self._joining = asyncio.get_running_loop().create_task(self._entrance.join())

    async def _listen(self, env: Environment) -> None:
        bound: list[Address] = []
        for text in self.config.listen:
            address = own_address(text)
            if address.scheme not in env.transports:
                raise ConfigError(f"no transport for {text!r}", name="listen")
            bound.append(await self._peers.listen(address))
        advertise = self.config.advertise or tuple(
            str(a) for a in bound if a.ip is not None and not a.ip.is_unspecified
        )
        for text in advertise:
            if own_address(text).ip is None:
                raise ConfigError(f"advertise {text!r}: others are told IP addresses only", name="advertise")
        env.addresses = advertise
        self._peers.set_addresses(advertise)

    async def close(self) -> None:
        """Finish what is under way, say goodbye, close the store. Safe to call twice."""
        async with self._changing:
            env, self._env = self._env, None
            if env is not None:
                await self._close(env)

    async def _close(self, env: Environment) -> None:
        tasks = [t for t in (self._joining, *self._pings) if t is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._maintenance.close()
        await self._lookups.close()
        await self._publisher.close()
        await self._reports.close()
        await self._handlers.close()
        try:
            await self._routing.save()
            await self._guard.save()
        except PqdhtError:
            env.counters["contacts_not_saved"] += 1
        await self._close_parts(env)

    async def _close_parts(self, env: Environment) -> None:
        if self._env is not None or hasattr(self, "_peers"):
            await self._peers.close()
            self._guard.close()
        await env.store.close()

    @property
    def env(self) -> Environment:
        """The running node's parts. Raises Closed before start and after close."""
        if self._env is None:
            raise Closed("this SecureDHT is not running; use `async with SecureDHT(...) as dht`")
        return self._env

    # --- joining -------------------------------------------------------------------------------

    async def bootstrapped(self, timeout_s: float | None = None) -> None:
        """Wait until the node has peers.  With no `bootstrap` it is the first node of its network: returns
        at once, peers or not.  Raises NotBootstrapped after `timeout_s`.
        """
        _ = self.env
        try:
            async with asyncio.timeout(None if timeout_s is None else arguments.timeout(timeout_s, 0)):
                await self._entrance.is_open.wait()
        except TimeoutError:
            raise NotBootstrapped(
                f"no peer answered within {timeout_s} s; check the bootstrap entries, the network name"
                " and the firewall",
                bootstrap=list(self.config.bootstrap),
            ) from None

    # --- Listener: what Peers tells us -----------------------------------------------------------

    def peer_proven(self, conn: Connection) -> None:
        """An outbound peer answered; an inbound one is asked for an answer before it may enter."""
        try:
            if conn.outbound:
                self._routing.answered(conn)
                return
            contact = self._routing.contact_of(conn)
        except RemoteError as e:
            conn.fail(e)
            return
        wanted = contact.addresses and contact.node_id not in self._routing.table
        # Else the answer would only make it a candidate, and those come from our own walks and dials alone.
        wanted = wanted and self._routing.has_room(conn)
        if wanted and len(self._pings) < INBOUND_CHECKS:
            task = asyncio.get_running_loop().create_task(self._check_inbound(conn))
            self._pings[task] = None
            task.add_done_callback(lambda t: self._pings.pop(t, None))

    async def _check_inbound(self, conn: Connection) -> None:
        """Over its own session only: a caller must not make us dial the addresses it names."""
        try:
            answer = await self._peers.request_over(conn, Ping())
            self._routing.answered(conn, answer.rtt_s)
        except PqdhtError:
            self._peers.env.counters["inbound_checks_failed"] += 1

    def peer_heard(self, conn: Connection) -> None:
        assert conn.peer is not None
        self._routing.heard(conn.peer.node_id)

    def peer_failed(self, contact: VerifiedContact, error: RemoteError) -> None:
        self._routing.failed(contact, error)

    def is_wanted(self, node_id: NodeId) -> bool:
        return self._routing.table.get(node_id) is not None

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        if isinstance(body, Report):
            self._reports.serve(conn, body, reply)
        else:
            self._handlers.serve(conn, body, reply)

    # --- values --------------------------------------------------------------------------------

    @property
    def node_id(self) -> NodeId:
        """This node's place in the DHT."""
        return self.env.identity.node_id

    @property
    def owner_id(self) -> OwnerId:
        """Who signs this node's values by default."""
        return self.env.owner.owner_id

    @property
    def bootstrap_entry(self) -> str:
        """What others put into `Config.bootstrap` to join through this node. Raises ConfigError."""
        if not self.env.addresses:
            raise ConfigError("this node has no address others could use; set `advertise`", name="advertise")
        return f"{self.node_id.hex()}@{self.env.addresses[0]}"

    def named(self, name: str, owner: bytes | str | None = None) -> Named:
        """The locator of an owner's value called `name`; our own by default."""
        return Named(self.owner_id if owner is None else parse_owner_id(owner), name)

    async def put(
        self,
        where: str | Locator,
        value: bytes,
        *,
        ttl: int = DAY_S,
        owner: OwnerIdentity | None = None,
        previous: bytes | str | None = None,
    ) -> PutResult:
        """Sign `value` and store it at the k closest nodes; returns with their signed receipts.

        `where`: a name of ours, or `Named`, `Topic` or `Content`.  `ttl` seconds, 60 to 604,800.
        `previous`: a record id; storers that hold another one refuse (compare-and-set, best effort).
        Raises QuorumNotReached (queued and retried), Refused, NotBootstrapped, ConfigError.
        """
        signer = arguments.signer(owner, self.env.owner)
        return await self._publisher.put(
            arguments.place(where, signer.owner_id),
            value,
            owner=signer,
            ttl_s=arguments.ttl(ttl, self.env.params.limits),
            previous=arguments.record_id(previous),
        )

    async def get(
        self,
        where: str | Locator,
        *,
        owner: bytes | str | None = None,
        consistency: Consistency | None = None,
        ignore_local: bool = False,
        thorough: bool = False,
        timeout: float | None = None,
    ) -> GetResult:
        """Fetch a value and the evidence for it.

        `where`: a name (of `owner`, ours by default), or `Named` or `Content`; for a `Topic` give the
        `owner` too, or use `get_topic`.  `ignore_local` leaves our own store out.  `timeout`: seconds.
        Raises NotFound, NotConfirmed (carries the result), NotBootstrapped (nobody answered), ConfigError.
        """
        locator, whose = arguments.source(where, owner, self.owner_id)
        return await self._reader.get(
            locator,
            owner=whose,
            consistency=arguments.consistency(consistency, self.config.consistency),
            ignore_local=ignore_local,
            thorough=thorough,
            timeout_s=arguments.timeout(timeout, self.config.lookup_timeout_s),
        )

    async def get_topic(
        self, name: str, *, ignore_local: bool = False, timeout: float | None = None
    ) -> list[GetResult]:
        """Everybody's value under a topic, each with its own verdict; [] where nobody has one.

        Raises NotBootstrapped (nobody answered), ConfigError.
        """
        _ = self.env
        limit = arguments.timeout(timeout, self.config.lookup_timeout_s)
        return await self._reader.get_all(Topic(name), ignore_local=ignore_local, timeout_s=limit)

    async def put_many(
        self, values: Mapping[str | Locator, bytes], *, ttl: int = DAY_S
    ) -> dict[str | Locator, PutResult | PqdhtError]:
        """Many PUTs; each key maps to its result or to the error it raised."""
        wheres = arguments.places(arguments.mapping(values))
        return await self._many({w: self.put(w, values[w], ttl=ttl) for w in wheres})

    async def get_many(
        self, wheres: Iterable[str | Locator], *, consistency: Consistency | None = None
    ) -> dict[str | Locator, GetResult | PqdhtError]:
        """Many GETs; each key maps to its result or to the error it raised."""
        return await self._many({w: self.get(w, consistency=consistency) for w in arguments.places(wheres)})

    async def _many(self, work: dict[str | Locator, Any]) -> dict[str | Locator, Any]:
        slots = asyncio.Semaphore(BATCH)

        async def one(awaitable: Any) -> Any:
            async with slots:
                try:
                    return await awaitable
                except PqdhtError as e:
                    return e

        return dict(zip(work, await asyncio.gather(*map(one, work.values())), strict=True))

    async def delete(self, where: str | Locator, *, owner: OwnerIdentity | None = None) -> PutResult:
        """Replace our value by a tombstone, which outlives every copy of it (7 days)."""
        signer = arguments.signer(owner, self.env.owner)
        locator = arguments.place(where, signer.owner_id)
        ttl = self.env.params.limits.ttl_max_s
        return await self._publisher.put(locator, b"", owner=signer, ttl_s=ttl, flags=TOMBSTONE)

    def validate(self, record: WireRecord) -> Record:
        """Every check a storer makes, signatures included. Raises RecordInvalid."""
        env = self.env
        parsed = env.records.parse(arguments.wire_record(record))
        env.records.check_time(parsed, env.clock())
        env.records.verify(parsed)
        return parsed

    # --- defences ------------------------------------------------------------------------------

    async def verify(self, where: str | Locator, *, owner: bytes | str | None = None) -> GetResult:
        """Cross-verify a value: all of the k closest are asked, our own copy left out, doubts cleared up.

        Returns the result whatever its verdict; `dissent` and `evidence` say who said what.
        Raises NotBootstrapped (nobody answered), ConfigError.
        """
        try:
            return await self.get(where, owner=owner, consistency="all", ignore_local=True, thorough=True)
        except (NotFound, NotConfirmed) as e:
            result: GetResult = e.result
            return result

    def reputation(self, node: bytes | str) -> float:
        """What this node thinks of another: 0.0 to 1.0, 0.5 where it knows nothing."""
        _ = self.env
        return self._guard.score(parse_id(node, "node id"))

    def quarantined(self) -> list[Held]:
        """Who is left out of lookups, replica sets and answers for a time, and why; by node id."""
        _ = self.env
        return self._guard.quarantined()

    def lift(self, node: bytes | str) -> bool:
        """Let a node out of quarantine; False where it was not in it."""
        _ = self.env
        return self._guard.lift(NodeId(parse_id(node, "node id")))

    def anomalies(self) -> list[SecurityEvent]:
        """The latest security events, oldest first."""
        _ = self.env
        return self._guard.events.recent()

    def subscribe(self, tell: Callable[[SecurityEvent], None]) -> Callable[[], None]:
        """Call `tell` at every security event from now on, until the result is called.

        It runs on the event loop and must not block; what it raises is counted and dropped.
        """
        _ = self.env
        return self._guard.subscribe(tell)

    # --- peers ---------------------------------------------------------------------------------

    async def announce(
        self,
        endpoints: Iterable[str],
        *,
        wireguard_key: bytes | str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> PutResult:
        """Publish where we are (our peer record), and keep it published while this node runs.

        `endpoints`: one or more `host:port` or `[v6]:port`; `wireguard_key`: the public key, 32 bytes or
        as `wg` prints it.  Raises what `put` raises.
        """
        record = PeerRecord(
            arguments.endpoints(endpoints),
            parse_wireguard_key(wireguard_key) if wireguard_key is not None else None,
            arguments.attributes(attributes),
            self.node_id,
        )
        return await self._publisher.put(
            peer_locator(self.owner_id),
            record.encode(),
            owner=self.env.owner,
            ttl_s=self.config.announce_ttl_s,
            renew=True,
        )

    async def find_peer(
        self, owner: bytes | str, *, ignore_local: bool = False, consistency: Consistency | None = None
    ) -> PeerInfo:
        """Where an owner's peer is. Raises what `get` raises, and RecordInvalid (not a peer record)."""
        where = peer_locator(parse_owner_id(owner))
        result = await self.get(where, ignore_local=ignore_local, consistency=consistency)
        try:
            record = PeerRecord.decode(result.value or b"")
        except DecodeError as e:
            raise RecordInvalid(f"the owner's peer record cannot be read: {e}") from None
        return PeerInfo(
            owner=where.owner,
            node_id=record.node_id,
            endpoints=record.endpoints,
            wireguard_key=record.wireguard_key,
            attributes=record.attributes,
            result=result,
        )

    async def find_node(self, target: bytes | str) -> list[NodeInfo]:
        """The k closest live nodes to an id, each of which answered us. Raises NotBootstrapped."""
        _ = self.env
        walk = await self._lookups.find(parse_id(target, "target"), end=self.config.path_end)
        return [
            self._info(c.node_id, c.contact, walk.answers[c.node_id].group)
            for c in walk.lookup.closest(self.env.params.k)
        ]

    async def ping(self, node: bytes | str) -> float:
        """Round trip in seconds to a node id, or to `<node id>@tcp/host:port`. Raises PeerUnreachable."""
        _ = self.env
        if isinstance(node, str) and "@" in node:
            contact = await self._entrance.reach(*split_bootstrap(node))
        else:
            contact = await self._find_contact(NodeId(parse_id(node, "node id")))
        return (await self._peers.request(contact, Ping())).rtt_s

    async def _find_contact(self, node_id: NodeId) -> VerifiedContact:
        entry = self._routing.table.get(node_id)
        if entry is not None:
            return entry.contact
        walk = await self._lookups.find(node_id, end=self.config.path_end)
        for c in walk.lookup.closest(1):
            if c.node_id == node_id:
                return c.contact
        raise NotBootstrapped(f"no node {node_id.hex()} answered", node=node_id.hex())

    def peers(self) -> list[NodeInfo]:
        """The routing table, by node id."""
        _ = self.env
        return [self._info(e.node_id, e.contact, e.group) for e in self._routing.table]

    def _info(self, node_id: bytes, contact: VerifiedContact, group: str) -> NodeInfo:
        rtt_s = self._peers.round_trips.rtt(node_id)
        return NodeInfo(NodeId(node_id), contact.addresses, group, rtt_s, self._guard.score(node_id))

    def status(self) -> dict[str, Any]:
        """Facts about this node, JSON-friendly; `counters` says what really happened so far."""
        return facts(self.env, self._peers, self._routing, self._entrance, self._guard)
