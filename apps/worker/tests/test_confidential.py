"""Secrets: how a worker gets them, and what it tells of them."""

from __future__ import annotations

import json
import stat
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from faas_worker import confidential
from support import PATIENCE_SECONDS, Worker, eventually

PEM = "-----BEGIN KEY-----\nMIIEvAIBADANBgkqhkiG9w0B\n-----END KEY-----\n"
HANDLER = """
import os

def handle(payload):
    token = os.environ["TOKEN"]
    if payload == "raise":
        with open(os.environ["FAAS_SECRETS_DIR"] + "/tls.pem") as file:
            raise ValueError(f"no {token!r} {file.read()}")
    if payload == "key":
        return {token: object()}
    if payload == "print":
        print("it is", token, flush=True)
    with open(os.path.join(os.environ["FAAS_SECRETS_DIR"], "tls.pem")) as file:
        return [token, file.read()]
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    worker = Worker(tmp_path, generic=True, HANDLER_FUNCTION="function.handler.handle")
    try:
        yield worker.wait_generic()
    finally:
        worker.close()


def given(worker: Worker, source: str, folder: Path, **files: str) -> None:
    answer = worker.specialise(
        source.encode(),
        files=files,
        TOKEN="hunter2-token",
        FAAS_SECRETS="TOKEN",
        FAAS_SECRETS_DIR=str(folder),
    )
    assert (answer.status, answer.json) == (202, {"status": "specialised", "files": len(files)})


def test_a_handler_has_them_as_variables_and_as_files(worker: Worker, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    given(worker, HANDLER, folder, **{"tls.pem": PEM})
    assert worker.call("get").json == {"result": ["hunter2-token", PEM]}
    assert stat.S_IMODE((folder / "tls.pem").stat().st_mode) == 0o400
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_errors_and_logs_have_a_mask_in_their_place(worker: Worker, tmp_path: Path) -> None:
    given(worker, HANDLER, tmp_path / "secrets", **{"tls.pem": PEM})
    raised = worker.call("raise")
    assert raised.status == 400
    assert raised.json["error"]["message"] == "no '***' ***"
    for text in (json.dumps(raised.json), json.dumps(worker.call("key").json)):
        assert "hunter2" not in text
        assert "MIIEvAIBADANBgkqhkiG9w0B" not in text
    worker.call("print")
    eventually(lambda: "it is ***" in worker.log(), "what it printed is in its log")
    assert "hunter2" not in worker.log()


def test_marks_of_the_worker_stay_whole_though_a_secret_is_a_part_of_them(
    worker: Worker, tmp_path: Path
) -> None:
    answer = worker.specialise(
        b"def handle(payload):\n    print('a call of the user')\n",
        files={"words": "call\nuser\nfaas"},
        FAAS_SECRETS="words",
        FAAS_SECRETS_DIR=str(tmp_path / "secrets"),
        FAAS_CALLED_ONCE="yes",
    )
    assert answer.status == 202
    worker.call("", X_Request_Id="call-of-user")
    expected = "[call-of-user] a *** of the ***\n", '[call-of-user] {"faas": "end of call"}\n'
    for line in expected:
        eventually(lambda line=line: line in worker.log(), "its line is there")


def test_a_file_that_cannot_be_loaded_tells_none(worker: Worker, tmp_path: Path) -> None:
    source = (
        "import os, sys\n"
        "print(os.environ['TOKEN'], file=sys.stderr)\n"
        "raise ValueError(os.environ['TOKEN'])\n"
    )
    given(worker, source, tmp_path / "secrets", **{"tls.pem": PEM})
    worker.process.wait(PATIENCE_SECONDS)
    assert '"handler_not_loadable"' in worker.log()
    assert "***" in worker.log()
    assert "hunter2" not in worker.log()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 129])
def test_a_file_of_another_name_is_refused(worker: Worker, name: str) -> None:
    answer = worker.specialise(b"", files={name: "x"})
    assert answer.status == 422


def test_short_values_are_left_alone_and_quoted_ones_found() -> None:
    try:
        environ = {"FAAS_SECRETS": "A,B,C,D,E", "A": "abc", "B": 'quo"ted\t', "C": "ends\n"}
        environ |= {"D": 'gr\u00f6\u00dfer "x"\x01', "E": "bob\nhunter2\nfour\n"}
        confidential.hide(environ, "/nowhere")
        assert environ["FAAS_SECRETS_DIR"] == "/nowhere"
        assert confidential.masked("abc") == "abc"
        assert confidential.masked(repr('quo"ted\t')) == "'***'"
        assert confidential.masked(json.dumps('quo"ted\t')) == '"***"'
        assert confidential.masked_bytes(b"it ends") == b"it ***"
        for ascii_only in (True, False):
            text = json.dumps(environ["D"], ensure_ascii=ascii_only)
            assert confidential.masked(text) == '"***"'
            assert confidential.masked_bytes(text.encode()) == b'"***"'
        assert confidential.masked("bob\nhunter2\nfour\n") == "***"
        assert confidential.masked("bob is hunter2, not four") == "bob is ***, not ***"
    finally:
        confidential.hide({}, "/nowhere")
    assert confidential.masked("ends") == "ends"


def test_values_as_large_as_they_may_be_are_masked_in_little_time_and_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"{number:04d} " + "x" * 58 for number in range(16 * 1024)]
    (tmp_path / "bundle.pem").write_text("\n".join(lines))
    monkeypatch.setattr(confidential, "_text", [])
    monkeypatch.setattr(confidential, "_bytes", [])
    began = time.monotonic()
    tracemalloc.start()
    confidential.hide({"FAAS_SECRETS": ""}, str(tmp_path))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert confidential.masked(f"it is {lines[7]}!") == "it is ***!"
    assert confidential.masked_bytes(lines[9].encode()) == b"***"
    assert most < 32 * 1024 * 1024
    assert time.monotonic() - began < 5
