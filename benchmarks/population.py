"""Nodes and records that nobody runs: contacts to fill a table with, callers never seen before, values.

Made with real keys and puzzles; `python -m benchmarks.population contacts|records count file` writes them
to a file, so that a process whose memory is measured need not make them itself.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks.figures import FULL, VALUE_BYTES
from pqdht.config import Config
from pqdht.constants import DAY_S, ParameterSet
from pqdht.crypto.api import Suite
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, born_day, new_commit
from pqdht.node.environment import choose_suite, system_clock, tag_of
from pqdht.node.identities import solve
from pqdht.records import Named, make_record
from pqdht.testing.testnet import group_address
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import WireRecord

OWNERS = 100
_contacts = Decoder(tuple[Contact, ...], "contacts", 64 * 2**20)
_records = Decoder(tuple[WireRecord, ...], "records", 512 * 2**20)


async def identities(suite: Suite, params: ParameterSet, count: int) -> list[NodeIdentity]:
    """Fresh node identities: keys, and a puzzle solved."""
    config = Config(network=params)
    born, tag = born_day(system_clock()), tag_of(config)
    bits = params.puzzle_bits(born)
    return [await solve(new_commit(suite, tag, born), bits) for _ in range(count)]


def address(index: int) -> str:
    """Each in a /24 of its own; nobody listens there."""
    return f"tcp/{group_address(10_000 + index)}:4733"


async def contacts(suite: Suite, count: int) -> tuple[Contact, ...]:
    """Contacts of `count` nodes, with their KEM keys, as a handshake leaves them."""
    made = await identities(suite, FULL.params, count)
    return tuple(node.contact((address(i),), with_key=True) for i, node in enumerate(made))


def records(suite: Suite, count: int) -> tuple[WireRecord, ...]:
    """Signed values of 200 bytes, of up to 100 owners."""
    params = FULL.params
    tag, now = tag_of(Config(network=params)), system_clock()
    owners = [OwnerIdentity.generate(suite) for _ in range(min(OWNERS, count))]
    made: list[WireRecord] = []
    for i in range(count):
        owner = owners[i % len(owners)]
        value = i.to_bytes(4, "big").ljust(VALUE_BYTES, b"v")
        where = Named(owner.owner_id, f"value {i}")
        record = make_record(
            suite, tag, owner, where, value, ttl=DAY_S, timestamp=now, params=params
        )
        made.append(record.wire)
    return tuple(made)


def load_contacts(path: Path) -> tuple[Contact, ...]:
    """What `contacts` wrote."""
    return _contacts(path.read_bytes())


def load_records(path: Path) -> tuple[WireRecord, ...]:
    """What `records` wrote."""
    return _records(path.read_bytes())


def main() -> None:
    what, count, path = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    suite = choose_suite(Config(network=FULL.params), None)
    made: object = asyncio.run(contacts(suite, count)) if what == "contacts" else records(suite, count)
    path.write_bytes(encode(made))


if __name__ == "__main__":
    main()
