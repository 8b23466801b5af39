"""Stakes: what holds when, what it costs to ask, and that a false one is none."""

from __future__ import annotations

import msgspec
import pytest

from pqdht.constants import DAY_MS, TESTNET
from pqdht.crypto import puzzle
from pqdht.crypto.labels import network_tag
from pqdht.errors import BadPuzzle
from pqdht.identity import stake
from pqdht.identity.contact import ContactVerifier
from pqdht.testing.fake import fake_suite

SUITE = fake_suite(1)
TAG = network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
NODE, OTHER = b"n" * 32, b"o" * 32
EPOCH = 2900
BEGINS = EPOCH * 7 * DAY_MS
NOW = BEGINS + 3 * DAY_MS


def find(bits: int = 5, node: bytes = NODE, epoch: int = EPOCH) -> stake.Stake:
    commit = stake.stake_commit(node, epoch)
    nonce = puzzle.search_range(SUITE.provider, puzzle.salt(TAG), commit, bits, 0, 1 << 16)
    assert nonce is not None
    return stake.solved(SUITE.provider, TAG, node, epoch, nonce)


def verify(raw: bytes, node: bytes = NODE, now: int = NOW, tag: bytes = TAG) -> int:
    return stake.verify_stake(SUITE.provider, tag, node, raw, now)


STAKE = find()
RAW = STAKE.to_wire()


def test_a_stake_says_its_bits_and_fits_into_a_contact() -> None:
    assert verify(RAW) == STAKE.bits >= 5
    assert len(RAW) == stake.SIZE == 45
    assert stake.parse_stake(RAW) == STAKE


def test_it_holds_in_its_week_and_the_first_day_of_the_next() -> None:
    end = BEGINS + 7 * DAY_MS
    assert stake.epoch_of(BEGINS) == EPOCH == stake.epoch_of(end - 1)
    assert stake.epoch_ends(EPOCH) == end
    for now in (BEGINS, end - 1, end, end + DAY_MS - 1):
        assert verify(RAW, now=now) == STAKE.bits
    for now in (BEGINS - 1, end + DAY_MS, end + 30 * DAY_MS, 0):
        with pytest.raises(BadPuzzle, match="week"):
            verify(RAW, now=now)


def test_it_is_of_one_node_one_network_and_one_week() -> None:
    later = RAW[:1] + (EPOCH + 1).to_bytes(4, "big") + RAW[5:]
    wrong_nonce = RAW[:5] + bytes(8) + RAW[13:]
    wrong_digest = RAW[:13] + bytes(32)
    for raw, more in (
        (RAW, {"node": OTHER}),
        (RAW, {"tag": b"x" * 32}),
        (later, {"now": NOW + 7 * DAY_MS}),
        (wrong_nonce, {}),
        (wrong_digest, {}),
    ):
        with pytest.raises(BadPuzzle, match="nonce"):
            verify(raw, **more)


@pytest.mark.parametrize("raw", [b"", RAW[:-1], RAW + b"\0", b"\0" + RAW[1:], b"\2" + RAW[1:]])
def test_what_cannot_be_read_is_refused_by_type(raw: bytes) -> None:
    with pytest.raises(BadPuzzle, match="version"):
        verify(raw)


def test_shares_grow_evenly_to_a_bound() -> None:
    assert [stake.share(b) for b in (0, 10, 20, 21, 256)] == [1.0, 1.5, 2.0, 2.0, 2.0]


# --- as the verifier of contacts sees it -------------------------------------------------------------


def verifier(**options: int) -> ContactVerifier:
    return ContactVerifier(SUITE, TESTNET, TAG, **options)


def test_both_outcomes_are_cached_and_time_is_looked_at_every_time() -> None:
    v = verifier()
    false = RAW[:13] + bytes(31) + b"\1"
    for _ in range(3):
        assert v.stake_bits(NODE, RAW, NOW) == STAKE.bits
        assert v.stake_bits(NODE, false, NOW) == 0
    assert v.argon2_runs == 2
    assert v.stake_bits(NODE, RAW, NOW + 30 * DAY_MS) == 0
    assert v.stake_bits(OTHER, RAW, NOW) == 0
    assert v.argon2_runs == 3


def test_what_cannot_hold_costs_no_argon2() -> None:
    v = verifier()
    useless = RAW[:13] + b"\xff" * 32
    for raw in (None, b"", RAW[:-1], useless, find(epoch=EPOCH + 1).to_wire()):
        assert v.stake_bits(NODE, raw, NOW) == 0
    assert v.argon2_runs == 0


def test_false_stakes_do_not_push_out_right_ones() -> None:
    v = verifier(cache_size=8)
    assert v.stake_bits(NODE, RAW, NOW)
    for i in range(100):
        assert v.stake_bits(NODE, RAW[:5] + i.to_bytes(8, "big") + bytes(32), NOW) == 0
    runs = v.argon2_runs
    assert v.stake_bits(NODE, RAW, NOW) == STAKE.bits
    assert v.argon2_runs == runs
    assert len(v._stakes._bad._keys) <= 2


def test_a_contact_with_a_false_stake_is_a_contact() -> None:
    from tests.unit.identity.test_contact import NODE as IDENTITY
    from tests.unit.identity.test_contact import NOW as THEN

    v = verifier()
    plain = v.verify(IDENTITY.contact(), THEN)
    for raw in (b"junk", RAW, RAW[:13] + bytes(32)):
        shown = msgspec.structs.replace(IDENTITY.contact(), stake=raw)
        checked = v.verify(shown, THEN)
        assert checked.node_id == plain.node_id
        assert checked.to_wire(with_key=False).stake == raw  # passed on as it came, and nobody's fault
        v.check_digest(shown)  # what evidence against a contact asks
