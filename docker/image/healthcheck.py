"""Asks the container's service whether it lives, where its first process was told to listen."""

import http.client
import os
import re
import ssl
import sys
from pathlib import Path


def main() -> int:
    """Return 0 if it answers.

    A service that still loads its model, or waits for its model server, answers: restarting it
    would not help.
    """
    started = Path("/proc/1/cmdline").read_text().split("\0")
    binds = re.findall(r"\0(?:--bind|-b)[=\0]?([^\0]+)", "\0".join(started))
    host, _, port = (binds or [f":{os.environ['PORT']}"])[0].rpartition(":")
    every = host in ("", "0.0.0.0", "[::]")  # noqa: S104 - not bound, but asked
    address = ("127.0.0.1" if every else host.strip("[]"), int(port))
    connection = http.client.HTTPConnection(*address, timeout=5)
    if any(argument.startswith("--certfile") for argument in started):
        unchecked = ssl._create_unverified_context()  # noqa: S323 - its own certificate
        connection = http.client.HTTPSConnection(*address, timeout=5, context=unchecked)
    connection.request("GET", "/health/live")
    return 0 if connection.getresponse().status < 500 else 1


if __name__ == "__main__":
    sys.exit(main())
