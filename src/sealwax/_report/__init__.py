"""What all reports share: the verdict, who made the report and how, and the look of its page.

It knows nothing of fleets, proofs and audits: each renders its own content, and this room puts the head above it.
"""

from sealwax._report.page import page
from sealwax._report.verdict import Provenance, Tone, Verdict

__all__ = ["Provenance", "Tone", "Verdict", "page"]
