"""Two simulated networks under one attack, the same in all but their defences.

    siege = Siege(parse_attacks(["poison=0.3"]), nodes=32, seed=1)
    run(lambda: siege.watch(seconds=60, show=print))

The second is what a plain DHT is: every defence that has a mode is `off`, lookups take one path, the first
answer counts, and neither signatures of records nor puzzles are checked.  (With the modes off alone,
poisoning fails already: what must always hold has no mode.)  Writers, readers, keys and latencies come from
one seed, so a run is the same each time.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..config import THRESHOLDS
from ..constants import parameter_set
from ..errors import ConfigError, PqdhtError
from ..node.dht import SecureDHT
from ..trust.events import EventKind, SecurityEvent
from .adversaries import ADVERSARIES, Gang, Sleeper, TableSquatter, enlist
from .rollcall import median
from .testnet import Simulated, Testnet, entry_of

MIXED: dict[str, tuple[str, ...]] = {"poison": ("forger", "contact_liar")}
"""Attacks of several kinds of adversary, by turns."""
MOST = 0.8
"""Share of adversaries, so that there is somebody left to ask."""
PEACE_S = 5
"""Virtual seconds before the attack."""
READS = 3
"""GETs a second and network, beside one PUT."""
PATIENCE_S = 5.0
"""Virtual seconds that a reader waits."""
ACT_EVERY_S = 5
"""How often adversaries do what they do by themselves."""
SLEEP_S = 10
"""Virtual seconds that those who first gain trust behave."""
LATEST = 60
"""Reads of which the present success rate is told."""
ACCUSING = (EventKind.PROVEN_FAULT, EventKind.INVALID_DATA)


@dataclass(frozen=True, slots=True)
class Attack:
    """`share` of the nodes, 0 to 1, are adversaries of this name."""

    name: str
    share: float

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names in ADVERSARIES, by turns."""
        return MIXED.get(self.name, (self.name,))


def parse_attacks(texts: Iterable[str]) -> tuple[Attack, ...]:
    """Each `NAME=share`. Raises ConfigError."""
    attacks = tuple(map(_parse, texts))
    total = sum(a.share for a in attacks)
    if total > MOST + 1e-9:
        raise ConfigError(f"at most {MOST:g} of the nodes can attack, not {total:g}", name="attack")
    return attacks


def _parse(text: str) -> Attack:
    name, _, number = text.partition("=")
    if name not in ADVERSARIES and name not in MIXED:
        known = ", ".join(sorted(summaries()))
        raise ConfigError(
            f"no attack is named {name!r:.80}; there are {known} (`--attack help` says what each does)",
            name="attack",
        )
    if placed := [k for k in MIXED.get(name, (name,)) if ADVERSARIES[k].needs_place]:
        raise ConfigError(
            f"{placed[0]} is of ids ground for one key, which the nodes of a testnet are not: send"
            " region_colluder or denier instead, or see `make attack-report`",
            name="attack",
        )
    try:
        share = float(number)
    except ValueError:
        share = math.nan
    if not 0 < share < 1:
        raise ConfigError(
            f"an attack is NAME=share, share above 0 and at most {MOST:g}, such as {name}=0.3,"
            f" got {text!r:.80}",
            name="attack",
        )
    return Attack(name, share)


def summaries() -> dict[str, str]:
    """Every attack and what it does."""
    mixed = {name: " and ".join(kinds) + ", by turns" for name, kinds in MIXED.items()}
    return {name: kind.summary for name, kind in ADVERSARIES.items()} | mixed


def make_plain(node: SecureDHT) -> None:
    """Take from a running node what every pqdht node does: INSECURE, and the point of it."""
    records, contacts = node.env.records, node.env.contacts
    records.begin = lambda record: None  # type: ignore[method-assign]
    records.verify = lambda record: None  # type: ignore[method-assign]
    contacts.check_digest = lambda contact: None  # type: ignore[method-assign]


@dataclass(slots=True)
class Suspect:
    """One adversary, and how many honest nodes found out."""

    node: bytes
    kind: str
    accused: int = 0
    """Honest nodes that caught it with something false, or hold a proof."""
    proven: int = 0
    """Honest nodes that hold a proof that others can check, their own or a report's."""
    distrusted: int = 0
    """Honest nodes that pass it over: its score is under `distrust`."""
    held: int = 0
    """Honest nodes that hold it in quarantine."""


@dataclass
class Side:
    """One of the two networks, and how its readers fared since the attack began."""

    name: str
    net: Simulated
    gang: Gang
    kinds: dict[bytes, str] = field(default_factory=dict)
    """Adversaries by node id."""
    honest: list[SecureDHT] = field(default_factory=list)
    reads: Counter[str] = field(default_factory=Counter)
    """right, stale, forged, failed."""
    latest: deque[bool] = field(default_factory=lambda: deque(maxlen=LATEST))
    times: deque[float] = field(default_factory=lambda: deque(maxlen=LATEST))
    """Seconds of reads that ended right."""
    events: Counter[str] = field(default_factory=Counter)
    news: deque[tuple[float, SecurityEvent, bytes]] = field(default_factory=lambda: deque(maxlen=50))
    """(virtual seconds since `began`, event, the node that saw it) of what is worth a line."""
    began: float = 0.0
    """When the attack did, by the loop's clock."""
    accusers: dict[bytes, dict[bytes, bool]] = field(default_factory=dict)
    """Node -> honest nodes that caught it -> whether they hold a proof."""
    book: dict[bytes, tuple[set[bytes], set[bytes]]] = field(default_factory=dict)
    """Owner -> (values that are right now, those that once were)."""

    def watch(self, node: SecureDHT) -> None:
        """Hear what an honest node finds out."""
        loop, observer = asyncio.get_running_loop(), bytes(node.node_id)

        def tell(event: SecurityEvent) -> None:
            self.events[event.kind.value] += 1
            if event.node is not None and event.kind in ACCUSING:
                accusers, is_proof = self.accusers.setdefault(event.node, {}), event.kind is ACCUSING[0]
                if accusers.get(observer, False) >= is_proof and observer in accusers:
                    return  # old news
                accusers[observer] = is_proof
            if event.kind is not EventKind.ANOMALY:
                self.news.append((loop.time() - self.began, event, observer))

        node.subscribe(tell)

    async def put(self, node: SecureDHT, value: bytes) -> None:
        """One owner writes its next value."""
        right, past = self.book.setdefault(bytes(node.owner_id), (set(), set()))
        try:
            await node.put("where", value)
        except PqdhtError:
            right.add(value)  # it may be there or not
            return
        past |= right
        right.clear()
        right.add(value)

    async def get(self, node: SecureDHT, owner: SecureDHT) -> None:
        """One reader looks for one owner's value."""
        right, past = self.book[bytes(owner.owner_id)]
        time_s = 0.0
        try:
            found = await node.get("where", owner=owner.owner_id, ignore_local=True, timeout=PATIENCE_S)
        except PqdhtError:
            outcome = "failed"
        else:
            time_s, value = found.time_s, found.value
            outcome = "right" if value in right else "stale" if value in past else "forged"
        self.reads[outcome] += 1
        self.latest.append(outcome == "right")
        if outcome == "right":
            self.times.append(time_s)

    def suspects(self) -> list[Suspect]:
        """All adversaries, the best known first."""
        found = {node: Suspect(node, kind) for node, kind in self.kinds.items()}
        for node, accusers in self.accusers.items():
            if node in found:
                found[node].accused, found[node].proven = len(accusers), sum(accusers.values())
        for judge in self.honest:
            for held in judge.quarantined():
                if held.node in found:
                    found[held.node].held += 1
            for node, suspect in found.items():
                suspect.distrusted += judge.reputation(node) < THRESHOLDS["distrust"]
        return sorted(found.values(), key=lambda s: (-s.held, -s.accused, s.node))

    def wrongly_held(self) -> int:
        """Honest nodes that honest nodes hold in quarantine, counted once for each."""
        return sum(held.node not in self.kinds for judge in self.honest for held in judge.quarantined())

    def as_dict(self) -> dict[str, Any]:
        """The figures, JSON-friendly."""
        total = self.reads.total()
        return {
            "reads": total,
            **{outcome: self.reads[outcome] for outcome in ("right", "stale", "forged", "failed")},
            "success": round(self.reads["right"] / total, 4) if total else None,
            "success_lately": round(sum(self.latest) / len(self.latest), 4) if self.latest else None,
            "median_s": median(self.times),
            "honest_in_quarantine": self.wrongly_held(),
            "events": dict(sorted(self.events.items())),
        }


class Siege:
    """Both networks, `with` and `without`; `watch` is for `testing.loop.run`.  Raises ConfigError."""

    def __init__(self, attacks: Sequence[Attack], *, nodes: int, seed: int, network: str = "demo") -> None:
        parameter_set(network)
        self.attacks = tuple(attacks)
        self.nodes = nodes
        self.seed = seed
        self.seconds = 0
        """Virtual seconds of attack so far."""
        self.phase = "starting"
        self.is_stopped = False
        """Set it to end the run after the present second."""
        self.figures: dict[str, Any] | None = None
        """As `as_dict`, when the run ended or was interrupted; None before the attack."""
        self._dice = random.Random(f"siege {seed}")
        order = list(range(1, nodes))  # the first is whom all bootstrapped from
        self._dice.shuffle(order)
        self.roles: dict[int, str] = {}
        for attack in self.attacks:
            for turn in range(max(1, round(attack.share * nodes))):
                if len(order) < 2:
                    raise ConfigError(
                        f"{nodes} nodes are too few for this attack: the first and one more stay honest",
                        name="nodes",
                    )
                self.roles[order.pop()] = attack.kinds[turn % len(attack.kinds)]
        plain: dict[str, Any] = {"defences": "off", "paths": 1, "consistency": "first"}
        settings: tuple[tuple[str, dict[str, Any]], ...] = (("with", {}), ("without", plain))
        self.sides = tuple(
            Side(name, Testnet.simulated(nodes, seed, network=network, **more), Gang(seed=seed))
            for name, more in settings
        )

    async def watch(self, seconds: int, show: Callable[[Siege], None]) -> None:
        """Peace, then the attack for so many virtual seconds; `show` is called after each."""
        guarded, plain = self.sides
        try:
            for side in self.sides:
                show(self)
                await side.net.start()
                self._people(side)
                if self.is_stopped:
                    return
            for node in plain.honest:
                make_plain(node)
            self.phase = "peace: every owner publishes"
            for i in range(len(guarded.honest)):
                if self.is_stopped:
                    return
                await self._both(lambda s, i=i: s.put(s.honest[i], b"0"))  # type: ignore[misc]
                if i % 8 == 0:
                    show(self)
            for _ in range(PEACE_S):
                if not self.is_stopped:
                    await self._second(show)
            for side in self.sides:
                self._strike(side)
            self.phase = "under attack"
            for second in range(seconds):
                if self.is_stopped:
                    break
                if second == SLEEP_S:
                    self._wake()
                if second % ACT_EVERY_S == 0:
                    await self._both(lambda s: s.gang.act())
                self.seconds = second + 1
                await self._second(show)
            self.phase = "over"
        finally:
            if self.seconds:
                self.figures = self.as_dict()  # while the nodes can be asked
            await asyncio.gather(*(side.net.close() for side in self.sides))

    def _people(self, side: Side) -> None:
        nodes = side.net.nodes
        side.honest = [node for i, node in enumerate(nodes) if i not in self.roles]
        side.gang.victim = entry_of(side.honest[0])
        for node in side.honest:
            side.watch(node)

    def _strike(self, side: Side) -> None:
        side.reads.clear()
        side.latest.clear()
        side.times.clear()
        side.news.clear()
        side.began = asyncio.get_running_loop().time()
        for i, kind in self.roles.items():
            node = side.net.nodes[i]
            side.kinds[bytes(node.node_id)] = kind
            enlist(kind, [node], side.gang)

    def _wake(self) -> None:
        for side in self.sides:
            for member in side.gang.members.values():
                if isinstance(member, Sleeper):
                    member.wake()
                elif isinstance(member, TableSquatter):
                    member.strike()

    async def _second(self, show: Callable[[Siege], None]) -> None:
        """One owner writes, some read; the same ones in both networks."""
        loop = asyncio.get_running_loop()
        began, people, dice = loop.time(), range(len(self.sides[0].honest)), self._dice
        writer, value = dice.choice(people), b"%d" % dice.getrandbits(48)
        await self._both(lambda s: s.put(s.honest[writer], value))
        pairs = [dice.sample(people, 2) if len(people) > 1 else [0, 0] for _ in range(READS)]
        for reader, owner in pairs:
            await self._both(lambda s, r=reader, o=owner: s.get(s.honest[r], s.honest[o]))  # type: ignore[misc]
        show(self)
        await asyncio.sleep(max(0.0, began + 1 - loop.time()))

    async def _both(self, do: Callable[[Side], Any]) -> None:
        await asyncio.gather(*map(do, self.sides))

    def as_dict(self) -> dict[str, Any]:
        """The figures, JSON-friendly."""
        guarded, plain = self.sides
        return {
            "nodes": self.nodes,
            "malicious": len(self.roles),
            "attacks": {a.name: a.share for a in self.attacks},
            "seed": self.seed,
            "seconds": self.seconds,
            "with": guarded.as_dict(),
            "without": plain.as_dict(),
            "found_out": [
                {"node": s.node.hex(), "kind": s.kind, "accused": s.accused, "proven": s.proven,
                 "distrusted": s.distrusted, "held": s.held}
                for s in guarded.suspects()
            ],
        }  # fmt: skip
