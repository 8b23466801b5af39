"""SIGKILL at random moments of a node that others store on: is every receipt it signed kept?

python -m tests.live.crash --kills 200      prints the report as JSON (`make crash-test`)

The node is a process of the daemon (`pqdht run`, or with `--forked` a fork that runs the same without the
second of imports); the others are nodes of this process.  They store without pause: new
values, new versions, tombstones, values with a short life, several STOREs under way at once.  A kill falls
while they do (70 %), while the process starts (15 %), or while it answers the check after a start (15 %).
After every restart each value is asked for over the wire, and a copy of the database as the kill left it
is checked for damage.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import random
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pqdht import ControlError, Named, OwnerIdentity, RemoteError, SecureDHT, WireCode
from pqdht.constants import MAX_PAGE
from pqdht.daemon.requests import Get, Put
from pqdht.identity.contact import VerifiedContact
from pqdht.ids import NodeId
from pqdht.node.environment import split_bootstrap, system_clock
from pqdht.records import TOMBSTONE, Record, make_record
from pqdht.testing.processes import ProcessNode
from pqdht.testing.testnet import group_address
from pqdht.wire.messages import FindValue, Store, Stored, Values
from tests.live.harness import entry, make
from tests.live.zygote import ForkedNode

log = logging.getLogger(__name__)

WRITERS = 2
"""Nodes that store, each with STREAMS STOREs under way."""
STREAMS = 3
NAMES = 60
"""Values of each writer's owner: few enough that all can be asked for after every restart."""
BATCH = 6
ATTEMPTS = 3
LEFT_TO_EXPIRE, EXPIRED_FOR_MS = 5, 30_000
"""So many names hold values with a short life only, written again when the last is over for so long."""
MARGIN_MS = 3_000
STARTING_S, STARTING_FORKED_S = 1.5, 0.1
"""A kill while it starts falls within so many seconds of its beginning."""
ANSWERS_MOST = 30
SOON_S = 0.02
"""A kill while it stores falls up to so many seconds after one of so many answers: not so many seconds after
the first STORE, or what is met would depend on the speed of the machine."""


@dataclass
class Report:
    """What came of it."""

    kills: int = 0
    kills_while_storing: int = 0
    kills_while_starting: int = 0
    kills_while_checked: int = 0
    receipts: int = 0
    superseded: int = 0
    """Receipts for a version that a later receipt replaced."""
    checks: int = 0
    """Values asked for after a restart."""
    expired: int = 0
    """Of them, such whose life was over."""
    newer: int = 0
    """Of them, such where a newer version was found than a receipt had told of: it was killed in between."""
    lost: list[str] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    wal_bytes_max: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Slot:
    """One value: what was sent, and the newest version that a receipt promises."""

    key: bytes
    sent: dict[bytes, Record] = field(default_factory=dict)
    """by tbs"""
    promised: Record | None = None


class Writer:
    """A node that stores its owner's values on the victim."""

    def __init__(self, node: SecureDHT, dice: random.Random) -> None:
        self.node = node
        self.dice = dice
        self.owner = OwnerIdentity.generate(node.env.suite)
        self.slots = [Slot(Named(self.owner.owner_id, f"value {i}").key()) for i in range(NAMES)]
        self._last = 0

    def record(self, i: int) -> Record:
        """The next version of value `i`: a tombstone, one with a short life, or one of up to 16 KiB."""
        env = self.node.env
        self._last = max(self._last + 1, env.clock())
        kind = self.dice.choices(["deleted", "short", "small", "large"], [10, 10, 60, 20])[0]
        kind = "short" if i < LEFT_TO_EXPIRE else kind
        most = {"deleted": 0, "large": 16_384}.get(kind, 512)
        limits = env.params.limits
        ttl = {"deleted": limits.ttl_max_s, "short": limits.ttl_min_s}.get(kind, 86_400)
        record = make_record(
            env.suite,
            env.network_tag,
            self.owner,
            Named(self.owner.owner_id, f"value {i}"),
            self.dice.randbytes(self.dice.randint(min(1, most), most)),
            ttl=ttl,
            timestamp=self._last,
            flags=TOMBSTONE if kind == "deleted" else 0,
            params=env.params,
        )
        self.slots[i].sent[record.wire.tbs] = record
        return record

    def _batch(self) -> list[tuple[int, Record]]:
        """(number of the value, its next version), as many as a STORE holds."""
        records: list[tuple[int, Record]] = []
        for i in self.dice.sample(range(NAMES), self.dice.randint(1, BATCH)):
            last = self.slots[i].promised
            is_left = i < LEFT_TO_EXPIRE and last is not None and self._last < last.expires + EXPIRED_FOR_MS
            if not is_left and sum(r.size for _, r in records) < MAX_PAGE // 2:
                records.append((i, self.record(i)))
        return records or [(NAMES - 1, self.record(NAMES - 1))]

    async def store(self, to: VerifiedContact, report: Report, answered: Callable[[], None]) -> None:
        """STORE batch after batch until the victim is gone."""
        while True:
            records = self._batch()
            try:
                answer = await self.node._peers.request(to, Store(tuple(r.wire for _, r in records)))
            except RemoteError:
                return
            answered()
            assert isinstance(answer.body, Stored)
            for (i, record), receipt in zip(records, answer.body.receipts, strict=True):
                if receipt.code == WireCode.OUTDATED:  # a later STORE of ours overtook it
                    continue
                assert (receipt.record_id, receipt.code) == (record.record_id, WireCode.OK)
                report.receipts += 1
                slot = self.slots[i]
                if slot.promised is not None:
                    report.superseded += 1
                if slot.promised is None or slot.promised.timestamp < record.timestamp:
                    slot.promised = record

    async def check(self, at: VerifiedContact, report: Report) -> None:
        """Ask the victim for everything. Raises RemoteError where it is killed meanwhile."""
        for slot in self.slots:
            if slot.promised is None:
                continue
            body = await self._ask(at, slot)
            report.checks += 1
            if said := self._judge(slot, body, report):
                report.lost.append(f"after kill {report.kills}: {said}")

    async def _ask(self, at: VerifiedContact, slot: Slot) -> Values:
        """Both dial each other after a start, and the session that gives way may take a question with it."""
        for attempt in range(ATTEMPTS):
            try:
                answer = await self.node._peers.request(at, FindValue(slot.key, self.owner.owner_id))
            except RemoteError:
                if attempt == ATTEMPTS - 1:
                    raise
            else:
                assert isinstance(answer.body, Values)
                return answer.body
        raise AssertionError

    @staticmethod
    def _judge(slot: Slot, body: Values, report: Report) -> str:
        """'' where the promise was kept."""
        promised = slot.promised
        assert promised is not None
        if not body.records:
            if promised.expires <= system_clock() + MARGIN_MS:
                report.expired += 1
                return ""
            return f"nothing under {slot.key.hex()}, promised version {promised.timestamp}"
        found = slot.sent.get(body.records[0].tbs)
        if found is None or len(body.records) > 1 or found.wire != body.records[0]:
            return f"under {slot.key.hex()} something that was never sent"
        if found.expires <= system_clock() - MARGIN_MS:
            return f"under {slot.key.hex()} version {found.timestamp}, whose life is over"
        if found.timestamp < promised.timestamp:
            return f"under {slot.key.hex()} version {found.timestamp}, promised {promised.timestamp}"
        report.newer += found.timestamp > promised.timestamp
        return ""


class Trial:
    """One victim, killed again and again."""

    def __init__(self, directory: Path, seed: int, is_forked: bool) -> None:
        self.dice = random.Random(seed)
        self.victim: ForkedNode | ProcessNode = (
            ForkedNode(group_address(9), directory)
            if is_forked
            else ProcessNode(9, group_address(9), directory, network="demo")
        )
        self.starting_s = STARTING_FORKED_S if is_forked else STARTING_S
        self.report = Report()
        self.own_timestamp = 0
        self._directory = directory

    async def run(self, kills: int) -> Report:
        """All kills, and a last check after the last."""
        began = time.monotonic()
        async with contextlib.AsyncExitStack() as stack:
            first = await stack.enter_async_context(make(0))
            nodes = [first]
            for i in range(1, WRITERS):
                nodes.append(await stack.enter_async_context(make(i, bootstrap=(entry(first),))))
            self.writers = [Writer(n, random.Random(f"{self.dice.random()}")) for n in nodes]
            try:
                await self._start(entry(first))
                while self.report.kills < kills:
                    await self._one_kill()
                    log.info("%s", self.report)
                await self._check(await self._contacts())
            finally:
                await self.victim.close()
        self.report.seconds = time.monotonic() - began
        return self.report

    async def _start(self, bootstrap: str) -> None:
        await self.victim.start((bootstrap,))
        put = await self.victim.call(Put(name="own", value="00"))
        self.own_timestamp = put["timestamp"]
        node_id, address = split_bootstrap(self.victim.entry)
        victim = NodeId(node_id), address
        for writer in self.writers:  # each has once dialled it, or its deaths would count as a liar's hints
            peers = writer.node._peers
            while victim not in peers._reached:
                for conn in list(peers._all):
                    conn.close()
                with contextlib.suppress(RemoteError):
                    await writer.node._entrance.reach(*victim)

    async def _one_kill(self) -> None:
        contacts = await self._contacts()
        how = self.dice.choices(["storing", "checked", "starting"], [70, 15, 15])[0]
        if how == "checked":
            await self._killed(self._check(contacts), asyncio.sleep(self.dice.uniform(0.0, 0.2)))
            self.report.kills_while_checked += 1
        else:
            await self._check(contacts)
            await self._killed_storing(contacts)
            self.report.kills_while_storing += 1
        self.report.kills += 1
        self._examine()
        if how == "starting":
            await self._killed(self.victim.start(), asyncio.sleep(self.dice.uniform(0.0, self.starting_s)))
            self.report.kills += 1
            self.report.kills_while_starting += 1
            self._examine()
        await self.victim.start()

    async def _killed_storing(self, contacts: list[VerifiedContact]) -> None:
        waited = self.dice.randint(1, ANSWERS_MOST)
        enough = asyncio.Event()

        def answered() -> None:
            nonlocal waited
            waited -= 1
            if waited <= 0:
                enough.set()

        async def moment() -> None:
            await enough.wait()
            await asyncio.sleep(self.dice.uniform(0.0, SOON_S))

        pairs = list(zip(self.writers, contacts, strict=True)) * STREAMS
        await self._killed(asyncio.gather(*(w.store(c, self.report, answered) for w, c in pairs)), moment())

    async def _killed(self, work: Awaitable[Any], moment: Awaitable[None]) -> None:
        """SIGKILL at a moment of some work, which then fails."""
        task = asyncio.ensure_future(work)
        await moment
        while not self.victim.is_running and not task.done():  # noqa: ASYNC110 it is being spawned
            await asyncio.sleep(0)
        if self.victim.is_running:
            await self.victim.kill()
        with contextlib.suppress(RemoteError, ControlError):
            await task

    async def _contacts(self) -> list[VerifiedContact]:
        """The victim as each writer dials it."""
        return [await w.node._entrance.reach(*split_bootstrap(self.victim.entry)) for w in self.writers]

    async def _check(self, contacts: list[VerifiedContact]) -> None:
        own = await self.victim.call(Get(name="own"))
        if own["timestamp"] < self.own_timestamp:
            self.report.lost.append(f"after kill {self.report.kills}: its own record")
        await asyncio.gather(
            *(w.check(c, self.report) for w, c in zip(self.writers, contacts, strict=True))
        )

    def _examine(self) -> None:
        """Check a copy of the database as it was left: opening the original would mend it."""
        if aside := sorted(p.name for p in self._directory.glob("*.corrupt-*")):
            self.report.damage.append(f"kill {self.report.kills}: set aside {aside}")
        with tempfile.TemporaryDirectory() as copy:
            for suffix in ("", "-wal"):
                path = self._directory / f"records.sqlite{suffix}"
                if path.exists():
                    shutil.copy(path, copy)
            wal = Path(copy) / "records.sqlite-wal"
            if wal.exists():
                self.report.wal_bytes_max = max(self.report.wal_bytes_max, wal.stat().st_size)
            with contextlib.closing(sqlite3.connect(Path(copy) / "records.sqlite")) as db:
                (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
                if verdict != "ok":
                    self.report.damage.append(f"kill {self.report.kills}: {verdict}")


async def trial(directory: Path, kills: int, seed: int, *, is_forked: bool) -> Report:
    """At least `kills` kills of a node with its state in `directory`."""
    return await Trial(directory, seed, is_forked).run(kills)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=int.from_bytes(random.randbytes(4), "big"))
    parser.add_argument("--forked", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    log.setLevel(logging.INFO)
    with tempfile.TemporaryDirectory() as directory:
        report = asyncio.run(
            trial(Path(directory), arguments.kills, arguments.seed, is_forked=arguments.forked)
        )
    print(json.dumps({"seed": arguments.seed, **vars(report)}))
    if report.lost or report.damage:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
