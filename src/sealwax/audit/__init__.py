"""Audits of the KMS keys of an account: collect facts, check them against the rules, report.

::

    facts = gather(boto3.Session(), ["eu-west-1"])  # or: facts = read_facts("facts.json")
    result = run(facts)
    for finding in result.findings:
        print(finding.severity.name, finding.rule, finding.resource, finding.title)
    page = render(result, "html")

Only ``gather`` uses the network, and it changes nothing. Whatever could not be checked is in ``result.gaps``.
"""

from typing import TYPE_CHECKING

from sealwax.audit._baseline import read_baseline
from sealwax.audit._collect.checkpoint import Checkpoint
from sealwax.audit._collect.cloudtrail import read_events, with_events
from sealwax.audit._facts import (
    AlarmFacts,
    AliasFacts,
    EventFacts,
    Facts,
    GrantFacts,
    KeyFacts,
    PolicyFacts,
    PrincipalFacts,
    RotationFacts,
    TrailFacts,
)
from sealwax.audit._factsfile import read_facts, write_facts
from sealwax.audit._findings import Block, BlockKind, Finding, Fix, Severity, Standard
from sealwax.audit._report import Acceptance, Accepted, Access, Audit, Gap, to_json
from sealwax.audit._reports import FORMATS, render
from sealwax.audit._rules import RULES
from sealwax.audit._rules.registry import Rule
from sealwax.audit._run import run

if TYPE_CHECKING:
    from sealwax.audit._collect.keys import gather

__all__ = [
    "FORMATS",
    "RULES",
    "Acceptance",
    "Accepted",
    "Access",
    "AlarmFacts",
    "AliasFacts",
    "Audit",
    "Block",
    "BlockKind",
    "Checkpoint",
    "EventFacts",
    "Facts",
    "Finding",
    "Fix",
    "Gap",
    "GrantFacts",
    "KeyFacts",
    "PolicyFacts",
    "PrincipalFacts",
    "RotationFacts",
    "Rule",
    "Severity",
    "Standard",
    "TrailFacts",
    "gather",
    "read_baseline",
    "read_events",
    "read_facts",
    "render",
    "run",
    "to_json",
    "with_events",
    "write_facts",
]


def __getattr__(name: str) -> object:
    # An audit of saved facts does not need boto3, which is slow to import.
    if name == "gather":
        from sealwax.audit._collect.keys import gather

        return gather
    raise AttributeError(f"module 'sealwax.audit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
