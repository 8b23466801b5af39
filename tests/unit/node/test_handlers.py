"""What fits into one answer."""

from __future__ import annotations

from typing import Any

import pytest

from pqdht.constants import MAX_MESSAGE
from pqdht.node.handlers import ENVELOPE_ROOM, Handlers
from pqdht.node.keeper import Keeper
from pqdht.node.routing import Routing
from pqdht.records import Named, Topic
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from pqdht.wire.messages import Error, FindValue
from tests.unit.node.parts import environment, identity, sign


class Asker:
    """The little of a connection that an answer looks at."""

    peer = None


async def crowd(routing: Routing, env: Any, n: int, query: int) -> None:
    """`n` peers with addresses as long as they may be."""
    for i in range(n):
        texts = [f"obfs4/10.{i}.{j}.1:443?" + "c" * query for j in range(4)]
        contact = env.contacts.verify((await identity(env)).contact(tuple(texts), with_key=True), env.clock())
        routing.table.add(contact.node_id, contact, f"10.{i}.0.0/24", f"10.{i}.0.0/24", 0.0)


@pytest.mark.parametrize("query", [10, 90, 200, 450])
def test_contacts_never_crowd_out_a_record(query: int) -> None:
    async def main() -> None:
        env, _ = await environment()
        routing, keeper = Routing(env), Keeper(env)
        handlers = Handlers(env, routing, keeper)
        record = sign(env, bytes(env.params.limits.max_value))
        await keeper.keep([record.wire], "g")
        await crowd(routing, env, 20, query)
        answer = handlers._find_value(Asker(), FindValue(record.key))  # type: ignore[arg-type]
        assert not isinstance(answer, Error)
        assert answer.records == (record.wire,)
        assert len(encode(answer)) <= MAX_MESSAGE - ENVELOPE_ROOM
        assert len(answer.contacts) >= 15
        empty = handlers._find_value(Asker(), FindValue(bytes(32)))  # type: ignore[arg-type]
        assert not isinstance(empty, Error)
        assert len(empty.contacts) == 20
        assert sum(c.kem_key is not None for c in empty.contacts) == 2

    run(main)


def test_a_full_page_leaves_room_for_what_fits_and_is_continued() -> None:
    async def main() -> None:
        env, _ = await environment()
        routing, keeper = Routing(env), Keeper(env)
        handlers = Handlers(env, routing, keeper)
        at = Topic("t")
        for i in range(8):
            owner = type(env.owner).generate(env.suite)
            record = sign(env, bytes(2000 + i), at=at, owner=owner, node=await identity(env))
            assert (await keeper.keep([record.wire], "g"))[0].code == 0
        await crowd(routing, env, 20, 100)
        seen: list[bytes] = []
        cursor: bytes | None = None
        for _ in range(9):
            answer = handlers._find_value(Asker(), FindValue(at.key(), None, cursor=cursor))  # type: ignore[arg-type]
            assert not isinstance(answer, Error)
            assert len(encode(answer)) <= MAX_MESSAGE - ENVELOPE_ROOM
            assert bool(answer.contacts) == (cursor is None)
            seen += [env.records.parse(w).record_id for w in answer.records]
            cursor = answer.cursor
            if cursor is None:
                break
        assert sorted(seen) == seen
        assert len(seen) == 8

    run(main)


def test_a_closed_store_is_our_failure() -> None:
    async def main() -> None:
        env, _ = await environment()
        handlers = Handlers(env, Routing(env), Keeper(env))
        await env.store.close()
        key = Named(env.owner.owner_id, "x").key()
        answer = handlers._find_value(Asker(), FindValue(key))  # type: ignore[arg-type]
        assert isinstance(answer, Error)
        assert env.counters["reads_failed"] == 1

    run(main)
