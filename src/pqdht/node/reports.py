"""Proofs of offences and praise: what this node tells others of its peers, and what it takes from them.

A proof is our own once it was recomputed here, whoever brought it; so a reporter need not be believed, and
is not.  It travels on only where it is new, and once, so that no report becomes a storm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from ..channel.hello import PeerHello
from ..constants import MAX_MESSAGE, MAX_PRAISED
from ..errors import BadPuzzle, Closed, DecodeError, EvidenceInvalid, RemoteError, WireCode
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..trust.admission import CostLimiter
from ..trust.events import EventKind
from ..trust.evidence import EvidenceRule, Proof, claimed_offender, collect, judge
from ..trust.modes import Mode
from ..wire.codec import encode
from ..wire.contact import Contact
from ..wire.messages import Error, Evidence, Report, Reported, WireRecord
from .connection import Connection
from .environment import Environment
from .exchange import Reply
from .guard import Guard
from .handlers import ENVELOPE_ROOM
from .keyring import Recent
from .peers import Peers
from .routing import Routing

TOLD = 8
"""Peers told of a proof: of our table those closest to the offender, who would ask it soonest."""
PROOFS_AT_ONCE = 8.0
"""Proofs sent at once, ..."""
PROOFS_PER_S = 0.1
"""... and a second after that: a hoard of ids that prove their own faults shall not make us talk."""
KNOWN = 4096
"""Proofs remembered, by offender and rule."""
PRAISE_S = 3600.0
PRAISE_TO = 4
"""Peers praised to in an hour."""
PRAISE_FROM = 0.6
"""Scores over this take valid data: liveness alone does not reach it."""


class Reports:
    """One per node; `Guard.accuse` is its way in from where offences are seen."""

    def __init__(self, env: Environment, peers: Peers, routing: Routing, guard: Guard) -> None:
        self._env = env
        self._peers = peers
        self._routing = routing
        self._guard = guard
        self._mode = env.mode("reports")
        self._known: Recent[tuple[NodeId, int], None] = Recent(KNOWN)
        self._praised_by: Recent[NodeId, float] = Recent(KNOWN)
        self._pace = CostLimiter(PROOFS_PER_S, PROOFS_AT_ONCE)
        self._tasks: dict[asyncio.Task[None], None] = {}
        guard.accuse = self.accuse

    # --- what we saw ourselves -----------------------------------------------------------------

    def accuse(
        self, peer: PeerHello, envelope: bytes, request: bytes, item: WireRecord | Contact | None = None
    ) -> None:
        """A signed envelope of a peer looks like an offence: if it proves one, hold it against the peer and
        tell others.  `item`: the record or contact that is wrong, None where the body cannot be read."""
        if self._mode is Mode.OFF:
            return
        for rule in _RULES[type(item)]:
            if (peer.node_id, int(rule)) in self._known:
                return
            try:
                evidence = collect(
                    rule, peer.contact, peer.signing_key, envelope, request, item, self._env.messages
                )
                proof = self._judge(evidence)
            except (EvidenceInvalid, DecodeError):
                continue
            self._take(proof, None)
            return
        self._env.counters["offences_unproven"] += 1

    def _judge(self, evidence: Evidence) -> Proof:
        self._env.counters["evidence_judged"] += 1
        return judge(evidence, self._env.suite, self._env.network_tag, self._env.messages)

    def _take(self, proof: Proof, by: NodeId | None) -> None:
        """A proof that is new to us."""
        self._known.set((proof.offender, int(proof.rule)), None)
        if proof.offender == self._env.identity.node_id:
            # A fault of this program: nobody can make us sign such a thing, or so we hold.
            self._env.counters["proofs_against_ourselves"] += 1
            self._guard.report(EventKind.PROVEN_FAULT, "reports", proof.offender, rule=proof.rule.name)
            return
        self._env.counters["proofs_taken"] += 1
        self._guard.proven(proof.offender, proof.rule.name, by)
        self._tell(proof, by)

    # --- telling others ------------------------------------------------------------------------

    def _tell(self, proof: Proof, by: NodeId | None) -> None:
        if self._mode is not Mode.ENFORCE:
            return
        report = Report(proof.evidence)
        if len(encode(report)) > MAX_MESSAGE - ENVELOPE_ROOM:
            self._env.counters["proofs_too_long_to_tell"] += 1
            return
        if self._pace.spend(b"", 1.0, asyncio.get_running_loop().time()):
            self._env.counters["proofs_not_told"] += 1
            return
        told = [
            e.contact
            for e in self._routing.closest(proof.offender, TOLD + 2)
            if e.node_id not in (proof.offender, by)
        ][:TOLD]
        self._guard.report(
            EventKind.REPORT_SENT, "reports", proof.offender, rule=proof.rule.name, told=len(told)
        )
        for contact in told:
            self._spawn(self._send(contact, report))

    async def _send(self, to: VerifiedContact, report: Report) -> None:
        try:
            await self._peers.request(to, report, self._env.config.request_timeout_s)
        except (RemoteError, Closed):
            return
        self._env.counters["reports_sent"] += 1

    def start(self) -> None:
        """Begin to praise, once an hour."""
        self._spawn(self._praise_forever())

    async def _praise_forever(self) -> None:
        # From the id, not from the dice: nodes started together still speak at different times.
        await asyncio.sleep(PRAISE_S * (1.0 + self._env.identity.node_id[0] / 512))
        while True:
            await self.praise()
            await asyncio.sleep(PRAISE_S)

    async def praise(self) -> None:
        """Tell a few peers whom we have had valid data from."""
        if self._mode is not Mode.ENFORCE or self._env.mode("reputation") is not Mode.ENFORCE:
            return  # scores that are only observed are not acted on
        best = [n for n in (NodeId(e.node_id) for e in self._routing.table) if self._is_good(n)]
        if not best:
            return
        best.sort(key=lambda n: (-self._guard.score(n), n))
        others = [e.contact for e in self._routing.table if e.node_id not in self._guard.held]
        told = self._env.dice.sample(others, min(PRAISE_TO, len(others)))
        await asyncio.gather(*(self._send(c, Report(None, tuple(best[:MAX_PRAISED]))) for c in told))

    def _is_good(self, node: NodeId) -> bool:
        return self._guard.score(node) > PRAISE_FROM and node not in self._guard.held

    # --- what others say -----------------------------------------------------------------------

    def serve(self, conn: Connection, body: Report, reply: Reply) -> None:
        """Answer one REPORT; `reply` is called once."""
        if self._mode is Mode.OFF or conn.peer is None:
            reply(Error(int(WireCode.UNSUPPORTED), 0, self._env.clock()))
        elif body.evidence is not None:
            reply(Reported(int(self._on_evidence(conn, conn.peer.node_id, body.evidence))))
        else:
            reply(Reported(int(self._on_praise(conn.peer.node_id, body.praised))))

    def _on_evidence(self, conn: Connection, by: NodeId, evidence: Evidence) -> WireCode:
        offender = claimed_offender(evidence, self._env.network_tag)
        if (offender, evidence.rule) in self._known:
            return WireCode.OK
        try:
            self._env.contacts.check_cheap(evidence.contact, self._env.clock())
            proof = self._judge(evidence)
        except EvidenceInvalid as e:
            self._env.counters["reports_refused"] += 1
            if e.reason == "unsupported":
                return WireCode.UNSUPPORTED
            self._guard.slandered(by, conn.group, e)
            return WireCode.BAD_RECORD
        except (BadPuzzle, DecodeError):  # clocks and puzzles may differ: nobody's fault
            return WireCode.EXPIRED
        self._guard.report(EventKind.REPORT_RECEIVED, "reports", by, conn.group, rule=proof.rule.name)
        self._take(proof, by)
        return WireCode.OK

    def _on_praise(self, by: NodeId, praised: tuple[bytes, ...]) -> WireCode:
        """Once an hour of each sender; nobody praises itself."""
        now = asyncio.get_running_loop().time()
        last = self._praised_by.get(by)
        if last is not None and now - last < 0.75 * PRAISE_S:
            return WireCode.BUSY
        self._praised_by.set(by, now)
        for node in dict.fromkeys(praised):
            if node not in (by, self._env.identity.node_id):
                self._guard.praised(NodeId(node), by)
        return WireCode.OK

    # --- the end -------------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda t: self._tasks.pop(t, None))

    async def close(self) -> None:
        """Say no more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


_RULES: dict[type, tuple[EvidenceRule, ...]] = {
    WireRecord: (EvidenceRule.WRONG_KEY, EvidenceRule.BAD_RECORD_SIGNATURE),
    Contact: (EvidenceRule.FALSE_DIGEST,),
    type(None): (EvidenceRule.MALFORMED_BODY,),
}
