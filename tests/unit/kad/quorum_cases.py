"""The cases of the confirmation rule, by name: tests run them, and docs/protocol.md carries `markdown()`.

An answer is written `[count] what[@group][!]`:

- `new`: the newest version; `old`: an older version with another value; `same`: an older version with the
  newest's value; `twin`: another record with the newest's timestamp; `empty`; `invalid`: a record that
  does not verify (counts as an empty answer)
- `@g`: in address group g; else each node has a group of its own
- `!`: refuses the repair; all others sign a receipt

`own` is the reader's own copy from before, `outside` what answered from outside S, `waiting` how many of
the k closest have not answered yet, `lost` that they never will (they are silent: not in S).
"""

from __future__ import annotations

from typing import NamedTuple

from pqdht.ids import ID_BYTES
from pqdht.kad.quorum import Confirmation, Holding, Member, Verdict, Version, confirm

OLD = Version(1000, b"\x01" * ID_BYTES, b"one")
NEW = Version(2000, b"\x02" * ID_BYTES, b"two")
SAME = Version(1500, b"\x03" * ID_BYTES, b"two")
TWIN = Version(2000, b"\x04" * ID_BYTES, b"other")
VERSIONS = {"old": OLD, "new": NEW, "same": SAME, "twin": TWIN, "empty": None, "invalid": None}
OWN = b"\xff" * ID_BYTES


class Case(NamedTuple):
    """One GET and what must come of it.  `u`, `m`, `c` before the repair; `after` the verdict then."""

    name: str
    nodes: int
    groups: bool
    answers: str
    verdict: Verdict
    u: int
    m: int
    c: int
    after: Verdict | None = None
    own: str = ""
    outside: str = ""
    waiting: int = 0
    content: bool = False
    first: bool = False
    timed_out: bool = False
    returns: Version | None = NEW


class Answer(NamedTuple):
    """One node's answer, taken apart."""

    member: Member
    what: str
    refuses: bool


C, X, A = Verdict.CONFIRMED, Verdict.CONTESTED, Verdict.ABSENT

CASES: tuple[Case, ...] = (
    # one node
    Case("alone with an own copy", 1, False, "", Verdict.ALONE, 1, 1, 1, own="new"),
    Case("alone with nothing", 1, False, "", Verdict.ALONE, 0, 0, 0, returns=None),
    Case("alone with own content", 1, False, "", C, 1, 1, 1, own="new", content=True),
    # two nodes
    Case("two nodes, the other holds it", 2, False, "new", C, 1, 1, 1),
    Case("two nodes, both hold it", 2, False, "new", C, 2, 2, 2, own="new"),
    Case("two nodes, only the reader holds it", 2, False, "empty", X, 2, 1, 1, after=C, own="new"),
    Case("two nodes, the other rolls back and refuses", 2, False, "old!", X, 2, 2, 1, after=X, own="new"),
    Case("two nodes, the own copy is the older", 2, False, "new", X, 2, 2, 1, after=C, own="old"),
    Case("two nodes, the other is empty", 2, False, "empty", A, 1, 0, 0, returns=None),
    Case("two nodes, the other is silent", 2, False, "", Verdict.NOT_BOOTSTRAPPED, 0, 0, 0, returns=None),
    Case("two nodes, the other silent, own copy", 2, False, "", Verdict.NOT_BOOTSTRAPPED, 1, 1, 1, own="new"),
    Case("two nodes, groups on: two groups are no spread", 2, True, "new", C, 2, 2, 2, own="new"),
    # five nodes
    Case("five nodes, all hold it", 5, False, "4 new", C, 4, 4, 4),
    Case("five nodes, two silent", 5, False, "2 new", C, 2, 2, 2),
    Case("five nodes, one holder among empties", 5, False, "new; 3 empty", X, 4, 1, 1, after=C),
    Case("five nodes, one holder, empties refuse", 5, False, "new; 3 empty!", X, 4, 1, 1, after=X),
    Case("five nodes, split two to two", 5, False, "2 new; 2 old", X, 4, 4, 2, after=C),
    Case("five nodes, one liar rolls back", 5, False, "3 new; old!", C, 4, 4, 3),
    Case("five nodes, three liars roll back", 5, False, "new; 3 old!", X, 4, 4, 1, after=X),
    Case("five nodes, an older version says the same", 5, False, "2 new; 2 same", C, 4, 4, 4),
    Case("five nodes, newer seen only outside S", 5, False, "4 old", X, 4, 4, 0, after=C, outside="new"),
    Case("five nodes, same only outside S", 5, False, "4 same", C, 4, 4, 4, outside="new"),
    Case("five nodes, the owner equivocates", 5, False, "3 new; twin", X, 4, 4, 3, after=X),
    Case("five nodes, a twin from outside S", 5, False, "4 new", X, 4, 4, 4, after=X, outside="twin"),
    Case("five nodes, the heavier twin is returned", 5, False, "new; 3 twin", X, 4, 4, 3, returns=TWIN),
    Case(
        "five nodes, only invalid records", 5, False, "4 invalid", Verdict.INVALID_ONLY, 4, 0, 0, returns=None
    ),
    Case("five nodes, an invalid record counts as empty", 5, False, "3 new; invalid", C, 4, 3, 3),
    Case("five nodes, content from one", 5, False, "new; 3 empty", C, 4, 1, 1, content=True),
    Case("five nodes, first", 5, False, "new", Verdict.FIRST, 1, 1, 1, first=True),
    Case("five nodes, three groups, one rolls back", 5, True, "new@a; new@b; 2 old@c!", X, 3, 3, 2, after=X),
    Case("five nodes, three groups agree", 5, True, "new@a; new@b; 2 new@c", C, 3, 3, 3),
    Case("five nodes, two groups: nodes count", 5, True, "3 new@a; new@b", C, 4, 4, 4),
    Case("ten nodes, one group of eight is one unit", 10, True, "7 old@evil!; 2 new", X, 3, 3, 2, after=X),
    # nineteen nodes: all others fit into S
    Case("19 nodes, all hold it", 19, True, "18 new", C, 18, 18, 18),
    Case("19 nodes, a bare majority of holders", 19, True, "10 new; 8 old!", C, 18, 18, 10),
    Case("19 nodes, half of the holders", 19, True, "9 new; 9 old!", X, 18, 18, 9, after=X),
    Case("19 nodes, half of the holders, repaired", 19, True, "9 new; 9 old", X, 18, 18, 9, after=C),
    Case("19 nodes, three holders among empties", 19, True, "3 new; 15 empty!", C, 18, 3, 3),
    Case("19 nodes, two holders among empties", 19, True, "2 new; 16 empty!", X, 18, 2, 2, after=X),
    Case(
        "19 nodes, two holders, one empty accepts", 19, True, "2 new; empty; 15 empty!", X, 18, 2, 2, after=C
    ),
    Case("19 nodes, one group of ten liars", 19, True, "8 new; 10 old@evil!", C, 9, 9, 8),
    Case("19 nodes, the same with groups off", 19, False, "8 new; 10 old@evil!", X, 18, 18, 8, after=X),
    Case("19 nodes, ten silent", 19, True, "8 new", C, 8, 8, 8),
    # twenty-one nodes: S is full
    Case("21 nodes, all hold it", 21, True, "20 new", C, 20, 20, 20),
    Case("21 nodes, one holder among empties", 21, True, "new; 19 empty", X, 20, 1, 1, after=C),
    Case("21 nodes, one holder, all others roll back", 21, True, "new; 19 old!", X, 20, 20, 1, after=X),
    Case(
        "21 nodes, newer only outside S, rolled back",
        21,
        True,
        "20 old!",
        X,
        20,
        20,
        0,
        after=X,
        outside="new",
    ),
    Case(
        "21 nodes, newer only outside S, repaired", 21, True, "20 old", X, 20, 20, 0, after=C, outside="new"
    ),
    Case(
        "21 nodes, newer outside S, half refuse",
        21,
        True,
        "10 old; 10 old!",
        X,
        20,
        20,
        0,
        after=X,
        outside="new",
    ),
    Case("21 nodes, 11 newest and 9 liars", 21, False, "11 new; 9 old!", C, 20, 20, 11),
    Case("21 nodes, 10 newest and 10 liars", 21, False, "10 new; 10 old!", X, 20, 20, 10, after=X),
    Case("21 nodes, early end at k/2 + 1", 21, True, "11 new", C, 20, 20, 11, waiting=9),
    Case("21 nodes, too early at k/2", 21, True, "10 new", X, 20, 20, 10, waiting=10),
    Case("21 nodes, empties make it earlier", 21, True, "8 new; 5 empty", C, 20, 15, 8, waiting=7),
    Case(
        "21 nodes, timed out half way",
        21,
        True,
        "5 new",
        Verdict.TIMED_OUT,
        20,
        20,
        5,
        waiting=15,
        timed_out=True,
    ),
    Case("21 nodes, timed out but sure", 21, True, "11 new", C, 20, 20, 11, waiting=9, timed_out=True),
    Case("21 nodes, all empty", 21, True, "20 empty", A, 20, 0, 0, returns=None),
    Case(
        "21 nodes, none answered in time",
        21,
        True,
        "",
        Verdict.TIMED_OUT,
        0,
        0,
        0,
        timed_out=True,
        returns=None,
    ),
    Case("21 nodes, ten each of two twins", 21, True, "10 new; 10 twin", X, 20, 20, 10, after=X),
)


def parse(text: str, prefix: str) -> list[Answer]:
    """The answers written in a case; `prefix` keeps the nodes of two lists apart."""
    answers: list[Answer] = []
    for part in filter(None, (p.strip() for p in text.split(";"))):
        count, _, what = part.rpartition(" ")
        refuses = what.endswith("!")
        what, _, group = what.rstrip("!").partition("@")
        for _ in range(int(count or 1)):
            node = f"{prefix}{len(answers):03}".encode().ljust(ID_BYTES, b".")
            answers.append(Answer(Member(node, group or node.decode()), what, refuses))
    return answers


def decide(case: Case, *, repaired: bool = False) -> Confirmation:
    """Run one case; with `repaired` after the repair round that the first decision asked for."""
    inside = parse(case.answers, "s")
    if case.own:
        inside.append(Answer(Member(OWN, "own"), case.own, False))
    holdings = []
    for answer in (*inside, *parse(case.outside, "o")):
        version = VERSIONS[answer.what]
        if version is not None:
            holdings.append(Holding(answer.member.node, version))
    asked = decide(case).repair if repaired else ()
    return confirm(
        [a.member for a in inside],
        holdings,
        address_groups=case.groups,
        pending=[Member(f"w{i}".encode(), f"w{i}") for i in range(case.waiting)],
        receipts=[a.member.node for a in inside if a.member.node in asked and not a.refuses],
        own=OWN,
        content=case.content,
        first=case.first,
        others_known=case.nodes > 1,
        timed_out=case.timed_out,
        saw_invalid=any(a.what == "invalid" for a in inside),
    )


def markdown() -> str:
    """The table of cases for docs/protocol.md."""
    rows = [
        "| case | groups | answers in S | besides | u | m | c | verdict | after repair |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        besides = [f"own {case.own}"] if case.own else []
        besides += [f"outside {case.outside}"] if case.outside else []
        besides += [f"{case.waiting} waiting"] if case.waiting else []
        besides += [flag for flag in ("content", "first", "timed_out") if getattr(case, flag)]
        after = case.after.value if case.after else ""
        columns = (
            case.name,
            "on" if case.groups else "off",
            case.answers or "none",
            ", ".join(besides).replace("_", " "),
            case.u,
            case.m,
            case.c,
            case.verdict.value,
            after,
        )
        rows.append("| " + " | ".join(map(str, columns)) + " |")
    return "\n".join(rows) + "\n"
