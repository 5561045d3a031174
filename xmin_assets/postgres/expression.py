"""An SQL expression as a person wrote it, which is to stand between brackets in a statement of ours.

The server parses it as an expression if nothing in it ends the brackets or the statement. So this reads only what
hides brackets and semicolons from the server: strings, quoted names, comments
(https://www.postgresql.org/docs/current/sql-syntax-lexical.html).
"""

from __future__ import annotations

import re
from functools import cached_property

from xmin_assets.postgres.identifiers import NAMEDATALEN

# A letter, an underscore or anything beyond ASCII: to compile that as a range of Unicode takes 20 ms.
_LETTER = r"[^\x00-@\[-^`{-\x7f]"
_TAG = rf"\$(?:{_LETTER}(?:{_LETTER}|[0-9])*)?\$"
_TOKEN = re.compile(
    rf"""
      (?P<space>\s+|--[^\n\r]*)
    | (?P<comment>/\*)
    | (?P<escapes>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>'[^']*')
    | "[^"]*"
    | (?P<tag>{_TAG}).*?(?P=tag)
    | (?P<unfinished>[eE]'|['"]|{_TAG})
    | {_LETTER}(?:{_LETTER}|[0-9$])*
    | (?P<open>\()
    | (?P<close>\))
    | (?P<end>;)
    | .
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_WORD = re.compile(rf"(?:{_LETTER}|[0-9$])+")
_ESCAPED_NAME = re.compile(r"u&\"", re.IGNORECASE)


class Words:
    """What an expression may name, by its text alone: more than it does, and never less.

    What stands in strings and comments counts, too. Upper and lower case are the same, quoted or not.
    """

    def __init__(self, expression: str) -> None:
        self.text = expression

    def may_have(self, name: str) -> bool:
        """Return whether this name of a column, table or type may be in the expression."""
        if _ESCAPED_NAME.search(self.text):
            return True
        name = name.casefold()
        if not _WORD.fullmatch(name):
            # Then it can only stand in quotes, in which a quote is written twice.
            return name.replace('"', '""') in self.text.casefold()
        # The server cuts long names off.
        return name in self._words or any(word.startswith(name) for word in self._long_words)

    @cached_property
    def _words(self) -> frozenset[str]:
        return frozenset(_WORD.findall(self.text.casefold()))

    @cached_property
    def _long_words(self) -> tuple[str, ...]:
        return tuple(word for word in self._words if len(word.encode()) >= NAMEDATALEN)


def expression_error(expression: str) -> str | None:
    """Return why a text cannot be one expression between brackets, as the end of a sentence that begins with its name.

    None says that it ends neither the brackets nor the statement; whether it means anything is for the server to say.
    """
    if "\0" in expression:
        return "has a NUL in it"
    position, depth, after_escapes = 0, 0, False
    while position < len(expression):
        token = _TOKEN.match(expression, position)
        assert token is not None
        position, kind = token.end(), token.lastgroup
        if kind == "comment":
            closed = _end_of_comment(expression, position)
            if closed is None:
                return "leaves a comment open"
            position = closed
        elif kind == "string" and after_escapes:
            # The server would take it for more of the same string, with backslashes, if a line ends between them.
            return "has two strings in a row; write them as one"
        elif kind == "unfinished":
            return "leaves a quote open"
        elif kind == "end":
            return "has a semicolon, so it is more than one expression"
        elif kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
            if depth < 0:
                return "closes a bracket that it did not open"
        if kind not in ("space", "comment"):
            after_escapes = kind == "escapes"
    return "leaves a bracket open" if depth else None


def _end_of_comment(text: str, position: int) -> int | None:
    """Return where a comment ends that began before the position; comments nest."""
    depth = 1
    while depth:
        found = _COMMENT.search(text, position)
        if found is None:
            return None
        position = found.end()
        depth += 1 if found.group() == "/*" else -1
    return position
