"""Turns anything a handler can raise into bounded text; nothing in here may raise or trust it."""

from __future__ import annotations

import os
import traceback
from dataclasses import dataclass
from types import TracebackType

from ..confidential import masked

MESSAGE_CHARS = 8 * 1024
TRACEBACK_CHARS = 32 * 1024
_TRACEBACK_FRAMES = 100
_OWN_FILES = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_IMPORT_MACHINERY = ("<frozen importlib", os.path.join("importlib", "__init__.py"))


@dataclass(frozen=True, slots=True)
class Failure:
    type: str
    message: str
    traceback: str
    line: int | None = None
    #: Of a handler that can't be loaded: what to do, what the file has instead, what was printed.
    advice: str = ""
    available: tuple[str, ...] = ()
    stderr: str = ""


def describe(error: BaseException, handler_file: str | None) -> Failure:
    name = type_name(error)
    message = _message(error)
    start = _first_handler_frame(error.__traceback__, handler_file)
    try:
        text = "".join(_format(error, start))
    except BaseException:
        text = f"{name}: {message}"
    return Failure(
        type=name,
        message=message,
        traceback=cut_middle(masked(text), TRACEBACK_CHARS),
        line=_line(error, start, handler_file),
    )


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit} more)"


def cut_middle(text: str, limit: int) -> str:
    """A traceback's first and last lines say most."""
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n… ({len(text) - 2 * half} characters left out)\n{text[-half:]}"


def type_name(error: BaseException) -> str:
    try:
        return cut(str.__str__(type.__getattribute__(type(error), "__name__")), 200)
    except BaseException:
        return "BaseException"


def _message(error: BaseException) -> str:
    try:
        # A subclass of str may still override everything; slicing copies a plain one.
        return cut(masked(str.__str__(str(error))), MESSAGE_CHARS)
    except BaseException as second:
        return f"<the message can't be shown: its __str__ raised {type_name(second)}>"


def _first_handler_frame(
    start: TracebackType | None, handler_file: str | None
) -> TracebackType | None:
    frame = start
    while frame is not None and handler_file is not None:
        if frame.tb_frame.f_code.co_filename == handler_file:
            return frame
        frame = frame.tb_next
    frame = start
    while frame is not None and _is_ours(frame.tb_frame.f_code.co_filename):
        frame = frame.tb_next
    return frame


def _is_ours(filename: str) -> bool:
    return filename.startswith((_OWN_FILES, _IMPORT_MACHINERY[0])) or filename.endswith(
        _IMPORT_MACHINERY[1]
    )


def _format(error: BaseException, start: TracebackType | None) -> list[str]:
    # Python wants the innermost frames when there are too many of them.
    is_deep = sum(1 for _ in traceback.walk_tb(start)) > _TRACEBACK_FRAMES
    limit = -_TRACEBACK_FRAMES if is_deep else None
    summary = traceback.TracebackException(type(error), error, start, limit=limit, compact=True)
    return list(summary.format())


def _line(
    error: BaseException, start: TracebackType | None, handler_file: str | None
) -> int | None:
    try:
        if isinstance(error, SyntaxError):
            return error.lineno if type(error.lineno) is int else None
        lines = [
            line
            for frame, line in traceback.walk_tb(start)
            if handler_file in (None, frame.f_code.co_filename)
        ]
        return lines[-1] if lines else None
    except BaseException:
        return None
