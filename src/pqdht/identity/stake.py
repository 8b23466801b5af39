"""Stake: a further puzzle of a node, for one week, as hard as the node likes (section 2).  Pure.

    commit = H(STAKE || node_id || epoch u32)                           epoch = day // 7
    digest = Argon2id(commit || nonce[8], salt of the network)          as the puzzle of the node id
    stake  = version u8 = 1 || epoch u32 || nonce[8] || digest[32]      45 bytes

Its bits are the leading zero bits of the digest.  It hangs on the node id, not on the keys: one pair of
keys has as many ids as its owner finds nonces, and each is to pay for itself.  Nothing in it is unknown
beforehand, so stakes of coming weeks can be made in advance, for as long as the id will live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..constants import DAY_MS
from ..crypto import puzzle
from ..crypto.labels import STAKE, tagged_hash
from ..errors import BadPuzzle
from ..ids import leading_zero_bits

if TYPE_CHECKING:
    from ..crypto.api import Provider

VERSION = 1
EPOCH_DAYS = 7
"""Days of an epoch; the first began on 1 January 1970, so epochs change on Thursdays, 0:00 UTC."""
SIZE = 1 + 4 + puzzle.NONCE_SIZE + 32
FULL_BITS = 20
"""So many bits, about 140 s of one core a week, give the largest share; more raise the topic rank only."""
SHARE_MOST = 2.0
"""The largest share: what a node id may ask then is all that its address group may."""


@dataclass(frozen=True, slots=True)
class Stake:
    """A stake that can be read; whether the digest is true is `verify_stake`'s to say."""

    epoch: int
    nonce: bytes
    digest: bytes

    @property
    def bits(self) -> int:
        """Leading zero bits claimed."""
        return leading_zero_bits(self.digest)

    def to_wire(self) -> bytes:
        """45 bytes, for `Contact.stake`."""
        return bytes((VERSION,)) + self.epoch.to_bytes(4, "big") + self.nonce + self.digest


def epoch_of(now_ms: int) -> int:
    """The week a time (ms) lies in."""
    return now_ms // DAY_MS // EPOCH_DAYS


def epoch_ends(epoch: int) -> int:
    """When the next one begins, ms."""
    return (epoch + 1) * EPOCH_DAYS * DAY_MS


def parse_stake(raw: bytes) -> Stake:
    """Raises BadPuzzle for another length or version."""
    if len(raw) != SIZE or raw[0] != VERSION:
        raise BadPuzzle(f"a stake has {SIZE} bytes and version {VERSION}")
    return Stake(int.from_bytes(raw[1:5], "big"), raw[5:13], raw[13:])


def check_epoch(stake: Stake, now_ms: int) -> None:
    """Raises BadPuzzle unless `now_ms` lies in the stake's week or the first day after it."""
    epoch = epoch_of(now_ms)
    grace = now_ms < epoch_ends(stake.epoch) + DAY_MS
    if stake.epoch != epoch and not (stake.epoch == epoch - 1 and grace):
        raise BadPuzzle(f"the stake is for week {stake.epoch}, this is {epoch}", epoch=stake.epoch)


def stake_commit(node_id: bytes, epoch: int) -> bytes:
    """The 32 bytes whose nonce is searched (`puzzle.search_range`)."""
    return tagged_hash(STAKE, node_id, epoch.to_bytes(4, "big"))


def solved(provider: Provider, network_tag: bytes, node_id: bytes, epoch: int, nonce: bytes) -> Stake:
    """The stake that a nonce (8 B) gives: one Argon2id run."""
    commit = stake_commit(node_id, epoch)
    return Stake(epoch, nonce, puzzle.digest(provider, network_tag, commit, nonce))


def verify_stake(provider: Provider, network_tag: bytes, node_id: bytes, raw: bytes, now_ms: int) -> int:
    """The bits of a stake, after every check: one Argon2id run.  Raises BadPuzzle."""
    stake = parse_stake(raw)
    check_epoch(stake, now_ms)
    puzzle.check(provider, network_tag, stake_commit(node_id, stake.epoch), stake.nonce, stake.digest)
    return stake.bits


def share(bits: int) -> float:
    """What a stake multiplies: 1.0 without one, up to `SHARE_MOST`, even steps per bit."""
    return 1.0 + (SHARE_MOST - 1.0) * min(bits, FULL_BITS) / FULL_BITS
