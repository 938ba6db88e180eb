"""Packages that a worker fetches by itself."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from faas_worker import layer_sweep
from faas_worker.fetched_layer import Archive, NotFetched, fetch
from support import PATIENCE_SECONDS, WORKER_DIR, Worker

TOKEN = "a-token-of-the-layer"
FILES = {"pkg/__init__.py": b"WORD = 'fetched'\n", "bin/say": b"#!/bin/sh\n"}


def tar_of(files: dict[str, bytes], *entries: tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755 if name.startswith("bin/") else 0o644
            archive.addfile(entry, io.BytesIO(content))
        for entry in entries:
            archive.addfile(entry)
    return out.getvalue()


class Manager:
    """Answers once with each of its answers, and from then on with the last."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, bytes]] = [(200, tar_of(FILES))]
        self.asked: list[str | None] = []
        #: Nobody is answered meanwhile.
        self.held = threading.Lock()
        self.came = threading.Event()
        manager = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                manager.asked.append(self.headers["Authorization"])
                manager.came.set()
                with manager.held:
                    pass
                answers = manager.answers
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/layers/one"

    def archive(self, of: bytes | None = None, **changes: Any) -> Archive:
        sha256 = hashlib.sha256(of or self.answers[-1][1]).hexdigest()
        return Archive(self.url, TOKEN, sha256, 1_000_000, 100)._replace(**changes)


@pytest.fixture
def manager() -> Iterator[Manager]:
    manager = Manager()
    yield manager
    manager.server.shutdown()
    manager.server.server_close()


def everything_in(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_files_are_laid_out_for_reading(manager: Manager, tmp_path: Path) -> None:
    folder = tmp_path / "layer"
    fetch(manager.archive(), str(folder), PATIENCE_SECONDS)
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    modes = [oct((folder / name).stat().st_mode & 0o777) for name in FILES]
    assert modes == ["0o444", "0o555"]
    assert manager.asked == [f"Bearer {TOKEN}"]
    assert everything_in(tmp_path) == ["layer"]


def test_what_is_there_is_not_fetched_again(manager: Manager, tmp_path: Path) -> None:
    fetch(manager.archive(), str(tmp_path), PATIENCE_SECONDS)
    assert manager.asked == []


def test_what_another_pod_has_fetched_meanwhile_is_taken(manager: Manager, tmp_path: Path) -> None:
    folder = tmp_path / "layer"
    # The one that is slower finds the folder there when it would put its own.
    slow = threading.Thread(target=fetch, args=(manager.archive(), str(folder), PATIENCE_SECONDS))
    with manager.held:
        slow.start()
        assert manager.came.wait(PATIENCE_SECONDS)
        folder.mkdir()
        (folder / "whole").touch()
    slow.join(PATIENCE_SECONDS)
    assert not slow.is_alive()
    assert everything_in(folder) == ["whole"]
    assert everything_in(tmp_path) == ["layer"]
    assert len(manager.asked) == 1


def test_a_manager_that_is_busy_or_leaves_is_asked_again(manager: Manager, tmp_path: Path) -> None:
    sound = manager.answers[0]
    cut_off = (200, sound[1][:700])
    manager.answers = [(503, b""), cut_off, sound]
    fetch(manager.archive(), str(tmp_path / "layer"), PATIENCE_SECONDS)
    assert (tmp_path / "layer" / "bin" / "say").is_file()
    assert len(manager.asked) == 3
    assert everything_in(tmp_path) == ["layer"]


def test_waiting_for_a_manager_has_an_end(tmp_path: Path, manager: Manager) -> None:
    manager.answers = [(503, b"")]
    with pytest.raises(NotFetched, match=r"can't be fetched: .*503"):
        fetch(manager.archive(), str(tmp_path / "layer"), 0.5)
    assert len(manager.asked) > 1
    assert everything_in(tmp_path) == []


def test_a_disk_without_a_place_for_them_is_no_reason_to_ask_again(
    manager: Manager, tmp_path: Path
) -> None:
    with pytest.raises(NotFetched, match="can't be fetched: FileNotFoundError"):
        fetch(manager.archive(), str(tmp_path / "nowhere" / "layer"), PATIENCE_SECONDS)
    assert len(manager.asked) == 1


@pytest.mark.parametrize("status", [403, 404])
def test_a_manager_that_has_none_is_asked_once(
    manager: Manager, tmp_path: Path, status: int
) -> None:
    manager.answers = [(status, b"")]
    with pytest.raises(NotFetched, match=str(status)):
        fetch(manager.archive(), str(tmp_path / "layer"), PATIENCE_SECONDS)
    assert len(manager.asked) == 1


def test_other_bytes_than_promised_leave_nothing(manager: Manager, tmp_path: Path) -> None:
    with pytest.raises(NotFetched, match="others than were asked for"):
        fetch(manager.archive(b"others"), str(tmp_path / "layer"), PATIENCE_SECONDS)
    assert everything_in(tmp_path) == []


def test_more_than_promised_leaves_nothing(manager: Manager, tmp_path: Path) -> None:
    limits = [{"most_bytes": 10}, {"most_files": 0}, {"most_bytes": -1_000_000, "most_files": 1}]
    for limit in limits:
        with pytest.raises(NotFetched, match="larger than they may be"):
            fetch(manager.archive(**limit), str(tmp_path / "layer"), PATIENCE_SECONDS)
    assert everything_in(tmp_path) == []


def link(name: str, kind: bytes, target: str) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


@pytest.mark.parametrize(
    "hostile",
    [
        tar_of({"../out.py": b""}),
        tar_of({"/etc/out.py": b""}),
        tar_of({"pkg//out.py": b""}),
        tar_of({}, link("pkg", tarfile.SYMTYPE, "/etc")),
        tar_of(FILES, link("other", tarfile.LNKTYPE, "pkg/__init__.py")),
        tar_of({}, link("pipe", tarfile.FIFOTYPE, "")),
        tar_of({}, link("disk", tarfile.BLKTYPE, "")),
    ],
)
def test_an_archive_with_a_way_out_leaves_nothing(
    manager: Manager, tmp_path: Path, hostile: bytes
) -> None:
    manager.answers = [(200, hostile)]
    (tmp_path / "home").mkdir()
    with pytest.raises(NotFetched, match="can't be unpacked"):
        fetch(manager.archive(), str(tmp_path / "home" / "layer"), PATIENCE_SECONDS)
    assert everything_in(tmp_path) == ["home"]
    assert everything_in(tmp_path / "home") == []


def test_as_a_program_it_takes_its_environment_and_says_what_is_wrong(
    manager: Manager, tmp_path: Path
) -> None:
    def run(archive: Archive) -> subprocess.CompletedProcess[str]:
        url, token, sha256, most_bytes, most_files = archive
        given = {"URL": url, "TOKEN": token, "SHA256": sha256}
        given |= {"BYTES": str(most_bytes), "FILES": str(most_files)}
        env = {f"FAAS_LAYER_{name}": value for name, value in given.items()}
        return subprocess.run(
            [sys.executable, "-m", "faas_worker.fetched_layer"],
            env={**env, "FAAS_LAYER": str(tmp_path / "layer"), "PYTHONPATH": str(WORKER_DIR)},
            capture_output=True,
            text=True,
            check=False,
        )

    wrong = run(manager.archive(b"others"))
    assert (wrong.returncode, wrong.stderr) == (
        1,
        "The packages that came are others than were asked for.\n",
    )
    assert run(manager.archive()).returncode == 0
    assert (tmp_path / "layer" / "pkg" / "__init__.py").read_bytes() == FILES["pkg/__init__.py"]


def test_a_sweep_spares_what_is_kept_and_what_was_just_used(
    manager: Manager, tmp_path: Path
) -> None:
    names = [letter * 64 for letter in "abc"]
    draft = f"{names[0]}.pod.1"
    for name in [*names, draft, f"{names[2]}.other.1"]:
        (tmp_path / name / "pkg").mkdir(parents=True)
        os.utime(tmp_path / name, (0, 0))
    os.utime(tmp_path / f"{names[2]}.other.1")
    fetch(manager.archive(), str(tmp_path / names[1]), PATIENCE_SECONDS)
    before = str(time.time() - 600)
    command = [sys.executable, "-m", "faas_worker.layer_sweep", str(tmp_path), before, "c" * 16]
    subprocess.run(command, env={"PYTHONPATH": str(WORKER_DIR)}, check=True)
    assert everything_in(tmp_path) == sorted([names[1], names[2], f"{names[2]}.other.1"])
    assert manager.asked == []


def test_a_sweep_of_what_is_not_there_yet_is_none(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "faas_worker.layer_sweep", str(tmp_path / "none"), "600"]
    subprocess.run(command, env={"PYTHONPATH": str(WORKER_DIR)}, check=True)


def test_a_sweep_says_what_it_could_not_remove(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "held").mkdir()
    os.utime(tmp_path / "held", (0, 0))
    # As a file system that is for reading alone does.
    monkeypatch.setattr(layer_sweep.shutil, "rmtree", lambda *_, **__: None)
    monkeypatch.setattr(sys, "argv", ["layer_sweep", str(tmp_path), "600"])
    assert layer_sweep.main() == 1
    assert capsys.readouterr().err == "1 folders could not be removed: held\n"


@pytest.fixture
def generic(tmp_path: Path) -> Iterator[Worker]:
    (tmp_path / "layers").mkdir()
    worker = Worker(
        tmp_path,
        generic=True,
        HANDLER_FUNCTION="function.handler.handle",
        FAAS_LAYERS_DIR=str(tmp_path / "layers"),
    )
    try:
        yield worker.wait_generic()
    finally:
        worker.close()


USES = b"from pkg import WORD\ndef handle(payload):\n    return WORD\n"


def told_of(archive: Archive) -> dict[str, Any]:
    url, token, sha256, most_bytes, most_files = archive
    layer = {"digest": "d" * 64, "url": url, "token": token, "sha256": sha256}
    return layer | {"bytes": most_bytes, "files": most_files}


def test_a_generic_worker_fetches_the_packages_of_its_function(
    manager: Manager, generic: Worker
) -> None:
    answer = generic.specialise(USES, layer=told_of(manager.archive()))
    assert (answer.status, answer.json) == (202, {"status": "specialised"})
    assert generic.call("").result == "fetched"
    assert everything_in(Path(generic.environ["FAAS_LAYERS_DIR"])) == ["d" * 64]


def test_a_generic_worker_takes_packages_that_are_there(
    manager: Manager, generic: Worker, tmp_path: Path
) -> None:
    shared = tmp_path / "shared" / "one"
    (shared / "pkg").mkdir(parents=True)
    (shared / "pkg" / "__init__.py").write_text("WORD = 'shared'")
    layer = told_of(manager.archive())
    answer = generic.specialise(USES, layer=layer, FAAS_LAYER=str(shared))
    assert (answer.status, manager.asked) == (202, [])
    assert generic.call("").result == "shared"


def test_a_generic_worker_that_gets_others_refuses_its_function(
    manager: Manager, generic: Worker
) -> None:
    answer = generic.specialise(USES, layer=told_of(manager.archive(b"others")))
    assert answer.status == 422
    assert "others than were asked for" in answer.json["detail"]
    assert generic.process.wait(PATIENCE_SECONDS) == 64


@pytest.mark.parametrize(
    "change", [{"digest": "../out"}, {"digest": 1}, {"bytes": "many"}, {"url": None}]
)
def test_packages_that_are_not_said_to_be_some_are_refused(
    manager: Manager, generic: Worker, change: dict[str, Any]
) -> None:
    answer = generic.specialise(USES, layer=told_of(manager.archive()) | change)
    assert (answer.status, manager.asked) == (422, [])
    assert '"layer" must say' in answer.json["detail"]
