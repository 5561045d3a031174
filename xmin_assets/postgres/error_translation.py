"""The driver's exceptions, said in our words: which kind it is, and what a person can do about it."""

from __future__ import annotations

import re

import psycopg2
from psycopg2 import errorcodes

from xmin_assets.errors import (
    ConnectionFailed,
    LockTimeout,
    RelationGone,
    ServerError,
    TransientError,
    XminAssetsError,
)

_TRANSIENT_CLASSES = {
    errorcodes.CLASS_CONNECTION_EXCEPTION,
    errorcodes.CLASS_TRANSACTION_ROLLBACK,  # serialization, deadlock, and conflicts with recovery on a standby
}
_TRANSIENT = {
    errorcodes.TOO_MANY_CONNECTIONS,
    errorcodes.OUT_OF_MEMORY,
    errorcodes.ADMIN_SHUTDOWN,
    errorcodes.CRASH_SHUTDOWN,
    errorcodes.CANNOT_CONNECT_NOW,
    errorcodes.IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
}
_GONE = {errorcodes.UNDEFINED_TABLE, errorcodes.INVALID_SCHEMA_NAME}
_NOT_FOUND = {
    *_GONE,
    errorcodes.UNDEFINED_FUNCTION,
    errorcodes.UNDEFINED_OBJECT,
    errorcodes.UNDEFINED_COLUMN,
}
_CODE_OF_USERS = re.compile(r"\b(?:function|procedure)\b")
"""What a line of an error's context has where a function or a trigger was running."""
_NOT_GRANTED = re.compile(r"^permission denied for (function|view) (\S+)$")
"""What is granted by name, where the server says it in English; elsewhere the general hint must do."""
_GRANTS = {"function": "EXECUTE ON FUNCTION", "view": "SELECT ON"}
_NOT_AT_THE_SOURCE = "If the source has no such constraint, drop it in the target."
_NOT_AT_THE_SOURCE_OR_SWAPPED = (
    f"{_NOT_AT_THE_SOURCE} If it has, rows have taken each other's values: drop it, run the sync, and create it again."
)
_NO_PARTITION = "Create a partition for it, or one that is DEFAULT, and run the sync again."
_TOO_LARGE = (
    "A value is too large: PostgreSQL writes no text of more than 1 GB, which is a bytea of 500 MB. Leave its column "
    "out with exclude_columns, or its row with where."
)
_ANOTHER_TABLE = (
    "If the other table is a copy, sync that one first; else change its rows. Or drop the foreign key in the target, "
    "or set triggers: skip."
)
_HINTS = {
    errorcodes.FOREIGN_KEY_VIOLATION: _ANOTHER_TABLE,
    errorcodes.RESTRICT_VIOLATION: _ANOTHER_TABLE,
    errorcodes.UNIQUE_VIOLATION: _NOT_AT_THE_SOURCE_OR_SWAPPED,
    errorcodes.CHECK_VIOLATION: _NOT_AT_THE_SOURCE,
    errorcodes.NOT_NULL_VIOLATION: f"{_NOT_AT_THE_SOURCE} An identity has it until ALTER COLUMN ... DROP IDENTITY.",
    errorcodes.EXCLUSION_VIOLATION: _NOT_AT_THE_SOURCE_OR_SWAPPED,
    errorcodes.INSUFFICIENT_PRIVILEGE: "Grant it to the role, or connect as another one (see the README's grants).",
    errorcodes.QUERY_CANCELED: "If it was the time limit, raise statement_timeout in the settings.",
    errorcodes.DISK_FULL: "Make room on that server and run the sync again.",
}


def one_line(error: BaseException) -> str:
    """Return the error's message on one line, without its SQL context."""
    diagnostics = getattr(error, "diag", None)
    parts = [diagnostics.message_primary, diagnostics.message_detail] if diagnostics else []
    # libpq reports a failed connection in several lines, which are sentences without a full stop.
    lines = [part for part in parts if part] or str(error).splitlines()
    text = "; ".join(line.strip().rstrip(".") for line in lines if line.strip())
    return " ".join(text.split()) + ("" if text.endswith("?") else ".")


def is_too_large(error: psycopg2.Error) -> bool:
    """Return whether a value, or a row, is too large for the server to write it as text.

    It has 1 GB for that (MaxAllocSize in src/include/utils/memutils.h), and two letters for each byte of a bytea. What
    the server's memory manager says is an internal error, and in English everywhere.
    """
    message = error.diag.message_primary or ""
    return error.pgcode == errorcodes.PROGRAM_LIMIT_EXCEEDED or (
        error.pgcode == errorcodes.INTERNAL_ERROR and message.startswith("invalid memory alloc request size")
    )


def _with_hint(error: psycopg2.Error) -> str:
    hint = " ".join((error.diag.message_hint or "").split())
    return f"{one_line(error)} {hint}".rstrip()


def _code_of_users(error: psycopg2.Error) -> str | None:
    """Return where an error came from, if that is a function of somebody else; the server names it in the context."""
    lines = (error.diag.context or "").splitlines()
    return next((line.strip() for line in lines if _CODE_OF_USERS.search(line)), None)


def translate(error: psycopg2.Error, action: str) -> XminAssetsError:
    """Return the error of ours that stands for a driver's error.

    Args:
        error: what psycopg2 raised.
        action: what was being done to which table, as the beginning of a sentence.
    """
    code = error.pgcode
    message = f"{action}: {_with_hint(error)}"
    # What libpq itself has to say has no SQLSTATE, nor a class of its own where it ends in the middle of a COPY.
    if code is None and (
        type(error) is psycopg2.DatabaseError or isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError))
    ):
        return ConnectionFailed(f"{message} The connection was lost; run it again.")
    if context := _code_of_users(error):
        message = f"{message} That was in the code of a trigger, a rule or an index: {context}."
        if code in _NOT_FOUND:
            return ServerError(
                f"{message} It runs with an empty search_path. Write the schemas of what it names, or run "
                "ALTER FUNCTION ... SET search_path = ... for it."
            )
    elif code in _GONE:
        return RelationGone(f"{message} It was there when the sync was planned; run it again.")
    if code == errorcodes.LOCK_NOT_AVAILABLE:
        return LockTimeout(f"{message} Another session holds the lock; run it again, or raise lock_timeout.")
    if code is not None and (code[:2] in _TRANSIENT_CLASSES or code in _TRANSIENT):
        return TransientError(f"{message} This may pass; run it again.")
    hint = _TOO_LARGE if is_too_large(error) else _HINTS.get(code or "", "")
    if denied := _NOT_GRANTED.match(error.diag.message_primary or ""):
        hint = f"Run there: GRANT {_GRANTS[denied[1]]} {denied[2]} TO the role."
    hint = _NO_PARTITION if error.diag.source_function == "ExecFindPartition" else hint
    return ServerError(f"{message} {hint}".rstrip())
