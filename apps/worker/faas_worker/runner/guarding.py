"""Keeps handler code from taking away what the first process of a container may use.

The kernel lets a process set limits, priority and processors of every other one of the same user.
A filter for its own system calls (seccomp, see seccomp(2)), which neither it nor what it starts can
take off again, refuses that for process 1.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator

_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO with EPERM

# By architecture (AUDIT_ARCH_…): the calls whose first argument is a process, and those that take
# a kind of it first. A processor that runs 64 bits mostly runs the 32 of its family, too.
_CALLS = {
    # prlimit64, sched_setparam, sched_setscheduler, sched_setaffinity, sched_setattr;
    # setpriority, ioprio_set
    0xC000003E: ((302, 142, 144, 203, 314), (141, 251)),  # x86-64
    0x40000003: ((340, 154, 156, 241, 351), (97, 289)),  # i386
    0xC00000B7: ((261, 118, 119, 122, 274), (140, 30)),  # arm64
    0x40000028: ((369, 154, 156, 241, 380), (97, 314)),  # arm
}
# All processes of a user: PRIO_USER, IOPRIO_WHO_USER. The latter's groups go with the former.
_OF_A_USER = (2, 3)
# The bit that tells x32's calls from those of x86-64.
_NOT_X32 = 0xBFFFFFFF

_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_LOAD, _AND, _EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_Instruction = tuple[int, int, int, int]
_OF_FIRST_PROCESS: tuple[_Instruction, ...] = (
    (_LOAD, 0, 0, _ARGUMENTS),
    (_EQUAL, 0, 1, 1),
    (_RETURN, 0, 0, _REFUSE),
)
_OF_FIRST_OR_OF_USER: tuple[_Instruction, ...] = (
    (_LOAD, 0, 0, _ARGUMENTS + 8),
    (_EQUAL, 3, 0, 1),
    (_LOAD, 0, 0, _ARGUMENTS),
    (_EQUAL, 1, 0, _OF_A_USER[0]),
    (_EQUAL, 0, 1, _OF_A_USER[1]),
    (_RETURN, 0, 0, _REFUSE),
)

_libc = ctypes.CDLL(None, use_errno=True)


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def guard_first_process() -> None:
    """Of this process and all that it starts. Where the kernel has no filters there is none."""
    instructions = list(_instructions())
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in instructions)
    program = _Program(len(instructions), code)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0)


def _instructions() -> Iterator[_Instruction]:
    for architecture, (of_a_process, of_a_kind) in _CALLS.items():
        block = [*_checks(of_a_process, of_a_kind)]
        yield _LOAD, 0, 0, _ARCHITECTURE
        yield _EQUAL, 0, len(block), architecture
        yield from block
    yield _RETURN, 0, 0, _ALLOW


def _checks(of_a_process: tuple[int, ...], of_a_kind: tuple[int, ...]) -> Iterator[_Instruction]:
    for numbers, refusal in (of_a_process, _OF_FIRST_PROCESS), (of_a_kind, _OF_FIRST_OR_OF_USER):
        for number in numbers:
            yield _LOAD, 0, 0, _NUMBER
            yield _AND, 0, 0, _NOT_X32
            yield _EQUAL, 0, len(refusal), number
            yield from refusal
    yield _RETURN, 0, 0, _ALLOW
