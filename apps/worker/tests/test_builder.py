"""What a build may take, and what becomes of files that can't be compiled."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faas_builder import sizes
from faas_builder.build import Failed, build, can_link, compile_all, run_uv
from faas_builder.job import Job
from faas_builder.sizes import Intake, memory_of_family

MIB = 2**20


def job_in(folder: Path, **others: Any) -> Job:
    for name in ("out", "layer", "tmp", "shared"):
        (folder / "build" / name if name != "shared" else folder / name).mkdir(parents=True)
    given: dict[str, Any] = {
        "requirements": "some\n",
        "is_lock": False,
        "requires_python": "",
        "uv": str(folder / "uv"),
        "cache": str(folder / "shared"),
        "index_url": None,
        "extra_index_urls": [],
        "wheels": None,
        "allow_sdists": False,
        "most_bytes": 4 * MIB,
        "most_files": 100,
        "seconds": 60,
    }
    return Job.read({**given, **others}, str(folder / "build"))


class Writer:
    """A process that writes so many MiB into a file when it is told to."""

    def __init__(self, path: Path) -> None:
        code = (
            "import sys\n"
            "for line in sys.stdin:\n"
            "    open(sys.argv[1], 'ab').write(bytes(int(line)))\n"
            "    print(flush=True)\n"
        )
        arguments = [sys.executable, "-c", code, str(path)]
        self.process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def write(self, size: int) -> None:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{size}\n")
        stdin.flush()
        assert stdout.readline() == "\n"


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[tuple[Writer, Writer]]:
    archives = tmp_path / "archives"
    archives.mkdir()
    pair = (Writer(archives / "one"), Writer(archives / "other"))
    yield pair
    for writer in pair:
        writer.process.kill()
        writer.process.communicate()


def test_builds_that_share_a_cache_answer_for_their_own_downloads_alone(
    tmp_path: Path, writers: tuple[Writer, Writer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "_INDEX_BYTES", MIB)
    ours, others = writers
    job = job_in(tmp_path)
    intake = Intake(job, ours.process.pid)
    (tmp_path / "shared" / "archive-v0" / "theirs").mkdir(parents=True)
    (tmp_path / "shared" / "archive-v0" / "theirs" / "file").write_bytes(bytes(20 * MIB))
    others.write(20 * MIB)
    assert not intake.is_too_much()
    ours.write(4 * MIB)
    assert not intake.is_too_much()
    ours.write(4 * MIB)
    assert intake.is_too_much()
    # What it copies of it into its own folder has been counted already.
    Path(job.path("layer", "file")).write_bytes(bytes(4 * MIB))
    assert not intake.is_too_much()
    Path(job.path("layer", "more")).write_bytes(bytes(1))
    assert intake.is_too_much()


def test_a_build_with_a_cache_of_its_own_answers_for_all_in_it(tmp_path: Path) -> None:
    job = job_in(tmp_path, cache=str(tmp_path / "build" / "cache"))
    archives = tmp_path / "build" / "cache" / "archive-v0"
    archives.mkdir(parents=True)
    intake = Intake(job, os.getpid())
    (archives / "one").mkdir()
    (archives / "one" / "file").write_bytes(bytes(3 * MIB))
    assert not intake.is_too_much()
    (tmp_path / "build" / "cache" / ".tmpDraft").mkdir()
    (tmp_path / "build" / "cache" / ".tmpDraft" / "file").write_bytes(bytes(2 * MIB))
    assert intake.is_too_much()


def test_memory_is_counted_of_all_that_descend_from_a_process() -> None:
    grandchild = "held = bytearray(100 * 2**20); print('', flush=True); input()"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    before = memory_of_family(os.getpid())
    with subprocess.Popen(
        [sys.executable, "-c", child], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert memory_of_family(os.getpid()) - before > 100 * MIB
        process.communicate(b"\n")


def test_uv_is_ended_when_it_takes_more_memory_than_it_may(tmp_path: Path) -> None:
    job = job_in(tmp_path, most_memory=200 * MIB)
    uv = Path(job.uv)
    uv.write_text(
        f"#!{sys.executable}\nimport time\nheld = bytearray(400 * 2**20)\ntime.sleep(60)\n"
    )
    uv.chmod(0o755)
    with pytest.raises(Failed, match=r"more memory than 200 MiB \(BUILD_MEMORY_MIB\)") as failed:
        run_uv(job, ["install"])
    assert failed.value.kind == "too_large"


def test_what_can_not_be_compiled_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sound.py").write_text("x = 1\n")
    (tmp_path / "other.py").write_text("print 'another Python'\n")
    (tmp_path / "deep.py").write_text("x = " + "(" * 100_000 + ")" * 100_000 + "\n")
    (tmp_path / "binary.py").write_bytes(b"\0\xff")
    compile_all(str(tmp_path))
    compiled = [path.name.split(".")[0] for path in (tmp_path / "__pycache__").iterdir()]
    assert compiled == ["sound"]
    assert (tmp_path / "other.py").read_text() == "print 'another Python'\n"


CLEANER = """
    #!{python}
    import os, shutil, sys
    assert sys.argv[1:3] == ["cache", "clean"], sys.argv
    shutil.rmtree(os.path.join(os.environ["UV_CACHE_DIR"], "archive-v0"))
"""


@pytest.mark.parametrize(("most", "is_kept"), [(2 * MIB, True), (MIB - 1, False)])
def test_a_cache_is_emptied_when_it_is_larger_than_it_may_be(
    tmp_path: Path, most: int, is_kept: bool
) -> None:
    uv = tmp_path / "uv"
    uv.write_text(textwrap.dedent(CLEANER).strip().format(python=sys.executable))
    uv.chmod(0o755)
    archives = tmp_path / "cache" / "archive-v0"
    archives.mkdir(parents=True)
    (archives / "file").write_bytes(bytes(MIB))
    arguments = [sys.executable, "-m", "faas_builder.cache", str(uv), str(tmp_path / "cache")]
    subprocess.run([*arguments, str(most)], check=True, cwd=Path(__file__).parent.parent)
    assert archives.exists() == is_kept


def test_an_empty_lock_gives_an_empty_layer(tmp_path: Path) -> None:
    job = job_in(tmp_path, requirements="", is_lock=True)
    assert build(job)["files"] == 0


def test_links_are_tried_before_they_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, layer = tmp_path / "cache", tmp_path / "layer"
    cache.mkdir()
    layer.mkdir()
    assert can_link(str(cache), str(layer))

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert not can_link(str(cache), str(layer))
    assert os.listdir(cache) == os.listdir(layer) == []
