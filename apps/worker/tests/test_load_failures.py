"""What is told of a file that can't be loaded, and which encodings it may have."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_lifecycle import load_failure

from support import Worker

Start = Callable[..., Worker]
BOM = b"\xef\xbb\xbf"
HANDLE = "\ndef handle(payload):\n    return WORD\n"


@pytest.fixture
def fails(tmp_path: Path, birth: str) -> Callable[[str | bytes], dict[str, Any]]:
    return lambda source: load_failure(tmp_path, source, birth)


Fails = Callable[[str | bytes], dict[str, Any]]


def test_the_options_that_a_script_lacks_are_told(fails: Fails) -> None:
    report = fails(
        "import argparse\n"
        "parser = argparse.ArgumentParser(prog='report')\n"
        "parser.add_argument('--year', required=True)\n"
        "parser.parse_args()\n"
    )
    assert (report["type"], report["line"]) == ("SystemExit", 4)
    usage, reason = report["stderr"].splitlines()
    assert usage.startswith("usage: report")
    assert reason == "report: error: the following arguments are required: --year"
    assert "__main__" in report["advice"]


@pytest.mark.parametrize(
    "last_words",
    [
        "import os\nos.write(2, b'raw words\\n')\nos._exit(3)",
        "import subprocess\nsubprocess.run(['sh', '-c', 'echo raw words >&2; kill -9 $PPID'])",
        "import sys\nprint('raw words', file=sys.stderr)\nraise ValueError",
        "import sys\nprint('raw words', end='', file=sys.stderr, flush=True)\nsys.exit(1)",
    ],
)
def test_whatever_wrote_to_stderr_is_told(fails: Fails, last_words: str) -> None:
    assert fails(last_words)["stderr"].splitlines()[-1] == "raw words"


def test_only_the_end_of_stderr_is_told_and_can_steer_no_terminal(fails: Fails) -> None:
    report = fails(
        "import sys\n"
        "for number in range(200):\n"
        "    print(number, '\\x1b[31m' + 'ü' * number, file=sys.stderr)\n"
        "print('\\x1b[0mthe end', file=sys.stderr)\n"
        "sys.exit(1)\n"
    )
    assert report["stderr"].endswith("\n\\x1b[0mthe end")
    assert len(report["stderr"].encode()) < 5000
    assert "\x1b" not in report["stderr"]


def test_a_name_that_is_almost_there_is_suggested(fails: Fails) -> None:
    report = fails(
        "import json\nfrom os.path import join\ndef handler(payload): ...\nclass Other: ...\n"
    )
    assert (report["type"], report["available"]) == ("AttributeError", ["Other", "handler"])
    assert report["advice"] == "Did you mean 'handler'? The file has Other, handler."


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("handle_it = None\n_handle = print", []),
        ("from os.path import join", ["join"]),
        ("".join(f"def f{n:03}(): ...\n" for n in range(100)), [f"f{n:03}" for n in range(20)]),
    ],
)
def test_the_names_that_a_file_has_instead_are_told(
    fails: Fails, source: str, names: list[str]
) -> None:
    assert fails(source).get("available", []) == names


@pytest.mark.parametrize("source", ["import not_there_1", "\nfrom not_there_1.part import it"])
def test_what_to_do_about_a_missing_package_is_told(fails: Fails, source: str) -> None:
    report = fails(source)
    assert (report["type"], report["line"]) == ("ModuleNotFoundError", source.count("\n") + 1)
    assert report["message"] == "No module named 'not_there_1'"
    assert "WORKER_IMAGE" in report["advice"]


def test_a_missing_part_of_a_package_that_is_there_is_no_missing_package(fails: Fails) -> None:
    assert "advice" not in fails("import json.no_such_part")


@pytest.mark.parametrize(
    "source", ["WORD = " + "-" * 1_000_000 + "1", "WORD = " + "1+" * 50_000 + "1"]
)
def test_a_file_that_is_too_much_for_the_compiler_is_told_so(fails: Fails, source: str) -> None:
    report = fails(source)
    assert report["type"] in ("MemoryError", "RecursionError")
    assert "nested too deeply or too long" in report["advice"]


def test_memory_that_runs_out_while_the_file_runs_is_told_with_its_line(fails: Fails) -> None:
    report = fails("\nraise MemoryError('all used up')")
    assert (report["line"], report["message"]) == (2, "all used up")
    assert "advice" not in report


@pytest.mark.parametrize(
    ("code", "word"),
    [
        ("# coding: latin-1\nWORD = 'grün'".encode("latin-1"), "grün"),
        ("#!/usr/bin/python\n# -*- coding: cp1252 -*-\nWORD = '5 €'".encode("cp1252"), "5 €"),
        ("\n# vim: set fileencoding=shift_jis :\nWORD = 'ソ'".encode("shift_jis"), "ソ"),
        (BOM + "WORD = 'grün'".encode(), "grün"),
        (BOM + "# coding: utf-8\nWORD = 'grün'".encode(), "grün"),
        ("# coding: utf-8-sig\nWORD = 'grün'".encode(), "grün"),
        # As Python reads it: each byte is a character.
        ("# coding: cp1252\nWORD = 'grün'".encode(), "grÃ¼n"),
        # Too late for a cookie.
        ("#\n#\n# coding: nonsense\nWORD = 'grün'".encode(), "grün"),
        ("x = 1\n# coding: nonsense\nWORD = 'grün'".encode(), "grün"),
    ],
)
def test_a_file_has_the_encoding_that_it_names(
    start: Start, tmp_path: Path, code: bytes, word: str
) -> None:
    (tmp_path / "app" / "function").mkdir(parents=True)
    (tmp_path / "app" / "function" / "handler.py").write_bytes(code + HANDLE.encode())
    worker = start("function.handler.handle", FAAS_APP_DIR=str(tmp_path / "app"))
    assert worker.call("").result == word


@pytest.mark.parametrize(
    ("code", "line", "words"),
    [
        (b"# coding: nonsense\nWORD = 1\n", 1, "nonsense"),
        (b"#!/usr/bin/python\r\n# coding=nonsense\r\nWORD = 1\r\n", 2, "nonsense"),
        (b"# coding: rot13\n", 1, "rot13"),
        (BOM + b"# coding: latin-1\n", 1, "with BOM"),
        (b"# coding: cp1252\n\nWORD = '\x81'\n", 3, "0x81"),
        (b"# coding: ascii\r\rWORD = '\xe9'\r", 3, "0xe9"),
        (b"# coding: latin-1\nWORD = '\xe9\n", 2, "unterminated string"),
        (b"WORD = 1\nWORD = '\xe9'\n", 2, "utf-8"),
    ],
)
def test_an_encoding_that_is_wrong_is_told_with_its_line(
    fails: Fails, code: bytes, line: int, words: str
) -> None:
    report = fails(code)
    assert (report["type"], report["line"]) == ("SyntaxError", line)
    assert words in report["message"]
    assert f"line {line}" in report["traceback"]


def test_advice_that_a_file_makes_up_is_cut(fails: Fails) -> None:
    """A file can send what the runner would; nobody may have work without end from it."""
    report = fails(
        "import gc, json, os, socket\n"
        "text = json.dumps({'type': 'Made', 'message': 'up', 'traceback': '', 'line': 1,\n"
        "    'stderr': '', 'advice': '\\U0001f600' * 4096, 'available': ['n' * 100] * 20})\n"
        "for fd in range(3, 64):\n"
        "    try:\n"
        "        one = socket.socket(fileno=os.dup(fd))\n"
        "        if one.type == socket.SOCK_SEQPACKET:\n"
        "            one.send(f'NOT_LOADABLE {text}'.encode())\n"
        "    except OSError:\n"
        "        pass\n"
        "os._exit(1)\n"
    )
    assert len(json.dumps(report)) < 65_536
