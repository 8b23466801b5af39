"""What this node has seen others do, and what follows from it: rank, quarantine, events, alarms (section 7).

Observations come in from where they are made (`Peers`, `Lookups`, `Reader`); the objects of `trust` turn
them into scores and verdicts; who acts on a verdict asks here.  Nothing else connects the two, so this
file is where to look for how a liar might get an honest node thrown out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..channel.hello import PeerHello
from ..constants import MS
from ..errors import Closed, DecodeError, DialHeldBack, EvidenceInvalid, RemoteError, WireCode
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..storage.eventfile import EventFile
from ..trust.anomaly import Clocks, CloserAnswers, Figures, Referrals, ResponseTimes
from ..trust.events import Detail, EventKind, EventLog, SecurityEvent
from ..trust.modes import Mode
from ..trust.quarantine import FIRST_S, Held, Outcome, Quarantine, TableView
from ..trust.rates import InvalidRate
from ..trust.remembered import (
    decode_quarantine,
    decode_reputation,
    encode_quarantine,
    encode_reputation,
)
from ..trust.reputation import Deed, Reputation
from ..trust.reputation import Row as ReputationRow
from ..wire.contact import Contact
from ..wire.messages import WireRecord
from .environment import Environment, data_file

if TYPE_CHECKING:
    from .exchange import Answer
    from .lookups import Walk

REPUTATION = "trust/reputation"
QUARANTINE = "trust/quarantine"
EVENTS_FILE = "security.jsonl"
"""In the data directory."""

SUSPECTS_MOST = 4096
ROWS_AT_ONCE = 256
"""Scores written down in one turn of the event loop, about 1 ms."""
OTHERS_LEAST = 8
"""So many others must be left, or nobody is passed over."""

BLAMELESS = frozenset(
    (
        WireCode.EXPIRED,
        WireCode.CLOCK_SKEW,
        WireCode.UNSUPPORTED,
        WireCode.OUTDATED,
        WireCode.EQUIVOCATION,
        WireCode.TOO_LARGE,
    )
)
"""What is wrong with a record through time, a newer version, a limit of our release or its owner speaks
against no storer."""


Accuse = Callable[[PeerHello, bytes, bytes, WireRecord | Contact | None], None]
"""(who signed it, envelope, the question it answers or b"", the record or contact that is wrong)"""


class Guard:
    """One per node.  `table`: the routing table as quarantine needs to see it, set by `Routing`."""

    table: TableView
    network_size: Callable[[], float | None] = staticmethod(lambda: None)
    """The estimate of `Routing`."""

    accuse: Accuse = staticmethod(lambda *_: None)
    """Where proofs are made of offences: `Reports`."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self.events = EventLog()
        self.reputation = Reputation()
        self.quarantine = Quarantine(
            env.mode("quarantine"),
            table_share=env.threshold("quarantine.table_share"),
            bucket_share=env.threshold("quarantine.bucket_share"),
        )
        self.held: dict[bytes, None] = {}
        """Who is in quarantine: not asked, not passed on, not counted."""
        self._suspects: dict[bytes, float] = {}
        """Whoever gave wrong data in this run -> until when it is left out whatever its score, in seconds."""
        self._rates = InvalidRate(
            window=int(env.threshold("invalid_rate.window")),
            enough=int(env.threshold("invalid_rate.enough")),
            invalid=int(env.threshold("invalid_rate.invalid")),
        )
        self._times = ResponseTimes(env.threshold("response_time.z"))
        self._clocks = Clocks(env.threshold("clocks.z"))
        self._referrals = Referrals(share=env.threshold("referrals.share"))
        self._closer = CloserAnswers(env.threshold("closer_answers.chance"))
        self._distrust = env.threshold("distrust")
        path = data_file(env.config, EVENTS_FILE)
        self._file = None if path is None else EventFile(path)
        self._end_file = None if self._file is None else self.subscribe(self._file.write)
        self._ranks = env.mode("reputation") is Mode.ENFORCE
        self._ranks_referrals = env.mode("referrals") is Mode.ENFORCE

    def _now(self) -> float:
        return self._env.clock() / MS

    # --- verdicts ------------------------------------------------------------------------------

    def rank(self, node: bytes) -> float:
        """Higher first: the order of candidates that are about equally close."""
        if not self._ranks:
            return 0.0
        now = self._now()
        rank = self.reputation.rank(node, now)
        return rank * self.reputation.referral(node, now) if self._ranks_referrals else rank

    def weight(self, node: bytes) -> float:
        """What a node's word counts where two versions of a record are tied."""
        return self.reputation.score(node, self._now()) if self._ranks else 1.0

    def score(self, node: bytes) -> float:
        """What is thought of a node: 0.0 to 1.0, 0.5 where nothing is known."""
        return self.reputation.score(node, self._now())

    def left_out(self, nodes: Collection[bytes]) -> Collection[bytes]:
        """Of these, who is not to store and not to be counted: in quarantine, or known for wrong data."""
        if not self._suspects:
            return self.held
        bad = [n for n in nodes if n in self._suspects and n not in self.held and self._is_distrusted(n)]
        others = sum(n not in self.held for n in nodes) - len(bad)
        return self.held | dict.fromkeys(bad) if bad and others >= OTHERS_LEAST else self.held

    def may_enter(self, node: bytes) -> bool:
        """Whether a node may have a place in the table: not in quarantine, not known for wrong data."""
        return node not in self.held and not (node in self._suspects and self._is_distrusted(node))

    def _is_distrusted(self, node: bytes) -> bool:
        left_s = self._suspects[node] - self._now()
        # The clock may have gone back: nobody waits for longer than was meant.
        if 0 < left_s <= FIRST_S or (self._ranks and self.score(node) < self._distrust):
            return True
        del self._suspects[node]  # time has passed, and nothing more was found
        return False

    # --- observations --------------------------------------------------------------------------

    def answered(self, answer: Answer) -> None:
        """A question was answered in time."""
        self._count(answer.node_id, Deed.ANSWERED)
        self._finding("response_time", answer, lambda: self._times.observe(answer.rtt_s))
        offset_ms = answer.sent_at - self._env.clock() + answer.rtt_s * MS / 2
        self._finding("clocks", answer, lambda: self._clocks.observe(offset_ms))

    def named(self, answer: Answer, target: bytes, contacts: Sequence[VerifiedContact], walk: Walk) -> None:
        """The contacts in one answer of a lookup, each of them checked."""
        ids = [c.node_id for c in contacts]
        size = self.network_size()
        self._finding("addresses", answer, lambda: _dropped(contacts))
        self._finding("closer_answers", answer, lambda: self._closer.observe(target, ids, size))
        self._finding("equal_answers", answer, lambda: walk.equal.observe(ids))

    def silent(self, node: NodeId) -> None:
        """A question to the node's own addresses went unanswered."""
        self._count(node, Deed.FAILED)

    def referred(self, referrer: bytes, error: RemoteError | Closed | None) -> None:
        """A contact that `referrer` named could be reached, or not (`error`)."""
        if isinstance(error, DialHeldBack) or self._env.mode("referrals") is Mode.OFF:
            return
        self.reputation.referred(referrer, self._now(), ok=error is None)
        figures = self._referrals.observe(referrer, ok=error is None)
        if figures is not None:
            self.report(EventKind.ANOMALY, "referrals", NodeId(referrer), **figures)

    def malformed(self, contact: VerifiedContact, error: DecodeError) -> None:
        """A peer's signed answer cannot be read."""
        mode = self._env.mode("formats")
        if mode is Mode.ENFORCE:
            self._count(contact.node_id, Deed.FAILED, 0.5)
        if mode is not Mode.OFF:
            self.report(EventKind.ANOMALY, "formats", contact.node_id, contact.group, error=str(error))

    def _finding(self, detector: str, answer: Answer, look: Callable[[], Figures | None]) -> None:
        """Something odd: logged, and where enforced it lowers the rank as much as half a silence."""
        mode = self._env.mode(detector)
        if mode is Mode.OFF or (figures := look()) is None:
            return
        if mode is Mode.ENFORCE:
            self._count(answer.node_id, Deed.FAILED, 0.5)
        self.report(EventKind.ANOMALY, detector, answer.node_id, answer.group, **figures)

    def valid(self, answer: Answer) -> None:
        """All that could be checked in one answer was right."""
        self._count(answer.node_id, Deed.VALID)
        if self._env.mode("invalid_rate") is not Mode.OFF:
            self._rates.observe(answer.node_id, valid=True)

    def invalid(self, answer: Answer, error: RemoteError, item: WireRecord | Contact | None = None) -> None:
        """Something in an answer is wrong, and the answerer sent it; `item`: the record or contact."""
        if "age" in error.fields:  # a contact that has expired, by clocks that may differ
            return
        if item is not None and answer.peer is not None:
            self.accuse(answer.peer, answer.envelope, answer.request, item)
        node = answer.node_id
        self._count(node, Deed.INVALID)
        if self.score(node) < self._distrust:
            self._suspect(node)
        self.report(EventKind.INVALID_DATA, "invalid_rate", node, answer.group, error=str(error))
        mode = self._env.mode("invalid_rate")
        if mode is not Mode.OFF and self._rates.observe(node, valid=False):
            self.hold(node, answer.group, "invalid_rate")

    def proven(self, node: NodeId, rule: str, by: NodeId | None) -> None:
        """A fault was proven by evidence that was recomputed here; called once per node and rule."""
        self.report(EventKind.PROVEN_FAULT, "reports", node, rule=rule, by=by.hex() if by else "ourselves")
        if self._env.mode("reports") is Mode.ENFORCE:
            self._count(node, Deed.PROVEN)
        self.hold(node, "", "reports")

    def slandered(self, node: NodeId, group: str, error: EvidenceInvalid) -> None:
        """A peer brought evidence that proves nothing."""
        self.report(EventKind.REPORT_REFUSED, "reports", node, group, error=str(error))
        if self._env.mode("reports") is Mode.ENFORCE:
            self._count(node, Deed.INVALID)
            if self._env.mode("invalid_rate") is not Mode.OFF and self._rates.observe(node, valid=False):
                self.hold(node, group, "invalid_rate")

    def praised(self, node: NodeId, by: NodeId) -> None:
        """A peer speaks well of another; as much as we think of the peer itself."""
        if self._env.mode("reports") is Mode.ENFORCE:
            self._count(node, Deed.PRAISED, self.score(by))

    def _count(self, node: bytes, deed: Deed, weight: float = 1.0) -> None:
        if self._env.mode("reputation") is not Mode.OFF:
            self.reputation.observe(node, deed, self._now(), weight)

    def _suspect(self, node: bytes, until: float = 0.0) -> None:
        self._suspects[node] = max(until, self._suspects.pop(node, 0.0))
        if len(self._suspects) > SUSPECTS_MOST:
            # Not the newcomer: else a crowd that came once and left would keep every later liar out of here.
            # Who is forgotten too early comes back with its next lie.
            del self._suspects[next(iter(self._suspects))]

    def hold(self, node: NodeId, group: str, detector: str) -> None:
        """A detector says quarantine: do so if its mode and the caps allow."""
        if self._env.mode(detector) is not Mode.ENFORCE:
            self.report(EventKind.ANOMALY, detector, node, group)
            return
        outcome = self.quarantine.hold(node, detector, self._now(), self.table)
        if outcome is Outcome.HELD:
            self._note_held()
            self.report(EventKind.QUARANTINED, detector, node, group)
        elif outcome is Outcome.CAPPED and self.quarantine.mode is Mode.ENFORCE:
            # Who lies every third time keeps a middling score: the caps must not keep it in replica sets.
            self._suspect(node, self._now() + FIRST_S)
            self.report(EventKind.QUARANTINE_CAPPED, detector, node, group)
        elif outcome in (Outcome.CAPPED, Outcome.OBSERVED):
            self.report(EventKind.ANOMALY, "quarantine", node, group, reason=detector)

    # --- probation, operators ------------------------------------------------------------------

    def on_probation(self) -> list[NodeId]:
        """Whose time is over: they are to be asked something that can be checked."""
        now = self._now()
        for node in self.quarantine.settle(now, self.table):
            self.report(EventKind.RELEASED, "quarantine", NodeId(node))
        self._note_held()
        return [NodeId(node) for node in self.quarantine.on_probation(now)]

    def probed(self, node: NodeId, *, ok: bool) -> None:
        """How a probe ended."""
        self.quarantine.probed(node, self._now(), ok=ok)
        self._note_held()
        if ok:
            self.report(EventKind.RELEASED, "quarantine", node)

    def quarantined(self) -> list[Held]:
        """Who is in quarantine and why, by node id."""
        return self.quarantine.held(self._now())

    def _note_held(self) -> None:
        """To be called where quarantine changed: looked at far more often than that."""
        self.held = {h.node: None for h in self.quarantined()}

    def lift(self, node: NodeId) -> bool:
        """An operator lets a node out; False where it was not held."""
        lifted = self.quarantine.lift(node)
        self._note_held()
        if lifted:
            self.report(EventKind.RELEASED, "operator", node)
        return lifted

    # --- events --------------------------------------------------------------------------------

    def report(
        self, kind: EventKind, detector: str, node: NodeId | None = None, group: str = "", /, **detail: Detail
    ) -> None:
        """Tell all who listen."""
        defences = self._env.config.defences
        assert isinstance(defences, Mapping)
        mode = defences.get(detector, "enforce")
        self.events.emit(SecurityEvent(kind, self._env.clock(), node, group, detector, mode, detail))

    def subscribe(self, tell: Callable[[SecurityEvent], None]) -> Callable[[], None]:
        """Call `tell` at every event from now on; the result ends that."""
        return self.events.subscribe(tell)

    def status(self) -> dict[str, Any]:
        """Events by kind, and how many were written to the file (None without one), JSON-friendly."""
        file = self._file
        written = file and {"written": file.written, "dropped": file.dropped, "error": file.error}
        return self.events.status() | {"file": written}

    def close(self) -> None:
        """Write nothing more."""
        if self._file is not None and self._end_file is not None:
            self._end_file()
            self._file.close()

    # --- memory --------------------------------------------------------------------------------

    async def save(self) -> None:
        """Remember scores and quarantine across a restart. Raises StorageError."""
        now, nodes = self._now(), self.reputation.nodes()
        rows: list[ReputationRow] = []
        for i in range(0, len(nodes), ROWS_AT_ONCE):
            rows += self.reputation.dump(now, nodes[i : i + ROWS_AT_ONCE])
            await asyncio.sleep(0)
        await self._env.store.save_state(REPUTATION, encode_reputation(rows))
        await self._env.store.save_state(QUARANTINE, encode_quarantine(self.quarantine.dump(now)))

    def load(self) -> None:
        """Take up what an earlier run knew; what is damaged is forgotten."""
        now, store = self._now(), self._env.store
        for name, take in ((REPUTATION, self._load_reputation), (QUARANTINE, self._load_quarantine)):
            blob = store.load_state(name)
            try:
                if blob:
                    take(blob, now)
            except (DecodeError, ValueError):
                self._env.counters["trust_damaged"] += 1

    def _load_reputation(self, blob: bytes, now: float) -> None:
        self.reputation.load(decode_reputation(blob), now)
        for node in self.reputation.below(self._distrust, now):
            self._suspect(node)

    def _load_quarantine(self, blob: bytes, now: float) -> None:
        self.quarantine.load(decode_quarantine(blob), now)
        self._note_held()


def _dropped(contacts: Sequence[VerifiedContact]) -> Figures | None:
    """How many addresses of these contacts are of no use."""
    dropped = sum(len(c.dropped) for c in contacts)
    return {"dropped": dropped} if dropped else None
