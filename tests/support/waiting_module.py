"""Says that it is being imported, and is once SIGTERM has come and waits to be taken."""

import signal
import sys
import time

sys.stderr.write("importing\n")
sys.stderr.flush()
_end = time.monotonic() + 60
while signal.SIGTERM not in signal.sigpending() and time.monotonic() < _end:
    time.sleep(0.02)
