"""The lab beside AWS: the same keys and roles under the same names, for the requests that are compared."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from sealwax._aws.session import Session
from sealwax._rehearse.masks import Masks
from sealwax._rehearse.plan import policy
from sealwax._rehearse.state import Run
from sealwax._rehearse.world import ROLES, World, make_keys
from sealwax.lab import Lab

_CALLER = "sealwax-rehearsal-caller"


class _LabReach:
    """A lab, whose caller has the policy of a rehearsal and nothing else."""

    def __init__(self, lab: Lab, caller: str) -> None:
        self._lab = lab
        self._caller = caller

    def caller(self, region: str) -> Session:
        return self._lab.session(region, principal=self._caller)

    def role(self, arn: str, region: str) -> Session:
        return self._lab.session(region, principal=arn)


@contextlib.contextmanager
def mirror(world: World) -> Iterator[World]:
    """Yield the world of a new lab that has what the run has in AWS."""
    of = world.run
    run = Run(of.run, of.account, of.regions)
    with Lab(world.work / "lab") as lab:
        caller = lab.add_principal(_CALLER, account=run.account, policy=policy(run.regions))
        for name in ROLES:
            lab.add_principal(run.names.role(name), role=True, account=run.account)
        beside = World(run, _LabReach(lab, caller["Arn"]), Masks(), world.work)
        make_keys(beside, lambda _: None, run.keys.__setitem__)
        yield beside
