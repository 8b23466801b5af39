"""The decision rules of PUT and GET as pure functions of who said what (section 5).

PUT.  T is the k closest live nodes, ourselves included if we are one.  need = floor(min(k, |T|) / 2) + 1
signed receipts from T; if T spans at least `need` address groups, one receipt per group counts, else
one per node, and where T spans 3 groups or more they must come from more than half of them.

GET.  S is up to k closest nodes whose signed answers came back, empty ones included, ourselves only if
we held a copy before.  A *unit* is an address group if those rules are on and S spans at least 3, else a
node.  newest is the highest timestamp in any valid answer, also from outside S; u = units in S; m = units
with a member holding any version; c = units with a member holding the newest, or an older version of
equal value.  **Confirmed iff c > m/2 and c >= min(3, u).**  Otherwise the newest is stored at the other
members and each receipt puts its unit into c and m; still not: contested.  So

- one holder among many empties is not confirmed (c < 3) until it is repaired;
- a majority with an older version never wins over a newer valid one, only delays its confirmation;
- two records of one owner with equal timestamps are contested whatever the count: readers return the one
  whose holders in S have the larger sum of weights (tie: smaller record id);
- content needs none of this, its key is its hash.

Where the address group rules are on, T and S take at most `per_group` nodes of one group while others
remain: whoever fills the surroundings of a key from one network is then not all of them.

Early end is the same rule with the closest live nodes that have not answered yet as `pending`: they count
in u and in m, never in c, so later empty or older answers cannot undo a confirmation (a newer version can).
The same bound decides what a timed-out GET may still call confirmed.

One case the text leaves open is decided here: if nobody but ourselves answered although others are known,
our own copy alone is not confirmed, or whoever cuts us off could make us trust it.

`tests/unit/kad/quorum_cases.py` is the table of cases; docs/protocol.md carries it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from ..ids import common_prefix_length, distance


class Member(NamedTuple):
    """A node and its address group ("" where unknown, which is a group like any other)."""

    node: bytes
    group: str


class Version(NamedTuple):
    """One valid, unexpired record: what order and equality are decided by."""

    timestamp: int
    record_id: bytes
    value_id: bytes
    """The value, or a digest of it."""


class Holding(NamedTuple):
    """A valid answer: this node sent this version."""

    node: bytes
    version: Version


class Verdict(StrEnum):
    """What a GET may conclude."""

    CONFIRMED = "confirmed"
    FIRST = "first"
    """The first valid record, as asked for by `consistency = "first"`."""
    CONTESTED = "contested"
    """A valid record, but the rule does not hold, or its owner equivocated."""
    ABSENT = "absent"
    """Others answered and nobody holds anything."""
    NOT_BOOTSTRAPPED = "not_bootstrapped"
    """Others are known and none could be reached."""
    ALONE = "alone"
    """No other node is known: the own store is the network."""
    TIMED_OUT = "timed_out"
    INVALID_ONLY = "invalid_only"
    """Only records that do not verify were offered."""


class Need(NamedTuple):
    """How many receipts make a PUT, and from how many address groups they must come at least."""

    need: int
    groups: int
    """As many as `need`: one receipt per group counts.  1: any."""

    @property
    def by_group(self) -> bool:
        """Whether one receipt per group counts."""
        return self.groups == self.need


class Confirmation(NamedTuple):
    """The outcome of the rule with the evidence behind it."""

    verdict: Verdict
    newest: Version | None
    """What to return; never an older version than any valid one seen."""
    units: int
    """u"""
    holding: int
    """m"""
    confirmations: int
    """c"""
    by_group: bool
    holders: tuple[bytes, ...] = ()
    """Members of S with the newest, an equal value, or a receipt for it."""
    dissent: tuple[bytes, ...] = ()
    """Members of S that answered with another version or with none."""
    repair: tuple[bytes, ...] = ()
    """Members (ourselves among them, if so) to STORE the newest at.  Empty when confirmed or equivocal."""
    equivocation: tuple[Version, ...] = ()
    """All versions with the newest timestamp, if there is more than one, by record id."""


def closest_members(
    target: bytes, members: Iterable[Member], k: int, per_group: int | None = None, region: int | None = None
) -> list[Member]:
    """The k closest to `target`, ascending: T of a PUT, S of a GET; where that is more, all that share
    `region` leading bits with it: S after a Sybil alarm.

    At most `per_group` of one address group; only where that leaves fewer than k, the closest of
    those passed over fill the places up.
    """

    def away(member: Member) -> int:
        return distance(member.node, target)

    ordered = sorted(members, key=away)
    chosen, passed_over = (ordered, []) if per_group is None else spread(ordered, per_group)
    if region is not None:
        k = max(k, sum(common_prefix_length(m.node, target) >= region for m in chosen))
    return chosen[:k] if len(chosen) >= k else sorted(chosen + passed_over[: k - len(chosen)], key=away)


def spread(members: Iterable[Member], per_group: int) -> tuple[list[Member], list[Member]]:
    """(the first `per_group` of each address group, the others), both in the given order."""
    taken: Counter[str] = Counter()
    chosen: list[Member] = []
    passed_over: list[Member] = []
    for member in members:
        taken[member.group] += 1
        (chosen if taken[member.group] <= per_group else passed_over).append(member)
    return chosen, passed_over


# --- PUT -----------------------------------------------------------------------------------------


def required_receipts(members: Sequence[tuple[bytes, str]], k: int, address_groups: bool) -> Need:
    """What the k closest live nodes (node, group) owe a PUT.  Does not grow with further storers."""
    need = min(k, len(members)) // 2 + 1
    spans = len({group for _, group in members}) if address_groups else 0
    if spans >= need:
        return Need(need, need)
    return Need(need, spans // 2 + 1 if spans >= 3 else 1)


class PutTally:
    """Counts the receipts of one PUT.  `members` (node, group) is T."""

    def __init__(self, members: Sequence[tuple[bytes, str]], k: int, address_groups: bool) -> None:
        self.members: dict[bytes, str] = dict(members)
        self._rule = required_receipts(members, k, address_groups)
        self.need, self.by_group = self._rule.need, self._rule.by_group
        self._said: dict[bytes, bool] = {}

    def add(self, node: bytes, *, ok: bool = True) -> bool:
        """A signed receipt, or (not `ok`) a refusal or silence.  True if it counts towards `need`.

        Nodes outside T never count.  A receipt stands: a later refusal does not take it back.
        """
        if node not in self.members:
            return False
        self._said[node] = ok or self._said.get(node, False)
        return ok

    @property
    def confirmed(self) -> int:
        """Units (groups or nodes) with a receipt."""
        nodes, groups = self._count(n for n, ok in self._said.items() if ok)
        return groups if self.by_group else nodes

    @property
    def reached(self) -> bool:
        """Whether the quorum is there."""
        return self._is_enough(n for n, ok in self._said.items() if ok)

    @property
    def is_possible(self) -> bool:
        """Whether those not heard yet could still make it."""
        return self._is_enough(n for n in self.members if self._said.get(n, True))

    def _is_enough(self, nodes: Iterable[bytes]) -> bool:
        found, groups = self._count(nodes)
        return found >= self._rule.need and groups >= self._rule.groups

    def _count(self, nodes: Iterable[bytes]) -> tuple[int, int]:
        distinct = list(dict.fromkeys(nodes))
        return len(distinct), len({self.members[n] for n in distinct})


# --- GET -----------------------------------------------------------------------------------------


def _even(_node: bytes) -> float:
    return 1.0


def choose(
    holdings: Sequence[Holding], members: Iterable[bytes], weight: Callable[[bytes], float] = _even
) -> tuple[Version | None, tuple[Version, ...]]:
    """(the version to return, all with its timestamp if there are several)."""
    if not holdings:
        return None, ()
    latest = max(h.version.timestamp for h in holdings)
    tied = sorted({h.version.record_id: h.version for h in holdings if h.version.timestamp == latest}.items())
    if len(tied) == 1:
        return tied[0][1], ()
    counted = dict.fromkeys(members)

    def preference(version: Version) -> tuple[float, bytes]:
        nodes = dict.fromkeys(h.node for h in holdings if h.version == version and h.node in counted)
        return -sum(weight(n) for n in nodes), version.record_id

    versions = tuple(version for _, version in tied)
    return min(versions, key=preference), versions


def confirm(
    members: Sequence[Member],
    holdings: Sequence[Holding],
    *,
    address_groups: bool,
    pending: Sequence[Member] = (),
    receipts: Iterable[bytes] = (),
    own: bytes | None = None,
    content: bool = False,
    first: bool = False,
    others_known: bool = True,
    timed_out: bool = False,
    saw_invalid: bool = False,
    weight: Callable[[bytes], float] = _even,
) -> Confirmation:
    """Apply the confirmation rule to one (kind, key, owner).

    `members` is S; `holdings` are all valid answers, also from outside S (a node may have several);
    `pending` the closest live nodes still to answer, for an early end; `receipts` the nodes that
    signed for the newest in the repair round; `own` our id, so that we are not taken for another.
    A False `others_known` says that no other node is known at all.
    """
    newest, equivocation = choose(holdings, (member.node for member in members), weight)
    count = _sort(members, holdings, newest, dict.fromkeys(receipts))
    electorate = (*members, *pending)
    by_group = address_groups and len({member.group for member in electorate}) >= 3
    u = _units(electorate, by_group)
    m = _units((*count.any_version, *pending), by_group)
    c = _units(count.newest, by_group)
    others = any(member.node != own for member in members)
    if newest is None:
        verdict = _without_record(others, others_known, timed_out, saw_invalid)
    elif content:
        verdict = Verdict.CONFIRMED
    elif not others and not others_known:
        verdict = Verdict.ALONE
    elif first:
        verdict = Verdict.FIRST
    elif not others:
        verdict = _without_others(others_known, timed_out)
    elif equivocation:
        verdict = Verdict.CONTESTED
    elif 2 * c > m and c >= min(3, u):
        verdict = Verdict.CONFIRMED
    else:
        verdict = Verdict.TIMED_OUT if timed_out else Verdict.CONTESTED
    settled = verdict is Verdict.CONFIRMED or bool(equivocation)
    held_by = dict.fromkeys(member.node for member in count.newest)
    return Confirmation(
        verdict,
        newest,
        units=u,
        holding=m,
        confirmations=c,
        by_group=by_group,
        holders=tuple(held_by),
        dissent=tuple(member.node for member in members if member.node not in held_by),
        repair=() if settled else tuple(member.node for member in count.lacking),
        equivocation=equivocation,
    )


class _Sorted(NamedTuple):
    any_version: list[Member]
    newest: list[Member]
    lacking: list[Member]


def _sort(
    members: Sequence[Member],
    holdings: Sequence[Holding],
    newest: Version | None,
    repaired: Container[bytes],
) -> _Sorted:
    """Members by what they hold: any version; what confirms the newest; not the newest itself."""
    if newest is None:
        return _Sorted([], [], [])
    sent: dict[bytes, list[Version]] = {}
    for holding in holdings:
        sent.setdefault(holding.node, []).append(holding.version)
    any_version, confirming, lacking = [], [], []
    for member in members:
        versions = sent.get(member.node, [])
        is_repaired = member.node in repaired
        if is_repaired or versions:
            any_version.append(member)
        if is_repaired or any(_counts_as(newest, v) for v in versions):
            confirming.append(member)
        if not is_repaired and newest not in versions:
            lacking.append(member)
    return _Sorted(any_version, confirming, lacking)


def _counts_as(newest: Version, version: Version) -> bool:
    """The newest itself, or an older one that says the same."""
    if version.timestamp == newest.timestamp:
        return version.record_id == newest.record_id
    return version.value_id == newest.value_id


def _units(members: Iterable[Member], by_group: bool) -> int:
    return len({m.group for m in members} if by_group else {m.node for m in members})


def _without_others(others_known: bool, timed_out: bool) -> Verdict:
    if not others_known:
        return Verdict.ALONE
    return Verdict.TIMED_OUT if timed_out else Verdict.NOT_BOOTSTRAPPED


def _without_record(others: bool, others_known: bool, timed_out: bool, saw_invalid: bool) -> Verdict:
    if saw_invalid:
        return Verdict.INVALID_ONLY
    if not others:
        return _without_others(others_known, timed_out)
    return Verdict.TIMED_OUT if timed_out else Verdict.ABSENT
