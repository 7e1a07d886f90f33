"""Reports: functions from an audit to text, one module for each format.

Each report lists gaps and accepted findings too, and none of them counts a gap as fine.
"""

from __future__ import annotations

import importlib
import json
from typing import Final

from sealwax.audit._report import Audit, to_json

#: The formats that ``render`` takes.
FORMATS: Final = ("csv", "html", "json", "junit", "ocsf", "sarif")


def render(audit: Audit, form: str) -> str:
    """Return an audit as a report.

    Args:
        audit: the result of ``run``.
        form: one of the ``FORMATS``.

    Returns:
        The text of the report, with a newline at its end.

    Raises:
        ValueError: there is no such format.

    Example:
        ``render(run(facts), "html")``
    """
    if form not in FORMATS:
        raise ValueError(f"'{form}' is not a format of reports; use one of {', '.join(FORMATS)}")
    if form == "json":
        return json.dumps(to_json(audit)) + "\n"
    text: str = importlib.import_module(f"sealwax.audit._reports.{form}").render(audit)
    return text
