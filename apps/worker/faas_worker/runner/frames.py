"""Frames of WebSockets (RFC 6455) as a server reads and writes them, without extensions.

Of our own: a package for it would be one that functions bring along too, in versions of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum


class Opcode(IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


class Code(IntEnum):
    """Why a WebSocket is closed (RFC 6455, 7.4, and what is registered beside it)."""

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    #: Never in a frame: it came without a code, or there came none.
    NONE = 1005
    LOST = 1006
    NOT_TEXT = 1007
    TOO_LARGE = 1009
    FAILED = 1011
    RESTARTING = 1012


_FINAL, _MASKED = 0x80, 0x80
_RESERVED = 0x70
_KNOWN = frozenset(Opcode)
_LARGEST_CONTROL = 125
_TWO_BYTES, _EIGHT_BYTES = 126, 127
_HEAD_BYTES = 14
# Of those that no frame may have.
_UNSENDABLE = frozenset({1004, Code.NONE, Code.LOST, 1015})
_LARGEST_REASON = 123


class Violation(Exception):  # noqa: N818 - named for what it says
    """What a client has sent is no frame, or is out of bounds."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class FrameReader:
    """Makes messages of what arrives. Keeps no more than one message of the largest size."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._arrived = bytearray()
        self._at = 0
        #: The message whose last frame is still to come.
        self._message: bytearray | None = None
        self._kind = Opcode.BINARY

    def feed(self, data: bytes) -> Iterator[tuple[Opcode, bytes]]:
        """Whole messages, and control frames in between. Raises Violation."""
        self._arrived += data
        while (frame := self._next()) is not None:
            final, opcode, payload = frame
            if opcode >= Opcode.CLOSE:
                yield opcode, payload
                continue
            if (opcode is Opcode.CONTINUATION) is (self._message is None):
                raise Violation(Code.PROTOCOL_ERROR, "a frame that does not follow the one before")
            if final and self._message is None:
                yield opcode, payload
                continue
            if self._message is None:
                self._message, self._kind = bytearray(), opcode
            self._message += payload
            if final:
                whole, self._message = bytes(self._message), None
                yield self._kind, whole
        if self._at:
            del self._arrived[: self._at]
            self._at = 0

    def _next(self) -> tuple[bool, Opcode, bytes] | None:
        head = self._arrived[self._at : self._at + _HEAD_BYTES]
        if len(head) < 2:
            return None
        opcode, length = head[0] & 0x0F, head[1] & 0x7F
        final = bool(head[0] & _FINAL)
        if head[0] & _RESERVED or opcode not in _KNOWN:
            raise Violation(Code.PROTOCOL_ERROR, "a frame of no kind that is known")
        if not head[1] & _MASKED:
            raise Violation(Code.PROTOCOL_ERROR, "a frame without a mask")
        if opcode >= Opcode.CLOSE and not (final and length <= _LARGEST_CONTROL):
            raise Violation(Code.PROTOCOL_ERROR, "a control frame that is long or in parts")
        start = {_TWO_BYTES: 4, _EIGHT_BYTES: 10}.get(length, 2)
        if len(head) < start + 4:
            return None
        if start > 2:
            shortest = _TWO_BYTES if length == _TWO_BYTES else 0x10000
            length = int.from_bytes(head[2:start])
            if length < shortest:
                raise Violation(Code.PROTOCOL_ERROR, "a length that is longer than it need be")
        if opcode < Opcode.CLOSE and length + len(self._message or b"") > self._most:
            raise Violation(Code.TOO_LARGE, f"a message may have {self._most} bytes")
        begin = self._at + start + 4
        if len(self._arrived) < begin + length:
            return None
        self._at = begin + length
        mask = head[start : start + 4]
        return final, Opcode(opcode), unmasked(self._arrived[begin : self._at], mask)


def unmasked(payload: bytes | bytearray, mask: bytes | bytearray) -> bytes:
    size = len(payload)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


def head_of(opcode: Opcode, size: int) -> bytes:
    """What stands before the payload of a frame to a client."""
    first = bytes((_FINAL | opcode,))
    if size < _TWO_BYTES:
        return first + bytes((size,))
    if size < 0x10000:
        return first + bytes((_TWO_BYTES,)) + size.to_bytes(2)
    return first + bytes((_EIGHT_BYTES,)) + size.to_bytes(8)


def close_frame(code: int, reason: str) -> bytes:
    """Without a code where there is none that may be sent."""
    payload = b""
    if code != Code.NONE:
        text = reason.encode("utf-8", "replace")[:_LARGEST_REASON]
        # Not in the middle of a character.
        payload = code.to_bytes(2) + text.decode("utf-8", "ignore").encode()
    return head_of(Opcode.CLOSE, len(payload)) + payload


def code_in(payload: bytes) -> tuple[int, str]:
    """Code and reason of a closing frame. Raises Violation."""
    if not payload:
        return Code.NONE, ""
    code = int.from_bytes(payload[:2])
    if len(payload) < 2 or not is_sendable(code):
        raise Violation(Code.PROTOCOL_ERROR, "no code of a closing frame")
    try:
        return code, payload[2:].decode()
    except UnicodeDecodeError:
        raise Violation(Code.NOT_TEXT, "a reason that is no text") from None


def is_sendable(code: int) -> bool:
    return (1000 <= code <= 1014 and code not in _UNSENDABLE) or 3000 <= code <= 4999
