"""What fits into one answer."""

from __future__ import annotations

from typing import Any

import pytest

from pqdht.constants import KNOWN_PREFIX, MAX_FINDS, MAX_MESSAGE
from pqdht.node.guard import Guard
from pqdht.node.handlers import ENVELOPE_ROOM, Handlers
from pqdht.node.keeper import Keeper
from pqdht.node.routing import Routing
from pqdht.records import Named, Topic
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from pqdht.wire.messages import Error, FindValue, FindValues, Values, ValuesList
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
        routing, keeper = Routing(env, Guard(env)), Keeper(env)
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
        routing, keeper = Routing(env, Guard(env)), Keeper(env)
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
        handlers = Handlers(env, Routing(env, Guard(env)), Keeper(env))
        await env.store.close()
        key = Named(env.owner.owner_id, "x").key()
        answer = handlers._find_value(Asker(), FindValue(key))  # type: ignore[arg-type]
        assert isinstance(answer, Error)
        assert env.counters["reads_failed"] == 1

    run(main)


def test_contacts_the_asker_knows_are_left_out() -> None:
    async def main() -> None:
        env, _ = await environment()
        routing = Routing(env, Guard(env))
        handlers = Handlers(env, routing, Keeper(env))
        await crowd(routing, env, 10, 10)
        asker: Any = Asker()
        all_told = handlers._find_value(asker, FindValue(bytes(32)))
        assert isinstance(all_told, Values)
        ids = [env.contacts.claimed_id(c) for c in all_told.contacts]
        known = b"".join(i[:KNOWN_PREFIX] for i in ids[:7])
        rest = handlers._find_value(asker, FindValue(bytes(32), known=known))
        assert isinstance(rest, Values)
        assert [env.contacts.claimed_id(c) for c in rest.contacts] == ids[7:]
        assert [c.kem_key is not None for c in rest.contacts] == [True, True, False]
        cut = handlers._find_value(asker, FindValue(bytes(32), known=known[:-1]))  # no whole id at its end
        assert isinstance(cut, Values)
        assert len(cut.contacts) == 4
        nobody = handlers._find_value(asker, FindValue(bytes(32), closer_than=bytes(32)))
        assert isinstance(nobody, Values)
        assert nobody.contacts == ()

    run(main)


def test_briefly_asked_only_ids_are_told() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        handlers = Handlers(env, Routing(env, Guard(env)), keeper)
        record = sign(env, b"x")
        await keeper.keep([record.wire], "g")
        asker: Any = Asker()
        answer = handlers._find_value(asker, FindValue(record.key, record.owner_id, brief=True))
        assert answer == Values(record.key, (), (record.record_id,), ())

    run(main)


def test_many_questions_share_one_answer_and_what_does_not_fit_is_named() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        handlers = Handlers(env, Routing(env, Guard(env)), keeper)
        records = [sign(env, bytes(20_000), at=Named(env.owner.owner_id, str(i))) for i in range(MAX_FINDS)]
        for record in records:
            await keeper.keep([record.wire], "g")
        asker: Any = Asker()
        answer = handlers._find_values(asker, FindValues(tuple(FindValue(r.key) for r in records)))
        assert isinstance(answer, ValuesList)
        assert [a.key for a in answer.answers] == [r.key for r in records]
        sent = [r.wire for r, a in zip(records, answer.answers, strict=True) if a.records == (r.wire,)]
        named = [r for r, a in zip(records, answer.answers, strict=True) if a.same == (r.record_id,)]
        assert len(sent) >= 1
        assert len(sent) + len(named) == MAX_FINDS
        assert len(encode(answer)) <= MAX_MESSAGE - ENVELOPE_ROOM

    run(main)


def test_contacts_for_the_first_of_many_questions_do_not_hide_what_the_last_ask_for() -> None:
    async def main() -> None:
        env, _ = await environment()
        routing, keeper = Routing(env, Guard(env)), Keeper(env)
        handlers = Handlers(env, routing, keeper)
        records = [sign(env, at=f"n{i}") for i in range(MAX_FINDS)]
        await keeper.keep([r.wire for r in records], "g")
        await crowd(routing, env, 20, 10)
        questions = tuple(FindValue(r.key, r.owner_id, brief=True) for r in records)
        asker: Any = Asker()
        answer = handlers._find_values(asker, FindValues(questions))
        assert isinstance(answer, ValuesList)
        assert [a.same for a in answer.answers] == [(r.record_id,) for r in records]
        assert len(answer.answers[0].contacts) == 20
        assert len(encode(answer)) <= MAX_MESSAGE - ENVELOPE_ROOM

    run(main)
