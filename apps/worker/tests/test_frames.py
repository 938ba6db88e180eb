"""Frames of WebSockets."""

from __future__ import annotations

import pytest

from faas_worker.runner.frames import (
    Code,
    FrameReader,
    Opcode,
    Violation,
    close_frame,
    code_in,
    head_of,
)
from support import masked_frame as frame

MOST = 100_000


def read(data: bytes, most: int = MOST) -> list[tuple[Opcode, bytes]]:
    return list(FrameReader(most).feed(data))


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, MOST])
def test_messages_of_any_length_are_read_however_they_arrive(size: int) -> None:
    payload = bytes(range(256)) * (size // 256 + 1)
    data = frame(Opcode.BINARY, payload[:size])
    assert read(data) == [(Opcode.BINARY, payload[:size])]
    reader = FrameReader(MOST)
    step = max(1, len(data) // 50)
    found = [one for at in range(0, len(data), step) for one in reader.feed(data[at : at + step])]
    assert found == [(Opcode.BINARY, payload[:size])]


def test_parts_are_joined_and_control_frames_come_in_between() -> None:
    data = (
        frame(Opcode.TEXT, b"a", final=False)
        + frame(Opcode.PING, b"p")
        + frame(Opcode.CONTINUATION, b"b", final=False)
        + frame(Opcode.CONTINUATION, b"c")
        + frame(Opcode.TEXT, b"d")
    )
    expected = [(Opcode.PING, b"p"), (Opcode.TEXT, b"abc"), (Opcode.TEXT, b"d")]
    assert read(data) == expected
    reader = FrameReader(MOST)
    assert [one for byte in data for one in reader.feed(bytes((byte,)))] == expected


def test_many_small_frames_that_arrive_together_are_read_in_a_moment() -> None:
    count = 40_000
    assert len(read(frame(Opcode.TEXT, b"x") * count)) == count


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01x", Code.PROTOCOL_ERROR),  # no mask
        (b"\xc1\x80\0\0\0\0", Code.PROTOCOL_ERROR),  # a reserved bit
        (b"\x83\x80\0\0\0\0", Code.PROTOCOL_ERROR),  # a kind that is none
        (frame(Opcode.CONTINUATION, b""), Code.PROTOCOL_ERROR),
        (
            frame(Opcode.TEXT, b"a", final=False) + frame(Opcode.TEXT, b"b"),
            Code.PROTOCOL_ERROR,
        ),
        (frame(Opcode.PING, b"", final=False), Code.PROTOCOL_ERROR),
        (frame(Opcode.PING, b"x" * 126), Code.PROTOCOL_ERROR),
        (b"\x82\xfe\x00\x7d\0\0\0\0", Code.PROTOCOL_ERROR),  # 125 in two bytes
        (b"\x82\xff" + (65_535).to_bytes(8) + bytes(4), Code.PROTOCOL_ERROR),
        (b"\x82\xff" + (2**63).to_bytes(8) + bytes(4), Code.TOO_LARGE),
        (b"\x82\xff" + (MOST + 1).to_bytes(8) + bytes(4), Code.TOO_LARGE),
        (
            frame(Opcode.TEXT, b"x" * MOST, final=False) + frame(Opcode.CONTINUATION, b"x"),
            Code.TOO_LARGE,
        ),
    ],
)
def test_what_is_no_frame_or_too_large_is_refused_by_its_head(data: bytes, code: Code) -> None:
    with pytest.raises(Violation) as refused:
        read(data)
    assert refused.value.code is code


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (b"", (1005, "")),
        (b"\x03\xe8", (1000, "")),
        (b"\x0b\xb8bye", (3000, "bye")),
    ],
)
def test_a_closing_frame_says_why(payload: bytes, expected: tuple[int, str]) -> None:
    assert code_in(payload) == expected


@pytest.mark.parametrize("payload", [b"\x03", b"\0\0", b"\x03\xed", b"\x03\xee", b"\x13\x88"])
def test_a_closing_frame_with_a_code_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(Violation):
        code_in(payload)


def test_frames_to_clients_have_the_shortest_head_and_no_mask() -> None:
    assert head_of(Opcode.TEXT, 125) == b"\x81\x7d"
    assert head_of(Opcode.BINARY, 126) == b"\x82\x7e\x00\x7e"
    assert head_of(Opcode.BINARY, 65_536) == b"\x82\x7f" + (65_536).to_bytes(8)
    assert close_frame(1005, "left out") == b"\x88\x00"
    assert close_frame(1000, "") == b"\x88\x02\x03\xe8"
    # A reason that is too long ends with a whole character.
    assert close_frame(1000, "é" * 100) == b"\x88\x7c\x03\xe8" + "é".encode() * 61
