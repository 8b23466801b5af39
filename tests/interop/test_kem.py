"""ML-KEM and X-Wing against RustCrypto's: keys from seeds, encapsulations both ways, odd inputs."""

from __future__ import annotations

from hashlib import shake_256

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pqdht.crypto.api import Provider
from pqdht.crypto.xwing import _combine
from pqdht.errors import DecodeError
from tests.interop.peer import Peer, PeerRefused

KEMS = pytest.mark.parametrize("kem_name", ["MLKEM768", "MLKEM1024", "XWing"])
COINS = {"MLKEM768": 32, "MLKEM1024": 32, "XWing": 64}
"""Bytes of randomness the peer takes for one encapsulation."""
MLKEM_PUBLIC, MLKEM_CIPHERTEXT = 1184, 1088
LOW_ORDER = [bytes(32), bytes([1]) + bytes(31), (2**255 - 20).to_bytes(32, "little")]
"""Three of the X25519 points of low order: 0, 1, p - 1."""


def chosen(label: str, size: int) -> bytes:
    """Bytes that are the same in every run."""
    return shake_256(label.encode()).digest(size)


@KEMS
def test_both_ways(peer: Peer, provider: Provider, kem_name: str) -> None:
    kem = provider.kem(kem_name)
    for number in range(8):
        seed = chosen(f"{kem_name} seed {number}", kem.seed_size)
        ours = kem.private_key(seed)
        assert peer.ask("public", kem_name, seed) == [ours.public]
        ciphertext, secret = kem.public_key(ours.public).encapsulate()
        assert peer.ask("decapsulate", kem_name, seed, ciphertext) == [secret]
        coins = chosen(f"coins {number}", COINS[kem_name])
        ciphertext, secret = peer.ask("encapsulate", kem_name, ours.public, coins)
        assert len(ciphertext) == kem.ciphertext_size
        assert ours.decapsulate(ciphertext) == secret


@KEMS
def test_a_changed_ciphertext_gives_both_the_same_other_secret(
    peer: Peer, provider: Provider, kem_name: str
) -> None:
    """Implicit rejection (FIPS 203, 7.3) is deterministic, so two implementations must agree on it."""
    kem = provider.kem(kem_name)
    seed = chosen(kem_name, kem.seed_size)
    ours = kem.private_key(seed)
    ciphertext, secret = kem.public_key(ours.public).encapsulate()
    for at in (0, 500, len(ciphertext) - 1):
        changed = bytearray(ciphertext)
        changed[at] ^= 1
        other = ours.decapsulate(bytes(changed))
        assert other != secret
        assert peer.ask("decapsulate", kem_name, seed, bytes(changed)) == [other]


@KEMS
def test_both_refuse_a_key_outside_the_range(peer: Peer, provider: Provider, kem_name: str) -> None:
    kem = provider.kem(kem_name)
    bad = b"\xff" * 1152 + kem.generate().public[1152:]
    with pytest.raises(DecodeError):
        kem.public_key(bad)
    with pytest.raises(PeerRefused):
        peer.ask("encapsulate", kem_name, bad, bytes(COINS[kem_name]))


@pytest.mark.parametrize("point", LOW_ORDER, ids=["0", "1", "p-1"])
def test_x_wing_takes_points_of_low_order(peer: Peer, provider: Provider, point: bytes) -> None:
    """The draft does not refuse them, and both sides must do the same: as ciphertext and as public key."""
    kem = provider.kem("XWing")
    seed = chosen("low order", kem.seed_size)
    ours = kem.private_key(seed)
    ciphertext, _ = kem.public_key(ours.public).encapsulate()
    odd = ciphertext[:MLKEM_CIPHERTEXT] + point
    assert peer.ask("decapsulate", "XWing", seed, odd) == [ours.decapsulate(odd)]

    coins = chosen("coins", COINS["XWing"])
    theirs, secret = peer.ask("encapsulate", "XWing", ours.public[:MLKEM_PUBLIC] + point, coins)
    ct_x = X25519PrivateKey.from_private_bytes(coins[32:]).public_key().public_bytes_raw()
    assert theirs[MLKEM_CIPHERTEXT:] == ct_x
    mlkem = provider.kem("MLKEM768").private_key(shake_256(seed).digest(96)[:64])
    assert secret == _combine(mlkem.decapsulate(theirs[:MLKEM_CIPHERTEXT]), bytes(32), ct_x, point)
