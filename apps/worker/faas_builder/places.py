"""Where a build leaves what it has made."""

#: In `out`, beside `lock.txt` and `result.json`.
ARCHIVE = "site-packages.tar"
