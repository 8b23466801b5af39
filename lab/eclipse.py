"""Experiment 2: how often is everybody malicious of whom a GET takes its answer?"""

from __future__ import annotations

import random
from dataclasses import replace

from lab.crowd import Crowd, K, crowd
from lab.effort import Effort
from lab.figures import Goal, Plot, Rate, Section, Table
from lab.lookups import curve
from lab.searches import DEFAULTS, Case, Search, anew, begin, cases, drive, ours, plain
from lab.sybils import run
from pqdht.ids import ID_BITS, common_prefix_length, distance
from pqdht.node.publisher import WIDE_SHARE
from tests.unit.kad.network import near, random_id, true_closest

SHARES = (0.2, 1 / 3, 0.5)
PUBLISHED = {"Kademlia (published)": (0.21, 0.37, 0.60), "DISC-NG (published)": (0.005, 0.005, 0.005)}
PACKED = 16
SEED = 42
HARDER = "ours, churn, tables poisoned"
WIDER = "... and PUT with d = 8 (not built)"


def measure(effort: Effort) -> Section:
    rates: dict[str, list[Rate]] = {name: [] for name in ("Kademlia as usual", "ours", HARDER, WIDER)}
    for share in SHARES:
        static = crowd(effort.nodes, share, SEED)
        writes = cases(static, effort.eclipses, SEED)
        rates["Kademlia as usual"].append(eclipsed(writes, by_us=False))
        rates["ours"].append(eclipsed(writes, by_us=True))
        harder = crowd(effort.nodes, share, SEED, churn=True, poisoned=True)
        writes = cases(harder, effort.eclipses, SEED)
        rates[HARDER].append(eclipsed(writes, by_us=True))
        rates[WIDER].append(eclipsed(writes, by_us=True, wider=True))
    key = packed(effort)
    shares = ["20 %", "33 %", "50 %"]
    rows = [[name, *map(str, found)] for name, found in rates.items()]
    rows += [[name, *(f"{100 * p:g} %" for p in found)] for name, found in PUBLISHED.items()]
    rows[-1][1:] = ["< 0.5 %"] * 3
    return Section(
        "eclipse",
        "Eclipse of a key",
        "Routing, lookup and trust code alone, with the Sybil test and the region as built.",
        TEXT,
        [
            Table("PUT and GET eclipsed, Sybils among all nodes", ["", *shares], rows),
            Table(
                f"Sybils packed at one key, no others (N = {effort.nodes:,})",
                ["", f"{PACKED} Sybils", "20 Sybils"],
                [[n, *map(str, r)] for n, r in key.items()]
                + [["Kademlia (published)", "100 %", ""], ["DISC-NG (published)", "0 %", ""]],
            ),
        ],
        [
            Plot(
                "eclipse",
                "PUT and GET eclipsed",
                "Sybils among all nodes",
                "eclipsed",
                shares,
                [curve(n, r) for n, r in rates.items()],
            )
        ],
        goals(rates, key),
        f"N = {effort.nodes:,}; {effort.eclipses} keys at each share, {effort.packed} with Sybils packed",
    )


TEXT = [
    "After DISC-NG (Krol et al., EuroS&P 2024): a service is eclipsed if everybody a lookup finds for it is"
    " malicious. Here one honest node stores a record and another, knowing nothing of it, gets it. Malicious"
    " nodes sign a receipt, keep nothing, deny, and name the closest of one another; *eclipsed* is a GET of"
    " which no asked node that answered is an honest holder, so that all holders it asked were malicious."
    " What the PUT itself lost to the attack counts.",
    "DISC-NG measures registrations for a topic in a network of its own; its figures for a plain DHT stand"
    " beside our run of Kademlia as usual (k closest, one list), which is not the same simulation.",
]


def eclipsed(writes: list[Case], *, by_us: bool, wider: bool = False) -> Rate:
    """PUT by one node, GET by the next case's."""
    others = [*writes[1:], *writes[:1]]
    lost = [is_eclipsed(w, o.me, by_us=by_us, wider=wider) for w, o in zip(writes, others, strict=True)]
    return Rate(sum(lost), len(lost))


def is_eclipsed(write: Case, reader: bytes, *, by_us: bool, k: int = K, wider: bool = False) -> bool:
    """Whether a GET after the PUT asks no honest holder."""
    paths = DEFAULTS.paths * (2 if wider else 1)
    holders = store(write, paths) if by_us else plain(write, k=k).answered
    kept = [n for n in holders if write.is_honest(n)]
    if not kept:
        return True
    read = replace(write, me=reader, replicas=dict.fromkeys(kept))
    if not by_us:
        return not plain(read, k=k).reached
    found = ours(read)
    return not (found.reached or anew(read, found).reached)


def store(case: Case, paths: int) -> list[bytes]:
    """Where a PUT stores: the k closest, the closest few of every path, and on an alarm the region."""
    search = Search(case, begin(case, case.target, paths=paths, end=DEFAULTS.path_end_doubt))
    drive(case, search.lookup)
    search.widen()
    answered = search.found().answered
    wide = [a.node_id for a in search.lookup.closest_on_every_path(-(-K // WIDE_SHARE))]
    region = ID_BITS if search.region is None else search.region
    inside = [n for n in answered if common_prefix_length(n, case.target) >= region]
    return list(dict.fromkeys([*answered[:K], *wide, *inside]))


def packed(effort: Effort) -> dict[str, list[Rate]]:
    counts = (PACKED, 20)
    keys = [packed_keys(effort, count) for count in counts]
    ways: dict[str, tuple[bool, int]] = {
        "Kademlia as usual, k = 16": (False, PACKED),
        "Kademlia as usual, k = 20": (False, K),
        "ours, Sybil test off": (True, K),
    }
    rates = {
        name: [Rate(sum(is_eclipsed(*c, by_us=us, k=k) for c in found), len(found)) for found in keys]
        for name, (us, k) in ways.items()
    }
    runs = max(1, effort.packed // 4)
    tested = [run(count, runs, effort.nodes, active=False, defended=True) for count in counts]
    rates["ours"] = [Rate(round(runs * (1 - r.retrieved)), runs) for r in tested]
    return rates


def packed_keys(effort: Effort, count: int) -> list[tuple[Case, bytes]]:
    """(a PUT, who reads) at keys with `count` Sybils closer than any honest node."""
    dice = random.Random(f"{SEED} {count}")
    honest = [random_id(dice) for _ in range(effort.nodes)]
    made = []
    for _ in range(effort.packed):
        target = random_id(dice)
        nearest = true_closest(honest, target, K)
        bits = ID_BITS - distance(nearest[0], target).bit_length() + 1
        sybils = [near(target, bits, dice) for _ in range(count)]
        net = Crowd([*sybils, *honest], sybils, {}, dice.getrandbits(32), poisoned=False)
        writer, reader = dice.sample(honest, 2)
        replicas = dict.fromkeys(nearest)
        made.append((Case(net, writer, target, replicas), reader))
    return made


WHY = (
    "A reader or writer whose seeds are nearly all colluders loses all of its paths; see the lookups above."
    " DISC-NG spreads a service over the whole network, a DHT key has one place."
)


def goals(rates: dict[str, list[Rate]], key: dict[str, list[Rate]]) -> list[Goal]:
    found = [
        Goal(f"eclipse rate, {share} Sybils, {how}", "< 0.5 %", str(rate), rate.share < 0.005, WHY)
        for how, name in (("static", "ours"), ("churn and poisoned tables", HARDER))
        for share, rate in zip(("20 %", "33 %", "50 %"), rates[name], strict=True)
    ]
    at_key = key["ours"][0]
    packed_too = Goal(f"eclipse rate, {PACKED} Sybils packed at a key", "0 %", str(at_key), at_key.hits == 0)
    return [*found, packed_too]
