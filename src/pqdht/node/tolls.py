"""What peers may ask of us: buckets per node id and per address group, apart for each class of work.

A flood of one class leaves the buckets of the others full, so reads go on while somebody floods with
STOREs.  Costs are units of about one signature check; a stake makes a node id's own buckets larger, never
those of its address group.  Who is refused is an event (`guard.report`), whose rate the event log bounds.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import TYPE_CHECKING

from ..identity.stake import share
from ..ids import NodeId
from ..trust.admission import CostLimiter, Subject
from ..trust.events import EventKind
from ..trust.modes import Mode
from ..wire.messages import MessageType
from .environment import Environment
from .guard import Guard

if TYPE_CHECKING:
    from .connection import Connection

COSTS: dict[int, tuple[float, float]] = {
    MessageType.FIND_NODE: (1.5, 0.0),
    MessageType.FIND_VALUE: (2.0, 0.0),
    MessageType.FIND_VALUES: (1.5, 8.0),
    MessageType.STORE: (4.0, 0.5),
    MessageType.REPORT: (16.0, 0.0),
}
"""CPU-cost units of a request and of each KiB of its body: about one signature check each.  FIND_VALUES asks
10 times in a KiB at most; a record, which is checked and committed, has about 7.5."""
OTHER_COST = (1.0, 0.0)
HANDSHAKE_COST = 4.0
STAKE_COST = 2.0
"""One more Argon2id run, where a stake was not seen before."""


class Work(StrEnum):
    """The classes."""

    READ = "read"
    WRITE = "write"
    EVIDENCE = "evidence"
    HANDSHAKE = "handshake"
    """Of address groups only: no node id is proven yet."""


CLASSES: dict[int, Work] = {MessageType.STORE: Work.WRITE, MessageType.REPORT: Work.EVIDENCE}
"""What is not named is a read."""
SHARES: dict[Work, float] = {Work.READ: 1.0, Work.WRITE: 0.5, Work.EVIDENCE: 1 / 16, Work.HANDSHAKE: 0.5}
"""Of `Limits.request_cost_*` and `group_cost_*`, rate and burst.  All classes at once come to about twice
one; larger shares are room for honest crowds and for floods alike."""


class Tolls:
    """One per node."""

    def __init__(self, env: Environment, guard: Guard) -> None:
        limits, mode = env.params.limits, env.mode("rate_limits")
        per_group = mode if env.params.address_groups else Mode.OFF
        self._env, self._guard = env, guard
        self._by_node: dict[Work, CostLimiter] = {
            work: CostLimiter(limits.request_cost_per_s * part, limits.request_cost_burst * part, mode=mode)
            for work, part in SHARES.items()
            if work is not Work.HANDSHAKE
        }
        self._by_group = {
            work: CostLimiter(limits.group_cost_per_s * part, limits.group_cost_burst * part, mode=per_group)
            for work, part in SHARES.items()
        }

    def link(self, group: str) -> bool:
        """Whether a caller may have a handshake."""
        return not self._spend(Work.HANDSHAKE, "", group, None, HANDSHAKE_COST)

    def renewal(self, group: str) -> float:
        """Seconds to wait after a renewal of keys, which is always served."""
        return self._spend(Work.HANDSHAKE, "", group, None, HANDSHAKE_COST / 2)

    def request(self, conn: Connection, message_type: int, size: int) -> float:
        """0.0 where a request of so many bytes is within its sender's allowance, else seconds to wait."""
        base, per_kib = COSTS.get(message_type, OTHER_COST)
        cost = base + per_kib * size / 1024
        work = CLASSES.get(message_type, Work.READ)
        if conn.peer is None:
            return self._spend(work, "", conn.group, None, cost)
        contacts = self._env.contacts
        runs = contacts.argon2_runs
        part = share(contacts.stake_bits(conn.peer.node_id, conn.peer.contact.stake, self._env.clock()))
        cost += STAKE_COST * (contacts.argon2_runs - runs)
        # The node first: what it is refused must not be taken from its neighbours' group.
        node = conn.peer.node_id
        return self._spend(work, node, conn.group, node, cost / part) or self._spend(
            work, "", conn.group, node, cost
        )

    def _spend(self, work: Work, node: bytes | str, group: str, who: NodeId | None, cost: float) -> float:
        """From the bucket of `node`, or of `group` where that is ''; `who`: whom an event is about."""
        limiter = self._by_node[work] if node else self._by_group[work]
        subject: Subject = node or group
        tally = limiter.tally
        before = tally.refused + tally.would_refuse
        wait = limiter.spend(subject, cost, asyncio.get_running_loop().time())
        if tally.refused + tally.would_refuse > before:
            limit = "node" if node else "group"
            self._guard.report(
                EventKind.RATE_LIMITED, "rate_limits", who, group, work=work.value, limit=limit, wait_s=wait
            )
        return wait
