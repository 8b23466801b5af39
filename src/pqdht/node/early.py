"""What of an answer travels in the handshake."""

from __future__ import annotations

from itertools import accumulate

import msgspec

from ..channel.hello import MAX_EARLY
from ..crypto.api import Suite
from ..wire.codec import encode
from ..wire.messages import Body, Nodes, Values

ENVELOPE_ROOM = 640
"""An envelope without body and signature, with a batch proof of full depth, has at most about 570."""


def fit_early(body: Body, suite: Suite) -> Body | None:
    """The answer, with fewer KEM keys and then fewer far contacts where it is too long for a handshake
    message; None where that is not enough.

    A repeated question costs a round trip more than what is left out: the other closest nodes, which are
    asked too, name the same contacts.
    """
    room = MAX_EARLY - suite.node_signer.signature_size - ENVELOPE_ROOM - len(encode(body))
    if room >= 0:
        return body
    if not isinstance(body, Nodes | Values):
        return None
    contacts = body.contacts
    room += sum(len(encode(c)) for c in contacts)
    bare = [msgspec.structs.replace(c, kem_key=None) for c in contacts]
    sizes = accumulate(len(encode(c)) for c in bare)
    kept = tuple(c for c, total in zip(bare, sizes, strict=True) if total <= room)
    return msgspec.structs.replace(body, contacts=kept) if room >= 0 else None
