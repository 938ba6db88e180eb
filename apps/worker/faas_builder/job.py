"""What is to be built, by which rules."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

_USERINFO = re.compile(r"(?<=//)[^/@\s]+(?=@)")


class Job(NamedTuple):
    folder: str
    #: The lines of a requirements file.
    requirements: str
    #: They are a lock already: pinned, with hashes.
    is_lock: bool
    #: Which Pythons the code says that it runs with (PEP 440); empty: any.
    requires_python: str
    uv: str
    cache: str
    #: None: no index, only the folder of wheels.
    index_url: str | None
    extra_index_urls: tuple[str, ...]
    wheels: str | None
    allow_sdists: bool
    most_bytes: int
    most_files: int
    seconds: int
    #: None: a container sees to it.
    most_memory: int | None = None

    @classmethod
    def read(cls, given: dict[str, Any], folder: str) -> Job:
        extra = tuple(given.pop("extra_index_urls"))
        return cls(folder=folder, extra_index_urls=extra, **given)

    def path(self, *names: str) -> str:
        return os.path.join(self.folder, *names)

    @property
    def shares_cache(self) -> bool:
        return not self.cache.startswith(f"{self.folder}/")

    def environment(self) -> dict[str, str]:
        """Of uv: nothing of whoever started this, and no file of settings."""
        found = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": self.path("tmp"),
            "TMPDIR": self.path("tmp"),
            "UV_CACHE_DIR": self.cache,
            "UV_NO_CONFIG": "1",
            "UV_NO_PROGRESS": "1",
            "UV_PYTHON_DOWNLOADS": "never",
            # What this machine trusts, a company's own authority included.
            "UV_SYSTEM_CERTS": "1",
            "UV_HTTP_TIMEOUT": "20",
            "UV_HTTP_RETRIES": "2",
            "NO_COLOR": "1",
        }
        # Not as arguments, which every user of the machine may read.
        if self.index_url is not None:
            found["UV_DEFAULT_INDEX"] = self.index_url
        if self.extra_index_urls:
            found["UV_INDEX"] = " ".join(self.extra_index_urls)
        if "SSL_CERT_FILE" in os.environ:
            found["SSL_CERT_FILE"] = os.environ["SSL_CERT_FILE"]
        return found

    def sources(self) -> list[str]:
        """uv's options about where packages come from."""
        given = [] if self.wheels is None else ["--find-links", self.wheels]
        if self.index_url is None:
            given.append("--no-index")
        if not self.allow_sdists:
            given += ["--only-binary", ":all:"]
        return given

    def without_secrets(self, text: str) -> str:
        for url in (self.index_url, *self.extra_index_urls):
            found = _USERINFO.search(url or "")
            user, _, password = found[0].partition(":") if found else ("", "", "")
            for secret in (password, user):
                if len(secret) > 2:
                    text = text.replace(secret, "***")
        text = _USERINFO.sub("***", text)
        # Paths of this machine say nothing to the one who reads it.
        return text.replace(f"{self.folder}/", "")
