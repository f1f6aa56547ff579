"""Compiles the installed modules, so that a container does not do it at each of its starts.

One process, one order, and hashes in place of times: the same modules give the same bytes. Python
still looks whether a module was changed since.
"""

import py_compile
import sys
from importlib.util import cache_from_source
from pathlib import Path


def main() -> None:
    """Compile what has not been compiled; a file that is no Python for this version is left out."""
    for folder in sorted({path for path in sys.path[1:] if Path(path).is_dir()}):
        for source in sorted(Path(folder).rglob("*.py")):
            if Path(cache_from_source(str(source))).exists():
                continue
            py_compile.compile(
                str(source), quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
            )


if __name__ == "__main__":
    main()
