"""Labels keep purposes apart only while they are unique and prefix-free."""

from __future__ import annotations

import itertools
from hashlib import sha3_256

import pytest

from pqdht.crypto import labels


def test_labels_are_unique_and_prefix_free() -> None:
    found = labels.all_labels()
    assert len(found) >= 25
    for (name_a, a), (name_b, b) in itertools.permutations(found.items(), 2):
        assert not a.startswith(b), f"{name_b} is a prefix of {name_a}"


@pytest.mark.parametrize("label", labels.all_labels().values(), ids=labels.all_labels())
def test_label_form(label: bytes) -> None:
    assert label.startswith(b"pqdht/1/")
    assert label.endswith(b"\0")
    assert label.count(b"\0") == 1
    assert label[:-1].decode("ascii").isprintable()


def test_labels_never_change() -> None:
    """A changed label is another network. A new one adds a line: then set the new hash here."""
    text = b"".join(label for _, label in sorted(labels.all_labels().items()))
    assert sha3_256(text).hexdigest() == "be2b1d07afe011008c09772fe06118a614c063af6c1e8152684469a1a1afcaa6"


def test_tagged_hash_is_sha3_256_of_the_concatenation() -> None:
    assert labels.tagged_hash(b"l\0", b"ab", b"", b"c") == sha3_256(b"l\0abc").digest()


def test_network_tag_depends_on_each_input() -> None:
    tag = labels.network_tag("main", bytes(16), 1)
    assert tag == sha3_256(b"pqdht/1/network-tag\0main" + bytes(16) + b"\1").digest()
    others = [
        labels.network_tag("main2", bytes(16), 1),
        labels.network_tag("main", bytes(15) + b"\1", 1),
        labels.network_tag("main", bytes(16), 2),
    ]
    assert len({tag, *others}) == 4
    with pytest.raises(ValueError, match="16 bytes"):
        labels.network_tag("main", bytes(15), 1)
