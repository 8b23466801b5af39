"""A contact as it travels: enough to check who a node is and to try to reach it (section 2)."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..constants import MAX_ADDRESS_LENGTH, MAX_ADDRESSES
from .codec import U32, U63, Bytes8, Bytes32, Struct

AddressText = Annotated[str, msgspec.Meta(max_length=MAX_ADDRESS_LENGTH)]
ADDRESS_ROOM = 480
"""Bytes of all addresses of one contact, each with 3 of encoding: with them a contact without its key has
about 600, so that twenty fit into one answer beside its records."""
StakeBytes = Annotated[bytes, msgspec.Meta(max_length=64)]
KemKey = Annotated[bytes, msgspec.Meta(min_length=1, max_length=2048)]


class Contact(Struct, frozen=True):
    """Wire form. Nothing in it may be believed before `identity.ContactVerifier` checked it.

    About 160 bytes without `kem_key`; with X-Wing's key 1,216 more.
    """

    signing_key_hash: Bytes32
    kem_key_hash: Bytes32
    born: U32
    """Day number (days since the epoch)."""
    nonce: Bytes8
    digest: Bytes32
    addresses: Annotated[tuple[AddressText, ...], msgspec.Meta(max_length=MAX_ADDRESSES)] = ()
    kem_key: KemKey | None = None
    features: U63 = 0
    stake: StakeBytes | None = None
    """See `identity.stake`; one that does not hold is as none."""
