"""The Sybil test where it meets the network: what is tested and who is told (section 7)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..identity.contact import VerifiedContact
from ..identity.keys import born_day
from ..kad.lookup import Candidate, Lookup
from ..trust.events import EventKind
from ..trust.modes import Mode
from ..trust.sybil import FRESH_DAYS, Excess, SybilFinding, SybilTest, crowded_prefix, fresh_ids, low_stake
from .environment import Environment
from .guard import Guard
from .routing import Routing


class SybilWatch:
    """Tests what lookups found against what the size estimate and our table lead one to expect.

    Defence `sybil_test` decides whether there is a test, `region` whether an alarm widens the lookup.
    """

    def __init__(self, env: Environment, routing: Routing, guard: Guard) -> None:
        self._env = env
        self._guard = guard
        self._routing = routing
        self._test = SybilTest(env.params.k, env.threshold("sybil_test.divergence") or None)

    @property
    def widens(self) -> bool:
        """Whether an alarm is acted on."""
        return self._env.mode("sybil_test") is Mode.ENFORCE and self._env.mode("region") is Mode.ENFORCE

    def suspicion(self, lookup: Lookup[VerifiedContact]) -> SybilFinding | None:
        """The test over the k closest known to be live; None also while the size is not known."""
        if self._env.mode("sybil_test") is Mode.OFF:
            return None
        size = self._routing.size()
        if size is None:
            return None
        closest = lookup.closest_known(self._env.params.k)
        return self._test.check(lookup.target, [c.node_id for c in closest], size)

    def look_around(self) -> SybilFinding | None:
        """The test at our own place in the table: whoever crowds there sees what we ask and store first."""
        size = self._routing.size()
        if size is None or self._env.mode("sybil_test") is Mode.OFF:
            return None
        k, own = self._env.params.k, self._env.identity.node_id
        closest = self._routing.table.closest(own, k)
        finding = self._test.check(own, [e.node_id for e in closest], size)
        if finding is not None:
            self._tell(own, finding, self.signs([Candidate(e.node_id, e.contact, e.group) for e in closest]))
        return finding

    def alarm(self, lookup: Lookup[VerifiedContact]) -> SybilFinding | None:
        """The test once more where the lookup has ended; what it finds is counted and told."""
        finding = self.suspicion(lookup)
        if finding is None:
            return None
        self._tell(lookup.target, finding, self.signs(lookup.closest_known(self._env.params.k)))
        return finding

    def _tell(self, target: bytes, finding: SybilFinding, signs: Sequence[Excess]) -> None:
        self._env.counters["sybil_alarms"] += 1
        self._guard.report(
            EventKind.SYBIL_ALARM,
            "sybil_test",
            key=target.hex(),
            divergence=round(finding.divergence, 3),
            threshold=finding.threshold,
            network_size=round(finding.network_size),
            prefix_lengths=" ".join(map(str, finding.cpls)),
            signs=" ".join(sign.name for sign in signs),
        )

    def signs(self, closest: Sequence[Candidate[VerifiedContact]]) -> list[Excess]:
        """In what else these nodes differ from those of our table: prefixes, age, stake."""
        table = list(self._routing.table)
        if not table:
            return []
        today = born_day(self._env.clock())
        asked = self._env.params.puzzle_bits(today)
        fresh = sum(e.contact.contact.born > today - FRESH_DAYS for e in table) / len(table)
        least = sum(e.contact.bits <= asked for e in table) / len(table)
        found = [
            fresh_ids([c.contact.contact.born for c in closest], today, fresh),
            low_stake([c.contact.bits for c in closest], asked, least),
        ]
        if self._env.params.address_groups:
            wide = Counter(e.contact.wide_group for e in table)
            found.append(crowded_prefix([c.group for c in closest], Counter(e.group for e in table)))
            found.append(crowded_prefix([c.contact.wide_group for c in closest], wide))
        return [sign for sign in found if sign is not None]
