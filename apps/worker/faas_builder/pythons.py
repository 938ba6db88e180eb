"""Whether a Python is one of those that `requires-python` names (PEP 440, without letters)."""

from __future__ import annotations

import re

_CLAUSE = re.compile(r"(~=|==|!=|<=|>=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?")


def admits(specifiers: str, version: tuple[int, ...]) -> bool:
    """Raises ValueError for what can't be understood."""
    clauses = [clause.strip() for clause in specifiers.split(",") if clause.strip()]
    return all(_holds(clause, version) for clause in clauses)


def _holds(clause: str, version: tuple[int, ...]) -> bool:
    found = _CLAUSE.fullmatch(clause)
    if found is None:
        raise ValueError(f"{clause!r} is no version specifier")
    operator, text, wildcard = found.groups()
    wanted = tuple(int(part) for part in text.split("."))
    if wildcard:
        if operator not in ("==", "!="):
            raise ValueError(f"{clause!r} is no version specifier")
        return (version[: len(wanted)] == wanted) == (operator == "==")
    if operator == "~=":
        return _padded(version) >= _padded(wanted) and version[: len(wanted) - 1] == wanted[:-1]
    ours, theirs = _padded(version), _padded(wanted)
    return {
        "==": ours == theirs,
        "!=": ours != theirs,
        "<=": ours <= theirs,
        ">=": ours >= theirs,
        "<": ours < theirs,
        ">": ours > theirs,
    }[operator]


def _padded(version: tuple[int, ...]) -> tuple[int, ...]:
    return (*version, 0, 0, 0)[: max(3, len(version))]
