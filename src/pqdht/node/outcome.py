"""What a GET ends in: a result with its evidence, or the error whose text says what to do."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from ..errors import LocalError, NotBootstrapped, NotConfirmed, NotFound
from ..ids import NodeId
from ..kad.quorum import Confirmation, Verdict
from ..records import Kind, Locator
from ..trust.events import EventKind
from .environment import Environment
from .guard import Guard
from .hunt import Hunt
from .results import Evidence, GetResult

SEEN_KEPT = 65_536
"""(key, owner) pairs whose newest timestamp is remembered, to notice a rollback."""

NOBODY_ANSWERED = "no peer answered; check `bootstrap` and the network, then try again"
NOBODY_KNOWN = (
    "no other node is known yet, so nobody could be asked; set `bootstrap`, or wait until others join"
)


class Outcomes:
    """Of every GET of one node; remembers the newest timestamps seen."""

    def __init__(self, env: Environment, guard: Guard) -> None:
        self._env = env
        self._guard = guard
        self._seen: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()

    def result(self, hunt: Hunt, slot: bytes, confirmation: Confirmation) -> GetResult:
        newest = confirmation.newest
        record = hunt.record(newest.record_id) if newest is not None else None
        verdict = confirmation.verdict
        rollback = self._rollback(hunt, slot, newest.timestamp if newest is not None else 0)
        if rollback and verdict in (Verdict.CONFIRMED, Verdict.FIRST):
            verdict = Verdict.CONTESTED
        if confirmation.equivocation:
            self._guard.report(EventKind.EQUIVOCATION, "confirmation", key=hunt.locator.key().hex())
        elif verdict is Verdict.CONTESTED:
            self._guard.report(EventKind.CONTESTED, "confirmation", key=hunt.locator.key().hex())
        walk = hunt.walk
        now = asyncio.get_running_loop().time()
        return GetResult(
            value=None if record is None or record.is_tombstone else record.value,
            owner=record.owner_id if record is not None else hunt.owner,
            verdict=verdict,
            record=record,
            confirmations=confirmation.confirmations,
            holders=confirmation.holding,
            responders=len(hunt.groups),
            dissent=tuple(map(NodeId, confirmation.dissent)),
            groups=len(set(hunt.groups.values())),
            paths=walk.lookup.paths_used if walk is not None else 0,
            queries=walk.queries if walk is not None else 0,
            repaired=len(hunt.receipts.get(slot, ())),
            rollback_from=rollback,
            time_s=now - hunt.started,
            bytes=walk.bytes if walk is not None else 0,
            evidence=self._evidence(hunt, slot),
        )

    def _evidence(self, hunt: Hunt, slot: bytes) -> tuple[Evidence, ...]:
        if hunt.walk is None:
            return ()
        found: list[Evidence] = []
        for answer in hunt.walk.answers.values():
            held = hunt.newest_of(answer.node_id, slot)
            path = hunt.paths.get(answer.node_id, 0)
            holds = held.record_id if held is not None else None
            score = self._guard.score(answer.node_id)
            found.append(
                Evidence(answer.node_id, answer.group, path, holds, answer.envelope, answer.request, score)
            )
        return tuple(found)

    def newest_seen(self, key: bytes, owner: bytes) -> int:
        """The newest timestamp (ms) that a GET of this owner's value gave here, 0 if none did."""
        return self._seen.get((bytes(key), bytes(owner)), 0)

    def _rollback(self, hunt: Hunt, slot: bytes, timestamp: int) -> int | None:
        """The newer timestamp seen earlier, where there is one; remembers the one seen now.

        A new version never expires before what it replaces, so an older one that comes back alone
        was kept back by somebody.
        """
        if hunt.locator.kind == Kind.CONTENT or not timestamp:
            return None
        entry = (bytes(hunt.locator.key()), slot)
        before = max(self._seen.get(entry, 0), hunt.floor)
        self._seen[entry] = max(before, timestamp)
        self._seen.move_to_end(entry)
        if len(self._seen) > SEEN_KEPT:
            self._seen.popitem(last=False)
        if before <= timestamp:
            return None
        self._env.counters["rollbacks_seen"] += 1
        self._guard.report(EventKind.ROLLBACK, "confirmation", key=hunt.locator.key().hex())
        return before

    def raise_unless_good(self, locator: Locator, result: GetResult) -> GetResult:
        """The result, or the error whose text says what to do."""
        self._env.counters[f"gets.{result.verdict.value}"] += 1
        good = (Verdict.CONFIRMED, Verdict.FIRST, Verdict.ALONE)
        error: LocalError | None = None
        nobody_answered = result.record is None and not result.responders
        if result.verdict is Verdict.NOT_BOOTSTRAPPED or nobody_answered:
            alone = result.verdict is Verdict.ALONE
            error = NotBootstrapped(NOBODY_KNOWN if alone else NOBODY_ANSWERED, result=result)
        elif result.record is None:
            error = NotFound(
                f"no valid record under {locator.key().hex()}: {result.responders} nodes in"
                f" {result.groups} address groups answered over {result.paths} paths",
                result=result,
            )
        elif result.verdict not in good:
            error = NotConfirmed(
                f"{result.confirmations} of {result.holders} holders confirm the newest version; the value"
                " is in `result` of this error, or ask again with thorough=True",
                result=result,
            )
        elif result.record.is_tombstone:
            error = NotFound("its owner deleted it", result=result, deleted_at=result.record.timestamp)
        if error is not None:
            raise error
        return result
