"""What callers of `SecureDHT` hand in, checked once: each function gives it back or raises ConfigError."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from ..config import Consistency
from ..constants import Limits
from ..errors import ConfigError
from ..identity.keys import OwnerIdentity
from ..ids import OwnerId, RecordId, parse_id, parse_owner_id
from ..records import Content, Locator, Named, Topic
from ..wire.messages import WireRecord

PLACE = "a name (str), a Named, a Topic or a Content"


def place(where: object, owner: OwnerId) -> Locator:
    """A locator as it is; a text as the name of a value of `owner`."""
    if isinstance(where, Named | Topic | Content):
        return where
    if isinstance(where, str):
        return Named(owner, where)
    raise _wrong("where", PLACE, where)


def source(where: object, owner: bytes | str | None, own: OwnerId) -> tuple[Locator, OwnerId | None]:
    """What a GET asks for, and whose version of it: of a name that of `owner`, our `own` by default."""
    wanted = None if owner is None else parse_owner_id(owner)
    locator = place(where, own if wanted is None else wanted)
    if isinstance(locator, Named):
        if wanted not in (None, locator.owner):
            raise ConfigError("`owner` is another one than the owner in `where`; leave it out", name="owner")
        return locator, locator.owner
    if isinstance(locator, Topic) and wanted is None:
        raise ConfigError("whose value on this topic? Give `owner`, or use get_topic(name)", name="owner")
    return locator, wanted


def places(wheres: Iterable[str | Locator]) -> list[str | Locator]:
    """Distinct places, in the order given."""
    listed: dict[str | Locator, None] = {}
    for where in _members("wheres", wheres, "a list of names or locators"):
        if not isinstance(where, str | Named | Topic | Content):
            raise _wrong("where", PLACE, where)
        listed[where] = None
    return list(listed)


def signer(owner: object, own: OwnerIdentity) -> OwnerIdentity:
    """Who signs: our own identity by default."""
    if owner is None:
        return own
    if isinstance(owner, OwnerIdentity):
        return owner
    raise _wrong("owner", "an OwnerIdentity (its secret key signs; an owner id has none)", owner)


def ttl(seconds: object, limits: Limits) -> int:
    """A record's life in whole seconds, within the network's limits."""
    if isinstance(seconds, bool) or not isinstance(seconds, int):
        raise _wrong("ttl", "a whole number of seconds", seconds)
    if not limits.ttl_min_s <= seconds <= limits.ttl_max_s:
        raise ConfigError(
            f"ttl must lie in {limits.ttl_min_s}..{limits.ttl_max_s} seconds, got {seconds}", name="ttl"
        )
    return seconds


def record_id(previous: bytes | str | None) -> RecordId | None:
    """The version that a PUT is to replace."""
    return None if previous is None else RecordId(parse_id(previous, "previous"))


def consistency(rule: object, default: Consistency) -> Consistency:
    """A confirmation rule.  A misspelt one must not become a weaker one."""
    if rule is None:
        return default
    known: tuple[Consistency, ...] = get_args(Consistency)
    for one in known:
        if rule == one:
            return one
    raise ConfigError(f"consistency must be one of {', '.join(known)}, got {rule!r:.80}", name="consistency")


def timeout(seconds: object, default: float) -> float:
    """Seconds, above 0."""
    if seconds is None:
        return default
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise _wrong("timeout", "a number of seconds", seconds)
    if not seconds > 0:  # nor NaN
        raise ConfigError(f"timeout must be above 0, got {seconds}", name="timeout")
    return seconds


def wire_record(record: object) -> WireRecord:
    """A record as it travels."""
    if isinstance(record, WireRecord):
        return record
    raise _wrong("record", "a WireRecord (`.wire` of a Record)", record)


def endpoints(given: Iterable[str]) -> tuple[str, ...]:
    """One or more `host:port`; the peer record checks each."""
    listed: list[str] = []
    for text in _members("endpoints", given, "a list such as ['203.0.113.5:51820']"):
        if not isinstance(text, str):
            raise _wrong("endpoint", "text such as '203.0.113.5:51820'", text)
        listed.append(text)
    if not listed:
        raise ConfigError("give at least one endpoint; without one nobody reaches you", name="endpoints")
    return tuple(listed)


def attributes(given: Mapping[str, str] | None) -> dict[str, str]:
    """Texts by name; the peer record checks their sizes."""
    listed: object = {} if given is None else given
    if not isinstance(listed, Mapping) or not all(isinstance(t, str) for kv in listed.items() for t in kv):
        raise _wrong("attributes", "a dict of text to text", given)
    return dict(listed)


def mapping(given: object) -> Mapping[str | Locator, bytes]:
    """Values by place."""
    if isinstance(given, Mapping):
        return given
    raise _wrong("values", "a dict of places to values", given)


def _members(name: str, given: object, wanted: str) -> Iterable[object]:
    """What is in a collection; a text is none, though it can be taken apart into letters."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise _wrong(name, wanted, given)
    return given


def _wrong(name: str, wanted: str, given: object) -> ConfigError:
    return ConfigError(f"{name} must be {wanted}, got {type(given).__name__}", name=name)
