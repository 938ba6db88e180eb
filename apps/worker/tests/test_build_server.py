"""A builder that is given its job, and gives its result away, over one connection."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE_SECONDS, WORKER_DIR, eventually

TOKEN = "a-token-of-the-build"
JOB: dict[str, Any] = {
    "requirements": "",
    "is_lock": True,
    "requires_python": "",
    "uv": "",
    "cache": "",
    "index_url": None,
    "extra_index_urls": [],
    "wheels": None,
    "allow_sdists": False,
    "most_bytes": 1_000_000,
    "most_files": 100,
    "seconds": 60,
}


class Builder:
    def __init__(self, folder: Path, lease: int = 60) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        uv = folder / "uv"
        uv.write_text("#!/bin/sh\necho asking the index >&2\nexec sleep 600\n")
        uv.chmod(0o755)
        self.folder = folder / "build"
        self.folder.mkdir()
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(WORKER_DIR),
            "FAAS_HOST": "127.0.0.1",
            "FAAS_PORT": str(self.port),
            "FAAS_UV": str(uv),
            "FAAS_BUILD_LEASE_SECONDS": str(lease),
            "FAAS_BUILD_SHA256": hashlib.sha256(TOKEN.encode()).hexdigest(),
        }
        command = [sys.executable, "-m", "faas_builder.server", str(self.folder)]
        self.process = subprocess.Popen(command, env=env)

    def health(self, headers: dict[str, str]) -> Any:
        """None where nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("GET", "/health", headers=headers)
            response = connection.getresponse()
            assert response.status == 503
            return json.load(response)
        except (ConnectionError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def ask(self, job: dict[str, Any], token: str = TOKEN) -> http.client.HTTPResponse:
        def connected() -> http.client.HTTPConnection | None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return None
            return connection

        connection = eventually(connected, "the builder listens")
        headers = {"Authorization": f"Bearer {token}"}
        connection.request("POST", "/build", json.dumps(job), headers)
        return connection.getresponse()


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    builder = Builder(tmp_path)
    yield builder
    builder.process.kill()
    builder.process.wait()


def test_a_job_is_answered_with_lines_a_result_and_the_archive(builder: Builder) -> None:
    response = builder.ask(JOB)
    assert response.status == 200
    assert json.loads(response.readline())["line"].startswith("Packed 0 files")
    outcome = json.loads(response.readline())
    assert outcome["lock"] == ""
    assert {"status": "built", "bytes": 0, "files": 0}.items() <= outcome["result"].items()
    archive = response.read()
    assert len(archive) == outcome["archive"]
    with tarfile.open(fileobj=io.BytesIO(archive)) as entries:
        assert entries.getnames() == []
    response.close()
    builder.process.wait(PATIENCE_SECONDS)


def test_a_fault_of_the_job_is_its_result(builder: Builder) -> None:
    response = builder.ask({**JOB, "requires_python": "<3.0"})
    outcome = json.loads(response.readline())
    assert outcome["result"]["kind"] == "refused"
    assert (outcome["archive"], response.read()) == (0, b"")


def test_a_job_may_have_as_many_requirements_as_a_manager_takes(builder: Builder) -> None:
    # JSON writes each quote as two characters.
    building = builder.ask({**JOB, "requirements": '"' * 1024 * 1024, "is_lock": False})
    assert json.loads(building.readline()) == {"line": "asking the index"}


def test_it_takes_one_job_and_only_from_who_knows_the_token(builder: Builder) -> None:
    assert builder.ask(JOB, "another").status == 403
    building = builder.ask({**JOB, "requirements": "slow", "is_lock": False})
    assert json.loads(building.readline()) == {"line": "asking the index"}
    assert builder.ask(JOB).status == 409
    assert builder.health({}) == {"status": "building"}
    # Nobody can look the job up: the login of an index stands in it.
    assert not [path for path in builder.folder.rglob("*") if b"seconds" in content_of(path)]


def test_it_waits_for_its_job_as_long_as_its_manager_asks_after_it(tmp_path: Path) -> None:
    builder = Builder(tmp_path, lease=2)
    renewal = {"X-Faas-Lease": "renew", "X-Faas-Token": TOKEN}
    try:
        assert eventually(lambda: builder.health(renewal), "it listens") == {"status": "generic"}
        until = time.monotonic() + 4
        while time.monotonic() < until:
            assert builder.health(renewal) == {"status": "generic"}
            time.sleep(0.2)
        # Whoever doesn't know the token may look, which renews nothing.
        others = {**renewal, "X-Faas-Token": "another"}
        while builder.health(others) is not None:
            assert time.monotonic() < until + PATIENCE_SECONDS
        assert builder.process.wait(PATIENCE_SECONDS) == 1
    finally:
        builder.process.kill()
        builder.process.wait()


def test_the_build_ends_with_the_connection(builder: Builder) -> None:
    building = builder.ask({**JOB, "requirements": "slow", "is_lock": False})
    assert json.loads(building.readline()) == {"line": "asking the index"}
    started = pids_below(builder.process.pid)
    assert started
    building.close()
    builder.process.wait(PATIENCE_SECONDS)
    eventually(lambda: not any(map(is_running, started)), "nothing of it goes on")


def content_of(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def pids_below(pid: int) -> list[int]:
    """Threads start children, too."""
    found: list[int] = []
    for task in os.listdir(f"/proc/{pid}/task"):
        children = Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        for child in map(int, children):
            found += [child, *pids_below(child)]
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
