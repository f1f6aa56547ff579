"""The shared workflow library of the Infernet inference, training and proof services."""

import sys
from typing import Any

__version__ = "0.1.0"

# No library that is imported here tells its maker that it is used. OpenVINO would do so when it is
# imported, and does without the module that it sends by.
_modules: dict[str, Any] = sys.modules
_modules.setdefault("openvino_telemetry", None)
