"""Live checks of a KMS key, with evidence: the library's promises, tried against your own key.

``prove`` runs every check in ``CHECKS`` once, and with a key store those in ``RECORDS_CHECKS``. It returns a
``ProofReport``. A check *passed*, *failed*, or was *not shown*, with the reason. A check that depends on one that did
not pass is not shown; it never counts as passed. The key is not changed without ``allow_changes``, and the only
plaintext is a sample of this module.

::

    report = prove("alias/payments", {"purpose": "backup"}, boto3.Session())
    assert report.count("failed") == 0
"""

from sealwax.prove._proof import Check, Helper, Options, Parts
from sealwax.prove._results import CheckResult, Evidence, Outcome, ProofReport
from sealwax.prove._run import CHECKS, RECORDS_CHECKS, planned_requests, prove

__all__ = [
    "CHECKS",
    "RECORDS_CHECKS",
    "Check",
    "CheckResult",
    "Evidence",
    "Helper",
    "Options",
    "Outcome",
    "Parts",
    "ProofReport",
    "planned_requests",
    "prove",
]
