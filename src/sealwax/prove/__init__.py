"""Live checks of a KMS key, with evidence: what the library promises, shown against the user's own key.

:func:`prove` runs every check of :data:`CHECKS` once and returns a :class:`Report`. A check *passed*, *failed*, or was
*not shown*, with the reason; one whose prerequisite did not pass is not shown, and never counts as passed. Nothing is
changed on the key unless ``allow_changes`` says so, and no plaintext but a sample of this module's own is used.
"""

from sealwax.prove._proof import Check, Helper, Options, Parts
from sealwax.prove._results import Evidence, Report, Result
from sealwax.prove._run import CHECKS, planned_requests, prove

__all__ = [
    "CHECKS",
    "Check",
    "Evidence",
    "Helper",
    "Options",
    "Parts",
    "Report",
    "Result",
    "planned_requests",
    "prove",
]
