"""What the daemon tells its user unasked: who enters and leaves the table, and a disk that fails."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from ..node.dht import SecureDHT

_log = logging.getLogger(__name__)

INTERVAL_S = 1.0
FAILED_COMMITS = "commits_failed."
SHOWN = ("table_refused.", "failed.", FAILED_COMMITS)
"""Counters whose growth is worth a line of the log."""


class Watch:
    """Looks at a node every second: logs what changed, and reports the first write that failed."""

    def __init__(self, dht: SecureDHT, report: Callable[[dict[str, Any]], None]) -> None:
        self._dht = dht
        self._report = report
        self._peers: dict[str, str] = {}
        self._counted: dict[str, int] = {}
        self._has_warned = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(INTERVAL_S)

    def look(self) -> None:
        """Compare the node with what it was."""
        peers = {p.node_id.hex(): " ".join(map(str, p.addresses)) for p in self._dht.peers()}
        for node, addresses in peers.items():
            if node not in self._peers:
                _log.info("%s at %s entered the table", node, addresses)
        for node in self._peers:
            if node not in peers:
                _log.info("%s left the table", node)
        counters = {n: c for n, c in sorted(self._dht.env.counters.items()) if n.startswith(SHOWN)}
        for name, count in counters.items():
            if count > self._counted.get(name, 0):
                _log.info("%s is %d now", name, count)
        self._peers, self._counted = peers, counters
        failed = {
            n.removeprefix(FAILED_COMMITS): c for n, c in counters.items() if n.startswith(FAILED_COMMITS)
        }
        if failed and not self._has_warned:
            self._has_warned = True
            self._warn(failed)

    def _warn(self, failed: dict[str, int]) -> None:
        full = "STORAGE_FULL" in failed
        message = (
            "records cannot be written: the disk is full; free some space, until then this node refuses"
            " what others store"
            if full
            else "records cannot be written: look at the disk and the data directory's permissions"
        )
        _log.warning("%s", message)
        self._report({"event": "storage_failing", "message": message, "failed": failed})
