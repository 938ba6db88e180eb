"""Starts the worker as another user, who may not be allowed to read this interpreter's library."""

from __future__ import annotations

import ctypes  # noqa: F401 - what the handlers import later
import os
import resource
import subprocess  # noqa: F401
import sys

from faas_worker import __main__
from faas_worker.runner import runner  # noqa: F401
from faas_worker.supervisor import supervisor  # noqa: F401

if limit := int(os.environ.get("FAAS_TEST_PIDS", "0")):
    resource.setrlimit(resource.RLIMIT_NPROC, (limit, limit))
user, real = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(user, user, user)
os.setresuid(real, user, user)
sys.argv[1:] = []
sys.exit(__main__.main())
