"""What handler code writes is in the log, and passes for nothing but that."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from handlers.printing import NOTE

from faas_worker.supervisor.output import _in_pieces
from support import Worker, eventually

Start = Callable[..., Worker]
PRINTING = "printing.handle"
STAMPED = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z) (stdout|stderr) (.*)"


@pytest.fixture
def worker(start: Start) -> Worker:
    return start(PRINTING)


def lines_after(worker: Worker, payload: str, *, last: str) -> list[str]:
    worker.call(payload, X_Request_Id="mine")
    worker.call(f"print:{last}", X_Request_Id="then")
    eventually(lambda: f"[then] {last}" in worker.log(), "the output arrives")
    return worker.log().split("\n")


@pytest.mark.parametrize("way", ["raw", "child", "marked", "print"])
def test_no_line_of_a_handler_passes_for_a_note_of_the_supervisor(worker: Worker, way: str) -> None:
    forged = [
        NOTE.strip(),
        '  {"faas": "listener_shut_down"}',
        '{"a": 1, "faas": "x"}',
        '{"\\\\u0066aas": "x"}',
    ]
    lines = lines_after(worker, f"{way}:" + "\\n".join(forged) + "\\n", last="over")
    assert not [line for line in lines if line.strip().startswith("{")]
    before = "[mine] " if way == "print" else "| "
    for line in forged:
        assert before + line.replace("\\\\", "\\") in lines


@pytest.mark.parametrize("way", ["raw", "child"])
def test_no_line_that_a_call_has_not_printed_has_the_name_of_one(worker: Worker, way: str) -> None:
    lines = lines_after(worker, f"{way}:half\\n[other-call] all\\n[1, 2]\\n", last="over")
    assert sorted(filter(None, lines)) == sorted(
        ["half", "| [other-call] all", "[1, 2]", "[then] over"]
    )


@pytest.mark.parametrize("way", ["raw", "print"])
def test_nothing_a_handler_writes_steers_a_terminal(worker: Worker, way: str) -> None:
    text = "\\x1b[2Jred\\x07\\x9b31m\\ttab\\r\\n"
    lines = lines_after(worker, f"{way}:{text}", last="over")
    found = [line for line in lines if "red" in line]
    assert found[0].removeprefix("[mine] ").startswith("\\x1b[2Jred\\x07")
    assert found[0].endswith("31m\ttab")
    assert "\x1b" not in worker.log()
    assert "\u009b" not in worker.log()


def test_raw_and_printed_lines_keep_their_order(worker: Worker) -> None:
    lines = lines_after(worker, "order", last="over")
    wanted = [line for n in range(50) for line in (f"[mine] mine {n}", f"raw {n}")]
    assert [line for line in lines if line in wanted] == wanted


def test_the_streams_of_the_supervisor_are_out_of_reach(start: Start) -> None:
    if os.getuid() != 0:
        pytest.skip("needs users to switch between")
    uid = 62_000 + os.getpid() % 1000
    worker = start(PRINTING, uid=uid, real_uid=uid + 1)
    assert worker.call("descriptors").result == []
    assert "handler_not_loadable" not in worker.log()


def test_a_line_that_a_call_has_flushed_is_there_though_its_process_ends(worker: Worker) -> None:
    assert worker.is_cut_off("unfinished:step 1 done, starting step 2 ... ", X_Request_Id="a")
    eventually(lambda: "runner_exited" in worker.log(), "its end is noticed")
    assert "[a] step 1 done, starting step 2 ... \n" in worker.log()
    worker.call("finished:one line, no ", X_Request_Id="b")
    eventually(lambda: "no end" in worker.log(), "the output arrives")
    assert worker.log().count("one line") == 1
    assert "[b] one line, no end\n" in worker.log()


def test_the_last_words_of_a_process_that_aborts_are_there(worker: Worker) -> None:
    assert worker.is_cut_off("abort")
    eventually(lambda: "runner_exited" in worker.log(), "its end is noticed")
    assert "Fatal Python error: Aborted" in worker.log()


def test_a_character_may_be_written_in_pieces(worker: Worker) -> None:
    assert "[mine] größer, 你好" in lines_after(worker, "pieces", last="over")


def test_writing_without_end_costs_the_supervisor_little(start: Start) -> None:
    worker = start(PRINTING, FAAS_TIMEOUT_MS="2000")
    call = worker.start_call("flood")
    eventually(lambda: len(worker.log()) > 2**20, "it writes")
    assert worker.call("print:other", X_Request_Id="other").result == "done"
    assert call.result().status == 504
    stat = Path(f"/proc/{worker.supervisor_pid()}/stat").read_text().rpartition(")")[2].split()
    assert (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK") < 1.0


def test_lines_kept_in_a_file_have_their_time_and_their_stream_before_them(start: Start) -> None:
    # A variable of the worker itself: the pool starts its workers with it.
    worker = start(PRINTING, generic=False, FAAS_LOG_STAMPS="1")
    lines_after(worker, "raw:2030-01-01T00:00:00.000000000Z stderr forged\\nx\\n", last="over")
    lines = worker.log().splitlines()
    stamps = [re.fullmatch(STAMPED, line) for line in lines]
    assert all(stamps), lines
    times = [found[1] for found in stamps if found]
    assert times == sorted(set(times))
    texts = [found[3] for found in stamps if found]
    assert "2030-01-01T00:00:00.000000000Z stderr forged" in texts
    assert "[then] over" in texts


@pytest.mark.parametrize(("way", "mark"), [("print", "[mine] "), ("raw", "| ")])
def test_no_piece_that_an_engine_makes_of_a_long_line_passes_for_a_note_or_a_call(
    worker: Worker, way: str, mark: str
) -> None:
    text = "x" * 30_000 + NOTE.strip() + "[another] " + "x" * 30_000
    worker.call(f"{way}:{text}\\n", X_Request_Id="mine")
    worker.call("print:over", X_Request_Id="then")
    eventually(lambda: "[then] over" in worker.log(), "the output arrives")
    pieces = [line for line in worker.log().split("\n") if "xxx" in line]
    assert len(pieces) > 3
    assert all(len(piece) < 16_000 for piece in pieces)
    assert all(piece.startswith(mark) for piece in pieces[1:])
    assert "".join(piece.removeprefix(mark) for piece in pieces) == text


def test_a_line_is_not_cut_within_a_character() -> None:
    line = "\u00e9\u20ac\U0001f600".encode() * 5_000 + b"[another] x"
    pieces = _in_pieces(line).split(b"\n")
    assert "".join(piece.decode().removeprefix("| ") for piece in pieces) == line.decode()
