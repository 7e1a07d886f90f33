"""The checks of the way to AWS: the Region, credentials, the caller and the clock; then those of the keys."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sealwax import errors
from sealwax._aws import checkup
from sealwax._aws.origins import redacted
from sealwax._aws.session import Clients, at_endpoint
from sealwax.cli.doctor import keys
from sealwax.cli.doctor.lines import Line, failed
from sealwax.cli.kms import Aws
from sealwax.cli.state import current
from sealwax.kms import _hygiene

if TYPE_CHECKING:
    from sealwax._aws.session import Session

# botocore's names for credentials that a program passes in, as the lab does, and for those of the environment.
_EXPLICIT: Final = "explicit"
_ENVIRONMENT: Final = "env"
# botocore's errors that the line about the Region explains.
_OF_THE_REGION: Final = frozenset({"InvalidRegionError", "NoRegionError"})


def lines(names: Sequence[str], aws: Aws, context: Mapping[str, str]) -> list[Line]:
    """Check everything that can be checked; a failure skips only what depends on it. Requests take seconds at most.

    Args:
        names: the keys.
        context: that of the dry runs.
    """
    try:
        session = aws.session()
    except errors.SealwaxError as error:
        first = _unopened(error, aws)
        skipped = [Line("not checked", check, f"see {first.check}") for check in ("Region", "caller", "clock")]
        return [first, *skipped, *_keys_not_checked(names, f"see {first.check}")]
    visit = _Visit(aws, session, names)
    sign_in = visit.sign_in()
    checked = _keys_not_checked(names, visit.hopeless) if visit.hopeless or not names else visit.keys(context)
    region, caller = visit.region(), visit.caller_line()
    if session.region_name and region.state == "needs fixing":  # nothing answers in a Region that does not exist
        caller = _because_of_region(caller)
        checked = [line if keys.region_of(line.key) else _because_of_region(line) for line in checked]
    return [*visit.place(), region, *sign_in, caller, visit.clock_line(), *checked]


def _because_of_region(line: Line) -> Line:
    if line.state != "needs fixing":
        return line
    detail = f"{line.key}: see Region" if line.key else "see Region"
    return Line("not checked", line.check, detail, key=line.key)


def _unopened(error: errors.SealwaxError, aws: Aws) -> Line:
    """Return the line about a session that could not be opened."""
    line = failed("credentials" if aws.lab is None else "lab", error)
    if line.fix:
        return line
    if aws.endpoint_url is not None:
        return Line("needs fixing", "endpoint", line.detail, "correct --endpoint-url")
    fix = "check --lab or SEALWAX_LAB, and SEALWAX_LAB_PASSPHRASE or SEALWAX_LAB_KEY_FILE"
    return Line("needs fixing", line.check, line.detail, fix if aws.lab is not None else "check the AWS settings")


def _keys_not_checked(names: Sequence[str], why: str) -> list[Line]:
    if not names and current().refused_settings is not None:
        return [Line("not checked", "key", "see settings")]
    if not names:
        return [Line("not checked", "key", "no key was named", "name one with -k or in SEALWAX_KEY")]
    return [Line("not checked", "key", f"{name}: {why}", key=name) for name in names]


@dataclass(slots=True)
class _Visit:
    """One look at AWS.

    Attributes:
        caller: the caller's ARN, the error of asking for it, or why it was not asked for.
        hopeless: why no key can be checked; "" if one can.
        reached: whether KMS answered.
    """

    aws: Aws
    session: Session
    names: Sequence[str]
    clock: checkup.ServerClock = field(default_factory=checkup.ServerClock)
    caller: str | errors.SealwaxError = ""
    hopeless: str = ""
    reached: bool = False

    def _prepare(self, client: object) -> None:
        self.clock.watch(client)
        _hygiene.attach(client)

    def place(self) -> list[Line]:
        """Return a line if KMS is not where AWS has it."""
        if self.aws.lab is not None:
            folder = os.path.abspath(os.fsdecode(self.aws.lab))
            return [Line("ok", "lab", f"the lab in {folder} stands in for AWS")]
        endpoint = self._endpoint()
        if endpoint and not checkup.is_of_aws(endpoint):
            return [Line("ok", "endpoint", f"KMS is at {redacted(endpoint)}, not at AWS")]
        return []

    def _endpoint(self) -> str:
        """Return the URL of KMS; "" if it is unknown."""
        try:
            return Clients(self.session).kms(self._any_region() or "us-east-1").meta.endpoint_url
        except errors.SealwaxError:
            return ""  # which is reported elsewhere

    def _any_region(self) -> str | None:
        return self.session.region_name or next(filter(None, map(keys.region_of, self.names)), None)

    def region(self) -> Line:
        name = self.session.region_name
        if name:
            # A Region may be newer than boto3, or made up for another endpoint.
            answered = self.reached or bool(self._caller_arn())
            origin = self._origin_of_region()
            return Line("ok", "Region", f"{name}, {origin}") if answered else _known_region(name, origin)
        if self.names and all(map(keys.region_of, self.names)):
            return Line("ok", "Region", "none is set, and none is needed: the keys are named by ARN")
        unread = " (AWS_REGION is set, but boto3 does not read it)" if os.environ.get("AWS_REGION") else ""
        fix = "export AWS_DEFAULT_REGION=eu-west-1, for example, or use --region or the profile's region"
        return Line("needs fixing", "Region", f"no AWS Region is set{unread}", fix)

    def _origin_of_region(self) -> str:
        if self.aws.region:
            return "from --region"
        if os.environ.get("AWS_DEFAULT_REGION"):
            return "from AWS_DEFAULT_REGION"
        return "from the AWS profile" if self.aws.lab is None else "from the AWS profile, or the lab's default"

    def sign_in(self) -> list[Line]:
        """Ask who the caller is, and return the line about the credentials."""
        region = self._any_region()
        try:
            asking = checkup.Identification(self._session_of_sts(), region, self.clock)
        except errors.KmsError as error:
            if error.code in _OF_THE_REGION:
                self.caller = self.hopeless = "the Region is not valid"
                return [Line("not checked", "credentials", self.hopeless)]
            self.caller = self.hopeless = "there are no usable credentials"
            return [failed("credentials", error)]
        try:
            self.caller = asking.arn()
        except errors.KmsError as error:
            self.caller = "no AWS Region is set" if error.code in _OF_THE_REGION else error
            if isinstance(error, errors.CredentialsError):
                self.hopeless = "AWS does not accept the credentials"
        if self.clock.is_wrong:
            self.hopeless = "AWS refuses requests while the clock is wrong"
        return [self._credentials(asking.facts())]

    def _credentials(self, facts: checkup.SignInFacts) -> Line:
        if facts.method == _EXPLICIT and self.aws.lab is not None:
            return Line("ok", "credentials", "the lab's own")
        named = self.aws.profile or os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE")
        profile = f" (AWS profile '{named}')" if named and facts.method != _ENVIRONMENT else ""
        if facts.expires is not None:
            left = _spelled(max(0.0, (facts.expires - datetime.now(UTC)).total_seconds()))
            until = f"valid for {left}, until {facts.expires.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        elif facts.temporary:
            until = "temporary, with an unknown expiry time"
        else:
            until = "they do not expire"
        return Line("ok", "credentials", f"from {facts.source}{profile}; {until}")

    def _session_of_sts(self) -> Session:
        """Return the session to ask STS with: at the endpoint of KMS, unless that is AWS's, which has KMS only."""
        if self.aws.lab is not None:
            return self.session
        own = self.aws.sessions.open(self.aws.profile, self.aws.region)
        endpoint = self._endpoint()
        elsewhere = endpoint and not checkup.is_of_aws(endpoint) and not checkup.has_endpoint_of_sts(own)
        return at_endpoint(own, endpoint) if elsewhere else own

    def keys(self, context: Mapping[str, str]) -> list[Line]:
        """Check each key."""
        clients = Clients(self.session, None, self._prepare)
        found: list[Line] = []
        lost: set[str] = set()
        for name in self.names:
            key = keys.Examination(name, clients, context, self._caller_arn())
            if key.region in lost:
                found.append(Line("not checked", "key", f"{name}: KMS in {key.region} did not answer", key=name))
                continue
            found += key.lines()
            self.reached = self.reached or key.reached
            if not key.reached and key.region:
                lost.add(key.region)
        return found

    def _caller_arn(self) -> str:
        """Return the caller's ARN; "" if it is unknown."""
        return self.caller if isinstance(self.caller, str) and self.caller.startswith("arn:") else ""

    def caller_line(self) -> Line:
        if isinstance(self.caller, errors.SealwaxError):
            if self.clock.is_wrong:
                return Line("not checked", "caller", self.hopeless)
            # Nothing but this line needs STS.
            spared = self.reached and not isinstance(self.caller, errors.CredentialsError)
            return failed("caller", self.caller, state="optional" if spared else "needs fixing")
        return Line("ok" if self._caller_arn() else "not checked", "caller", self.caller)

    def clock_line(self) -> Line:
        if self.aws.lab is not None:
            return Line("ok", "clock", "the lab uses this machine's clock")
        if self.clock.skew is None:
            return Line("not checked", "clock", "no response had a date to compare with")
        seconds = round(abs(self.clock.skew))
        if seconds < 2:
            return Line("ok", "clock", "agrees with AWS's clock")
        off = f"{_spelled(seconds)} {'ahead of' if self.clock.skew > 0 else 'behind'} AWS's"
        if not self.clock.is_wrong:
            return Line("ok", "clock", off)
        why = f"{off}; AWS refuses requests that are more than {_spelled(checkup.MOST_SKEW_SECONDS)} off"
        return Line("needs fixing", "clock", why, "set the clock, for example with: sudo timedatectl set-ntp true")


def _known_region(name: str, origin: str) -> Line:
    known = checkup.known_regions()
    if name in known:
        return Line("ok", "Region", f"{name}, {origin}")
    near = difflib.get_close_matches(name, known, 1)
    meant = f"did you mean {near[0]}?" if near else "a Region looks like eu-west-1"
    return Line("needs fixing", "Region", f"boto3 does not know the Region '{name}' ({origin})", meant)


def _spelled(seconds: float) -> str:
    """Return a time in one unit: 45 s, 43 minutes, 11 hours."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
