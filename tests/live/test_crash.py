"""SIGKILL at random moments, the short form: `make crash-test` is the long one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.live.crash import Report, trial
from tests.live.harness import run


@pytest.mark.parametrize(("is_forked", "kills"), [(True, 10), (False, 2)], ids=["forked", "pqdht run"])
def test_every_receipt_is_kept(tmp_path: Path, is_forked: bool, kills: int) -> None:
    reports: list[Report] = []

    async def main() -> None:
        reports.append(await trial(tmp_path, kills, 7, is_forked=is_forked))

    run(main(), timeout_s=600.0)
    (report,) = reports
    assert report.lost == []
    assert report.damage == []
    assert report.kills >= kills
    assert report.receipts >= kills
    assert report.checks > 0
