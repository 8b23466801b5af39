#!/usr/bin/env python3
"""Check the handshake models: models/check.py [--show] [--pending] [NAME ...]

Each case of cases.toml is a model (pqik.vp or pqxx.vp) cut after one of its messages, with keys that leak
at once or later, and for each query the verdict we expect of Verifpal: "holds" or "attack".  An attack
that is not found any more is as much an error as a new one.  NAME chooses cases by a part of their name;
--show prints the assembled models instead of running them; --pending takes the cases of pending.toml.

Needs the program verifpal: $PQDHT_VERIFPAL, .venv/verifpal/bin/verifpal (`make install-verifpal`) or one
on PATH.  Exit status: 0 as expected, 1 not, 3 no verifpal.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERDICTS = {"0": "holds", "1": "attack"}


class Failed(Exception):
    """A case that cannot be assembled, or that verifpal refuses."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to verifpal. The fields are those of cases.toml; README.md explains them."""

    name: str
    model: str
    ask: dict[str, str]
    why: str
    until: str | None = None
    sessions: int = 2
    attacker: str = "active"
    leaks: dict[str, list[str]] = field(default_factory=dict)
    later: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    replace: dict[str, str] = field(default_factory=dict)
    insert: dict[str, str] = field(default_factory=dict)
    scenarios: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The whole model."""
        text = (HERE / f"{self.model}.vp").read_text()
        if self.until is not None:
            text = _once(text, f"//@ {self.until}\n")[0]
        text = text.replace("attacker[active]", f"attacker[{self.attacker}]")
        for old, new in self.replace.items():
            text = new.join(_once(text, old))
        for start in self.without:
            before, after = _once(text, f"\t{start}")
            text = before + after.split("\n", 1)[1]
        if not self.scenarios:  # Alice means Bob
            text = re.sub(r"\bto_(gs|id)\b", r"\1_b", text)
        for who, names in self.leaks.items():
            text = f"leaks {', '.join(names)}".join(_once(text, f"//@ {who}"))
        for mark, lines in self.insert.items():
            text = lines.join(_once(text, f"//@ {mark}"))
        text = re.sub(r"^\s*//@.*\n", "", text, flags=re.MULTILINE)
        if self.later:  # by somebody else: a principal that has stopped leaks nothing
            keys = ", ".join(self.later)
            text += f"\nphase[1]\n\nprincipal Thief[\n\tknows private {keys}\n\tleaks {keys}\n]\n"
        if self.scenarios:
            text += "\nscenarios[\n" + "".join(f"\t{s}\n" for s in self.scenarios) + "]\n"
        return text + "\nqueries[\n" + "".join(f"\t{q}\n" for q in self.ask) + "]\n"


def _once(text: str, part: str) -> list[str]:
    """What is before and after `part`, which must be there once."""
    pieces = text.split(part)
    if len(pieces) != 2:
        raise Failed(f"{part!r} is in the model {len(pieces) - 1} times, not once")
    return pieces


def read_cases(name: str = "cases.toml") -> list[Case]:
    return [Case(**c) for c in tomllib.loads((HERE / name).read_text())["case"]]


def find_verifpal() -> str | None:
    """The program, or None."""
    places = [os.environ.get("PQDHT_VERIFPAL"), str(HERE.parent / ".venv/verifpal/bin/verifpal"), "verifpal"]
    return next((found for p in places if p and (found := shutil.which(p))), None)


def verdicts(verifpal: str, case: Case) -> dict[str, str]:
    """Query -> "holds" or "attack". Raises Failed with what verifpal said."""
    with tempfile.TemporaryDirectory(prefix="pqdht-model-") as folder:
        path = Path(folder) / "model.vp"
        path.write_text(case.text())
        command = [verifpal, "verify", str(path), "--result-code", "--sessions", str(case.sessions)]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    code = done.stdout.rstrip().rpartition("\n")[2]
    found = re.fullmatch(r"(?:[a-z][01])+", code)
    if found is None or len(code) != 2 * len(case.ask):
        raise Failed(f"{case.name}: no verdict\n{(done.stdout + done.stderr)[-2000:]}")
    return {q: VERDICTS[code[2 * i + 1]] for i, q in enumerate(case.ask)}


def main(arguments: list[str]) -> int:
    names = [a for a in arguments if not a.startswith("-")]
    found = read_cases("pending.toml" if "--pending" in arguments else "cases.toml")
    cases = [c for c in found if not names or any(n in c.name for n in names)]
    if "--show" in arguments:
        for case in cases:
            print(f"// {case.name}\n{case.text()}")
        return 0
    verifpal = find_verifpal()
    if verifpal is None:
        print("verifpal is missing; run: make install-verifpal", file=sys.stderr)
        return 3
    wrong = 0
    for case in cases:
        got = verdicts(verifpal, case)
        print(f"{case.model} {case.name} ({case.sessions} sessions)", flush=True)
        for query, expected in case.ask.items():
            mark = "" if got[query] == expected else f"   <-- expected: {expected}"
            wrong += got[query] != expected
            print(f"    {got[query]:7} {query}{mark}", flush=True)
    print(f"{len(cases)} cases, {sum(len(c.ask) for c in cases)} queries, {wrong} not as expected")
    return 1 if wrong or not cases else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
