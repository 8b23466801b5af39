"""The signed value and its rules (section 5).

`RecordVerifier.parse` applies every rule that needs neither clock nor public-key cryptography, so a
`Record` always obeys its kind; `check_time` looks at the clock; `verify` checks the signatures.  All
three must pass before a record is stored, returned or counted.
"""

from __future__ import annotations

from .order import TOPIC_PER_GROUP, Candidate, topic_order, topic_rank
from .record import (
    KNOWN_FLAGS,
    SEALED,
    TOMBSTONE,
    Content,
    Extra,
    Kind,
    Locator,
    Named,
    Record,
    Tbs,
    Topic,
    TopicNode,
    make_record,
    open_tbs,
    parse_record,
    topic_claim,
    topic_stake,
)
from .verify import RecordVerifier, VerifyJob

__all__ = [
    "KNOWN_FLAGS",
    "SEALED",
    "TOMBSTONE",
    "TOPIC_PER_GROUP",
    "Candidate",
    "Content",
    "Extra",
    "Kind",
    "Locator",
    "Named",
    "Record",
    "RecordVerifier",
    "Tbs",
    "Topic",
    "TopicNode",
    "VerifyJob",
    "make_record",
    "open_tbs",
    "parse_record",
    "topic_claim",
    "topic_order",
    "topic_rank",
    "topic_stake",
]
