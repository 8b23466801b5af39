"""What is known of an own record: where it stands in the journal, who was asked to keep it, who promised."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from ..constants import MS
from ..errors import WireCode
from ..identity.contact import VerifiedContact
from ..identity.keys import OwnerIdentity
from ..kad.quorum import PutTally
from ..records import Record
from ..wire.codec import U63, Decoder, Struct
from ..wire.messages import WireRecord
from .results import StoreReceipt

STATE = "publication/"
FINAL = frozenset(
    code.name
    for code in (
        WireCode.CAS_MISMATCH,
        WireCode.OUTDATED,
        WireCode.EQUIVOCATION,
        WireCode.BAD_RECORD,
        WireCode.MALFORMED,
        WireCode.TOO_LARGE,
        WireCode.UNSUPPORTED,
    )
)
"""Refusals that asking again does not change."""
RETRY_FIRST_S, RETRY_MOST_S = 15.0, 300.0
"""What did not reach its quorum is tried again at once, then after the first and twice as long each time, up
to the second: whoever sits at a key and refuses must not have us search its region every 15 seconds."""
SECOND_PLACING_S = 60.0
"""What a young node placed it places once more after this, when its table is fuller."""


class Journal(Struct, frozen=True):
    """One own record on disk: written before it is sent, so that no timestamp is used twice."""

    record: WireRecord
    ttl_s: int
    renew: bool
    confirmed: bool
    is_refused: bool = False
    last: U63 = 0


decode_journal = Decoder(Journal, "publication", 128 * 1024)


@dataclass(slots=True)
class Publication:
    """An own record that is to stay findable."""

    record: Record
    owner: OwnerIdentity
    ttl_s: int
    renew: bool
    """Sign it anew, with a new timestamp, when half its life is over (announcements)."""
    confirmed: bool = False
    placed_at: int = 0
    """ms; when it last reached quorum"""
    is_placed_young: bool = False
    is_refused: bool = False
    """Storers will never take it: kept for its timestamp only."""
    last: int = 0
    """The highest timestamp used here, where a later version was refused."""
    replaced: Publication | None = None
    """The version before, which stands again if this one is refused."""

    tries: int = 0
    """Placings in a row that did not reach their quorum."""
    retry_at: float = 0.0
    """When to try again, in the event loop's seconds."""

    def put_off(self, now: float) -> None:
        """It did not reach its quorum; see `RETRY_FIRST_S`."""
        wait_s = RETRY_FIRST_S * (2 ** min(self.tries, 16) - 1)
        self.tries, self.retry_at = self.tries + 1, now + min(wait_s, RETRY_MOST_S)

    def interval_ms(self, usual_s: float) -> float:
        """How long after `placed_at` it is due again."""
        return MS * (min(usual_s, SECOND_PLACING_S) if self.is_placed_young else usual_s)


@dataclass(slots=True)
class Placement:
    """Who gets a record, and what they said."""

    record: Record
    tally: PutTally
    targets: list[tuple[VerifiedContact, str, bool]] = field(default_factory=list)
    """(contact, group, belongs to the k closest)"""
    receipts: list[StoreReceipt] = field(default_factory=list)
    bytes: int = 0
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: int = 0
    is_superseded: Callable[[], bool] = lambda: False
    """Whether we wrote a newer version meanwhile: who holds that has this one behind it."""

    @property
    def is_refused(self) -> bool:
        """Whether most of the k closest refuse for good, so that one liar's group cannot say so for all."""
        refusals = sum(r.counts and r.code in FINAL for r in self.receipts)
        return not self.tally.is_possible and 2 * refusals > len(self.tally.members)

    def add(self, receipt: StoreReceipt) -> None:
        """One node has spoken, or will not."""
        self.receipts.append(receipt)
        is_overtaken = receipt.code == WireCode.OUTDATED.name and self.is_superseded()
        if receipt.counts and (receipt.code == WireCode.OK.name or receipt.code in FINAL):
            self.tally.add(receipt.node, ok=is_overtaken or receipt.code not in FINAL)
        self.waiting -= 1
        if self.tally.reached or self.is_refused or self.waiting <= 0:
            self.reached.set()
