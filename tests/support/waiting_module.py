"""Says that it is being imported, and never is."""

import sys
import threading

sys.stderr.write("importing\n")
sys.stderr.flush()
threading.Event().wait()
