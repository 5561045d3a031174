"""Passwords, taken out of whatever is about to be shown.

The engine puts none into its messages. This is the second lock: every error of ours passes through here when it is
made, and so do a driver's or a library's own words and the tracebacks of ``--debug``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from urllib.parse import unquote

HIDDEN = "****"
_VARIABLES = ("XMIN_SOURCE_URL", "XMIN_TARGET_URL", "DAGSTER_POSTGRES_URL")
# A password may have any character in it, as keys of object stores have slashes.
_IN_URL = re.compile(r"(\w+://[^\s:/?#@'\"]*):([^\s'\"]+)@")
_CONNECTION = re.compile(r"(?i)://|password")
_AS_KEYWORD = re.compile(r"(?i)\b(\w*password\s*[=:]\s*)('(?:[^'\\]|\\.)*'|[^\s'&\"]+)")


def redact(text: str, connection_strings: Iterable[str] = ()) -> str:
    """Return the text without passwords: the environment's, those of these strings, and what looks like one."""
    given = [*(os.environ.get(variable, "") for variable in _VARIABLES), *connection_strings]
    secrets = {os.environ.get("PGPASSWORD", ""), *(secret for url in given for secret in _passwords(url))} - {""}
    text = _IN_URL.sub(rf"\1:{HIDDEN}@", text)
    text = _AS_KEYWORD.sub(rf"\1{HIDDEN}", text)
    for secret in sorted(secrets, key=len, reverse=True):
        # As a word of its own: a password "data" must not make "database" unreadable.
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def may_be_shown(text: str) -> bool:
    """Return whether a text that somebody has written is no connection string, as far as its form tells.

    Of one, `redact` finds the password only where it is written as libpq wants it.
    """
    return not _CONNECTION.search(text)


def shown(value: object) -> str:
    """Return a value that is wrong as an error quotes it, if it may be shown."""
    return repr(value) if may_be_shown(str(value)) else "something that looks like a connection string"


def _passwords(url: str) -> Iterator[str]:
    from psycopg2 import ProgrammingError
    from psycopg2.extensions import parse_dsn

    try:
        parts = parse_dsn(url)
    except ProgrammingError:
        for match in (*_IN_URL.finditer(url), *_AS_KEYWORD.finditer(url)):
            yield from (match.group(2), unquote(match.group(2)), match.group(2).strip("'"))
        return
    for name in ("password", "sslpassword"):
        # A password that is the user's name, as in many a test setup, is no secret once the user is named.
        if parts.get(name) not in (parts.get("user"), parts.get("dbname")):
            yield parts.get(name) or ""
