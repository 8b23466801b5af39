"""Every error pqdht raises, and the wire codes peers send each other.

Two families never mix: a `LocalError` is ours to mend (configuration, disk, clock, not enough
peers), a `RemoteError` is something a peer did.  The text of an error says what happened and what
to do; `fields` carries the facts for programs and for ``--json``.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, ClassVar


class WireCode(IntEnum):
    """Codes in ERROR and STORED messages.  Numbers are frozen: append, never renumber."""

    OK = 0
    BUSY = 1  # retry after `retry_after` ms
    UNSUPPORTED = 2  # unknown message type, record version or kind
    MALFORMED = 3
    TOO_LARGE = 4
    CLOCK_SKEW = 5  # record or message too far ahead; carries the answerer's time
    OUTDATED = 6  # a newer version (or a floor) is held
    QUOTA = 7
    STORAGE_FULL = 8
    EXPIRED = 9
    BAD_RECORD = 10
    EARLY_REJECTED = 11  # ask again after the handshake
    NEED_KEY = 12  # ask again with the signing key in Hello
    CAS_MISMATCH = 13  # `extra.previous` is not what is held here
    TOPIC_FULL = 14
    WRONG_RECEIVER = 15
    NOT_FOUND = 16
    INTERNAL = 17
    EQUIVOCATION = 18  # another record with this timestamp and a smaller id is held
    SHUTTING_DOWN = 19


class PqdhtError(Exception):
    """Base of everything raised on purpose. `fields` holds the facts, JSON-friendly."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, /, **fields: Any) -> None:
        super().__init__(message)
        self.fields = fields


class LocalError(PqdhtError):
    """Something on our side: the remedy is ours."""


class RemoteError(PqdhtError):
    """Something a peer did or sent."""


# --- local -------------------------------------------------------------------------------------


class ConfigError(LocalError):
    """A setting that cannot work; `fields['name']` is the setting."""

    exit_code = 2


class KeyFileError(LocalError):
    """A key file is missing, unreadable, too open, of an unknown version, or damaged."""

    exit_code = 3


class StorageError(LocalError):
    """The record database failed."""

    exit_code = 4


class StorageFull(StorageError):
    """The disk or the configured quota is full; what was stored before is kept."""


class StorageCorrupt(StorageError):
    """The database is damaged; it was set aside, `fields['kept']` says where."""


class ListenError(LocalError):
    """The listening address cannot be had (port in use, no such address)."""

    exit_code = 5


class ProviderUnavailable(LocalError):
    """The asked-for crypto provider is not on this machine."""

    exit_code = 6


class PuzzleCancelled(LocalError):
    """The identity puzzle was stopped before a solution; it can be resumed."""

    exit_code = 7


class ControlError(LocalError):
    """The daemon cannot be asked: none runs for this data directory, or it ended while asked."""

    exit_code = 8


class Closed(LocalError):
    """The object was closed (or never opened)."""


class NotBootstrapped(LocalError):
    """No peer could be reached, so nothing can be asked; of a GET, `result` says what was seen here."""

    exit_code = 10

    def __init__(self, message: str, /, *, result: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.result = result


class QuorumNotReached(LocalError):
    """Too few storers signed a receipt; `result` says who said what. The record stays queued."""

    exit_code = 11

    def __init__(self, message: str, /, *, result: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.result = result


class Refused(LocalError):
    """Storers will not take this record, now or later; `result` says who said what. It is not queued.

    After compare-and-set: another version stands there. Read it, and decide again.
    """

    exit_code = 16

    def __init__(self, message: str, /, *, result: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.result = result


class NotFound(LocalError):
    """No valid record was seen; `result` lists responders, groups and paths."""

    exit_code = 12

    def __init__(self, message: str, /, *, result: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.result = result


class NotConfirmed(LocalError):
    """A record was seen, but the confirmation rule does not hold; `result` carries it."""

    exit_code = 13

    def __init__(self, message: str, /, *, result: Any = None, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.result = result


# --- remote ------------------------------------------------------------------------------------


class DecodeError(RemoteError):
    """Bytes that are not what they should be: truncated, oversized, trailing, wrong types."""


class BadSignature(RemoteError):
    """A signature does not verify."""


class BadPuzzle(RemoteError):
    """A contact's proof of work is wrong, too easy, expired or from the future."""


class PeerIdentityMismatch(RemoteError):
    """The peer at this address is not the one we asked for."""


class HandshakeFailed(RemoteError):
    """The handshake did not complete; `fields['reason']` says why."""


class SessionFailed(RemoteError):
    """An established session broke a rule (bad tag, replay, oversize)."""


class RecordInvalid(RemoteError):
    """A record that must not be stored or returned; `code` is what a storer answers."""

    def __init__(self, message: str, /, *, code: WireCode = WireCode.BAD_RECORD, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.code = code


class EvidenceInvalid(RemoteError):
    """What was brought forward proves no offence; `reason` says why in a word or two.

    "unsupported": a rule or version not known here, which does not speak against whoever brought it.
    """

    def __init__(self, message: str, /, *, reason: str = "no offence", **fields: Any) -> None:
        super().__init__(message, **fields)
        self.reason = reason


class PeerError(RemoteError):
    """The peer answered ERROR(code)."""

    def __init__(self, message: str, /, *, code: WireCode, retry_after: int = 0, **fields: Any) -> None:
        super().__init__(message, **fields)
        self.code = code
        self.retry_after = retry_after


class PeerUnreachable(RemoteError):
    """Nobody answers at the peer's addresses, or the link broke."""

    exit_code = 14


class DialHeldBack(PeerUnreachable):
    """We did not dial: too many dials to this address group lately. Says nothing about the peer."""


class PeerTimeout(PeerUnreachable):
    """The peer did not answer in time."""

    exit_code = 15
