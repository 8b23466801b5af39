"""wire.contact: the limits on what a contact may say about itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pqdht.constants import MAX_ADDRESS_LENGTH, MAX_ADDRESSES
from pqdht.errors import DecodeError
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.contact import Contact

from .sizes import CONTACT, ID, KEYED_CONTACT

decode = Decoder(Contact, "contact")
FULL = Contact(ID, ID, 1, bytes(8), ID, ("tcp/a:1",) * MAX_ADDRESSES, bytes(2048), 2**63 - 1, bytes(64))


@pytest.mark.parametrize("contact", [CONTACT, KEYED_CONTACT, FULL], ids=["plain", "keyed", "full"])
def test_round_trip(contact: Contact) -> None:
    assert decode(encode(contact)) == contact


def test_only_the_proof_of_identity_is_required() -> None:
    assert decode(msgspec.msgpack.encode([ID, ID, 1, bytes(8), ID])) == Contact(ID, ID, 1, bytes(8), ID)


def test_the_field_order_is_frozen() -> None:
    assert Contact.__struct_fields__ == (
        "signing_key_hash",
        "kem_key_hash",
        "born",
        "nonce",
        "digest",
        "addresses",
        "kem_key",
        "features",
        "stake",
    )


BAD: dict[str, dict[str, Any]] = {
    "short signing hash": {"signing_key_hash": bytes(31)},
    "long KEM hash": {"kem_key_hash": bytes(33)},
    "born before the epoch": {"born": -1},
    "born past 32 bits": {"born": 2**32},
    "short nonce": {"nonce": bytes(7)},
    "long nonce": {"nonce": bytes(9)},
    "long digest": {"digest": bytes(33)},
    "one address too many": {"addresses": ("tcp/a:1",) * (MAX_ADDRESSES + 1)},
    "too long an address": {"addresses": ("x" * (MAX_ADDRESS_LENGTH + 1),)},
    "an address of bytes": {"addresses": (b"tcp/a:1",)},
    "empty KEM key": {"kem_key": b""},
    "too long a KEM key": {"kem_key": bytes(2049)},
    "features past 63 bits": {"features": 2**63},
    "too long a stake": {"stake": bytes(65)},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_a_field_past_its_limit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(DecodeError, match="contact"):
        decode(encode(msgspec.structs.replace(FULL, **change)))


def test_an_address_at_its_limit_is_accepted() -> None:
    longest = msgspec.structs.replace(CONTACT, addresses=("x" * MAX_ADDRESS_LENGTH,))
    assert decode(encode(longest)) == longest
