"""The services of this checkout, as their folders and settings say: nobody lists them again."""

from __future__ import annotations

from ml.serving.services import settings_of
from ml.workflows.loading import load_workflow_class
from tests.support.processes import ROOT

__all__ = ["EXTRAS", "PREFIXES", "SERVICES"]

SERVICES = sorted(folder.name for folder in (ROOT / "services").glob("*_service"))
#: How the names of each service's settings begin.
PREFIXES = {name: settings_of(name).prefix() for name in SERVICES}
#: What of the distribution each service needs.
EXTRAS = {
    name: load_workflow_class(settings_of(name).model_fields["workflow_class"].default).extra
    for name in SERVICES
}
