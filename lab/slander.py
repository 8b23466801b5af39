"""Experiment 5: what can liars get quarantined that is honest?"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator

from lab.crowd import Crowd, crowd
from lab.effort import Effort
from lab.figures import Goal, Rate, Section, Table, percent
from pqdht.errors import DecodeError, EvidenceInvalid
from pqdht.trust.evidence import EvidenceRule, collect, judge
from pqdht.trust.quarantine import BUCKET_LIVE, Outcome, Quarantine
from pqdht.trust.rates import InvalidRate
from pqdht.wire.contact import Contact
from pqdht.wire.messages import Evidence, Values, WireRecord
from tests.unit.trust.accused import ID, Court

SHARE = 0.3
SEED = 44
DAMAGED = 0.01
"""Answers of an honest node that are damaged, more than any network shows."""
ANSWERS = 200
PLACES = 3


def measure(effort: Effort) -> Section:
    net = crowd(effort.nodes, SHARE, SEED)
    dice = random.Random(SEED)
    observers = dice.sample(net.honest_up, effort.observers)
    forged, admitted = forgeries(effort.observers)
    true = control()
    held = Counter(node for o in observers for node in damaged(net, o))
    known = sum(n not in net.colluders for o in observers for n in (e.node_id for e in net.table(o)))
    by_chance = Rate(held.total(), known)
    worst = [most_held(net, o) for o in observers]
    widely = sum(count > 0.01 * effort.observers for count in held.values())
    rows = [
        ["forged accusations judged", f"{forged:,}"],
        ["... admitted", str(admitted)],
        ["true accusations judged, by the same code", str(true[1])],
        ["... admitted", str(true[0])],
        ["honest nodes that more than 1 % of the observers hold", str(widely)],
        [
            f"honest peers held by chance, of whose {ANSWERS} answers {percent(DAMAGED)} are damaged",
            str(by_chance),
        ],
    ]
    caps = [
        ["held, most of a table", "10 %", percent(max(w[0] for w in worst))],
        ["held, most of a bucket", "25 %", percent(max(w[1] for w in worst))],
        [
            f"live left in a bucket that had {BUCKET_LIVE} or more, fewest",
            str(BUCKET_LIVE),
            str(min(w[2] for w in worst)),
        ],
    ]
    return Section(
        "slander",
        "Slander",
        "Evidence and quarantine code alone (`trust.evidence` on the fake suite, `trust.rates`,"
        " `trust.quarantine`) over the tables of the experiment above. Whole nodes:"
        " `tests/property/test_no_self_incrimination.py`.",
        [
            f"{percent(SHARE)} of all nodes slander every honest node: with its honest envelopes under each"
            " rule, with envelopes changed after it signed them, with their own envelopes under its"
            " name, with an answer to another question. Evidence counts only if whoever receives it can"
            " recompute the offence, so who brings it, and how many, does not matter.",
            "So what an observer holds of honest nodes is what its own invalid rate finds by chance. The"
            " caps are what is left if all that fails: each observer is made to hold every peer it"
            " knows.",
        ],
        [
            Table(
                f"30 % slanderers, {effort.observers} honest observers of N = {effort.nodes:,}",
                ["", "found"],
                rows,
            ),
            Table("If every accusation were believed", ["", "cap", "found"], caps),
        ],
        [],
        [
            Goal(
                "honest nodes held by more than 1 % of honest nodes, 30 % slanderers",
                "0 (acceptance)",
                str(widely),
                widely == 0,
            ),
            Goal(
                "share of a table that can be put away",
                "<= 10 % (acceptance)",
                caps[0][2],
                max(w[0] for w in worst) <= 0.1,
            ),
        ],
        f"N = {effort.nodes:,}; {effort.observers} observers; {forged:,} forgeries",
    )


def forgeries(courts: int) -> tuple[int, int]:
    """(accusations against honest nodes, how many of them were admitted)."""
    judged = admitted = 0
    for number in range(courts):
        court = Court()
        for evidence in lies(court, random.Random(number)):
            judged += 1
            admitted += is_admitted(court, evidence)
    return judged, admitted


def is_admitted(court: Court, evidence: Evidence) -> bool:
    try:
        judge(evidence, court.suite, court.tag)
    except (EvidenceInvalid, DecodeError):
        return False
    return True


def lies(court: Court, dice: random.Random) -> Iterator[Evidence]:
    """Everything a slanderer can put together about an honest node, each rule and place of it."""
    contact, key = court.accused.contact(), court.accused.signing.public
    honest = values(court, *court.records().values())
    answer, question = court.exchange(honest)
    _, other_question = court.exchange(honest)
    bad = flipped(court.record())
    asked = court.question(by=court.asker)
    own = court.sign(court.question(values(court, bad), by=court.asker), court.asker)
    pairs = [(answer, question), (answer, other_question), (answer, b""), (own, b"")]
    for _ in range(4):  # as the accused signed it, but for one byte
        at = dice.randrange(len(answer))
        flip = bytes([answer[at] ^ 1 << dice.randrange(8)])
        pairs.append((answer[:at] + flip + answer[at + 1 :], question))
    pairs.append((court.sign(asked, court.asker), b""))
    for envelope, request in pairs:
        for rule in EvidenceRule:
            for place in range(PLACES):
                yield Evidence(int(rule), bare(contact), key, envelope, request, place)


def bare(contact: Contact) -> Contact:
    return Contact(
        contact.signing_key_hash, contact.kem_key_hash, contact.born, contact.nonce, contact.digest
    )


def values(court: Court, *records: WireRecord) -> Values:
    return Values(ID, records, (), (court.node().contact(),))


def flipped(wire: WireRecord) -> WireRecord:
    return WireRecord(wire.tbs, bytes([wire.signature[0] ^ 1]) + wire.signature[1:])


def control() -> tuple[int, int]:
    """(true accusations admitted, made): a judge that refuses everything would pass the rest."""
    court = Court()
    bad = flipped(court.record())
    answer = court.exchange(values(court, court.record(), bad))
    evidence = collect(
        EvidenceRule.BAD_RECORD_SIGNATURE, court.accused.contact(), court.accused.signing.public, *answer, bad
    )
    return int(is_admitted(court, evidence)), 1


def damaged(net: Crowd, observer: bytes) -> list[bytes]:
    """Honest peers that the invalid rate has an observer hold, by chance."""
    dice = random.Random(observer)
    held = []
    rates = InvalidRate()
    for entry in net.table(observer):
        if entry.node_id not in net.colluders:
            found = [rates.observe(entry.node_id, valid=dice.random() >= DAMAGED) for _ in range(ANSWERS)]
            held += [entry.node_id] * any(found)
    return held


def most_held(net: Crowd, observer: bytes) -> tuple[float, float, int]:
    """(share of the table, most of a bucket, fewest left where there were enough) if all could be accused."""
    table, quarantine = net.table(observer), Quarantine()
    for entry in table:
        outcome = quarantine.hold(entry.node_id, "test", 0.0, table)
        assert outcome in (Outcome.HELD, Outcome.CAPPED)
    held = {h.node for h in quarantine.held(0.0)}
    buckets = {table.bucket_of(e.node_id) for e in table}
    members = [set(table.members(b)) for b in buckets]
    return (
        len(held) / len(table),
        max(len(m & held) / len(m) for m in members),
        min(len(m - held) for m in members if len(m) >= BUCKET_LIVE),
    )
