"""Reports: pure functions from an audit to text, one format a module.

What was not looked at and what a baseline accepts is in each of them, and never counts as well.
"""

from __future__ import annotations

import importlib
from typing import Final

from sealwax.audit._report import Audit

#: By the name that ``--format`` takes.
FORMATS: Final = ("csv", "html", "junit", "ocsf", "sarif")


def render(audit: Audit, form: str) -> str:
    """Return an audit in one of the :data:`FORMATS`, with a newline at its end."""
    text: str = importlib.import_module(f"sealwax.audit._reports.{form}").render(audit)
    return text
