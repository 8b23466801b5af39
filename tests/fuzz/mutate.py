"""Changes MessagePack as a tree, so that a changed field does not spoil the lengths around it."""

from __future__ import annotations

import random
from typing import Any

import msgspec

LONGEST = 48 * 1024
"""Bytes of a changed tree; repeated branches within branches would grow without end."""

_ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    1,
    -1,
    255,
    256,
    65_535,
    2**32,
    2**62,
    2**63 - 1,
    2**64 - 1,
    0.0,
    "",
    "\0",
    "é",
    "x" * 65,
    b"",
    bytes(8),
    bytes(32),
    bytes(33),
    [],
    {},
)


def mutate_tree(data: bytes, dice: random.Random) -> bytes | None:
    """The same tree with one to four places changed; None where `data` is no MessagePack."""
    try:
        tree = msgspec.msgpack.decode(data)
        for _ in range(dice.randint(1, 4)):
            tree = _changed(tree, dice)
            if len(msgspec.msgpack.encode(tree)) > LONGEST:
                return None
        return msgspec.msgpack.encode(tree)
    except (msgspec.MsgspecError, UnicodeError, RecursionError, OverflowError, TypeError):
        return None


def _changed(node: Any, dice: random.Random) -> Any:
    if isinstance(node, list) and node and dice.random() < 0.9:
        return _changed_list(list(node), dice)
    if isinstance(node, dict) and node and dice.random() < 0.9:
        key = dice.choice(list(node))
        changed = {k: v for k, v in node.items() if k != key}
        new = key if dice.random() < 0.7 else _changed(key, dice)
        if isinstance(new, str | int | bytes | None):
            changed[new] = _changed(node[key], dice)
        return changed
    if isinstance(node, bytes) and len(node) > 2 and 0x90 <= node[0] <= 0x9F and dice.random() < 0.8:
        return mutate_tree(node, dice) or node
    if isinstance(node, bytes) and node and dice.random() < 0.6:
        at = dice.randrange(len(node))
        return node[:at] + dice.randbytes(1) + node[at + dice.randint(0, 2) :]
    if isinstance(node, str) and node and dice.random() < 0.7:
        at = dice.randrange(len(node))
        new = dice.choice((0, 10, 37, 46, 47, 58, 91, 93, 233, dice.randrange(128)))
        return node[:at] + chr(new) + node[at + 1 :]
    if isinstance(node, int) and dice.random() < 0.5:
        return max(-(2**63), min(2**64 - 1, node + dice.choice((-1, 1, 1000, -1000, 2**31))))
    return dice.choice(_ODD)


def _changed_list(node: list[Any], dice: random.Random) -> list[Any]:
    at = dice.randrange(len(node))
    how = dice.random()
    if how < 0.7:
        node[at] = _changed(node[at], dice)
    elif how < 0.8:
        node.insert(at, node[dice.randrange(len(node))])
    elif how < 0.9:
        del node[at]
    elif how < 0.95:
        node.append(dice.choice(_ODD))
    else:
        node += [node[at]] * dice.choice((3, 40, 70))
    return node
