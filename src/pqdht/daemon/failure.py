"""Errors as JSON and back: a failure in the daemon is the same typed failure in the command line."""

from __future__ import annotations

import contextlib
import inspect
from typing import Any

from .. import errors
from ..errors import PqdhtError, WireCode


def describe(error: PqdhtError) -> dict[str, Any]:
    """JSON-friendly: `type`, `message`, `exit_code`, `fields`; `code` and `result` where there is one."""
    described: dict[str, Any] = {
        "type": type(error).__name__,
        "message": str(error),
        "exit_code": error.exit_code,
        "fields": {name: _plain(value) for name, value in error.fields.items()},
    }
    code = getattr(error, "code", None)
    if isinstance(code, WireCode):
        described["code"] = code.name
    result = getattr(error, "result", None)
    if result is not None:
        described["result"] = _plain(result)
    return described


def restore(described: dict[str, Any]) -> PqdhtError:
    """The error that `describe` described; a plain PqdhtError where its class is not known here."""
    kind = getattr(errors, str(described.get("type")), PqdhtError)
    if not (inspect.isclass(kind) and issubclass(kind, PqdhtError)):
        kind = PqdhtError
    extra: dict[str, Any] = {}
    code = str(described.get("code"))
    if code in WireCode.__members__:
        extra["code"] = WireCode[code]
    if "result" in described:
        extra["result"] = described["result"]
    fields = described.get("fields")
    message = str(described.get("message", "the daemon failed without saying why"))
    error = PqdhtError(message)
    with contextlib.suppress(TypeError):  # an error that needs more than was said, from another version
        error = kind(message, **extra)
    error.fields.update(fields if isinstance(fields, dict) else {})
    return error


def _plain(value: Any) -> Any:
    """What JSON can carry; bytes as hex, results by their own `as_dict`."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    as_dict = getattr(value, "as_dict", None)
    return as_dict() if as_dict is not None else str(value)
