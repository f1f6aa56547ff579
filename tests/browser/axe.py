"""What axe finds on a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Page

__all__ = ["serious_faults"]

_AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"


async def serious_faults(page: Page) -> list[str]:
    """Return what axe finds that is serious or worse, in a line each."""
    if not _AXE.is_file():
        pytest.fail("the npm package of tests/browser is missing: `make test` installs it")
    await page.evaluate(_AXE.read_text())
    found = await page.evaluate("axe.run()")
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['html'][:120]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
