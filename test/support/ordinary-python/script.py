"""A command-line script that became a function."""

import argparse
import getpass
import os
import pathlib
import pwd
import sys
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("--format", default="table")
options = parser.parse_args()


def handle(payload):
    home = pathlib.Path.home()
    with tempfile.NamedTemporaryFile(dir=home):
        pass
    return {
        "format": options.format,
        "arguments": len(sys.argv),
        "user": getpass.getuser() == os.environ["USER"] == os.environ["LOGNAME"] != "",
        "home": str(home) == os.environ["HOME"],
        "entry": any(user.pw_uid == os.getuid() for user in pwd.getpwall()),
    }
