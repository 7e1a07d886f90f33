"""sealwax prove"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from sealwax.cli import console, options
from sealwax.context import printable

if TYPE_CHECKING:
    from sealwax.aws import Session
    from sealwax.lab import Lab
    from sealwax.prove import Helper, Report, Result

FINDINGS: Final = 3
_COLORS: Final = {"passed": "green", "failed": "red", "not shown": "yellow"}


@click.command()
@options.keys
@options.context(stored=False)
@click.option("--to", metavar="KEY", help="Another KMS key of the same Region, to re-encrypt to.")
@click.option("--denied-profile", metavar="NAME", help="An AWS profile that must not be able to decrypt.")
@click.option("--denied-role", metavar="ARN", help="A role that must not be able to decrypt; needs sts:AssumeRole.")
@click.option("--allow-changes", is_flag=True, help="Rotate the key too, which cannot be undone.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@options.loudness
def prove(
    keys: options.Keys,
    template: options.ContextTemplate,
    to: str | None,
    denied_profile: str | None,
    denied_role: str | None,
    allow_changes: bool,
    as_json: bool,
) -> int:
    """Show, with evidence, that a KMS key protects what it should.

    Every promise is tried against the key itself, with samples bound to the context that -c gives: what must work, and
    what must be refused. The key is not changed without --allow-changes. A check that could not be run is "not shown",
    and never counts as passed. What each check shows and needs is in docs/verification.md.
    """
    from sealwax.prove import Options, planned_requests
    from sealwax.prove import prove as run
    from sealwax.prove.results import USD_PER_REQUEST

    if len(keys.names) != 1:
        raise click.UsageError("name one KMS key with -k, or in SEALWAX_KEY")
    if denied_profile and denied_role:
        raise click.UsageError("--denied-profile and --denied-role exclude each other")
    (key,) = keys.names
    context = template.to_bind(None)
    with _reach(keys.aws, denied_profile, denied_role) as (session, denied, helper):
        chosen = Options(to=to, denied=denied, helper=helper, allow_changes=allow_changes)
        planned = planned_requests(key, context, session, chosen)
        console.tell(
            f"{planned} requests to KMS are planned, {planned * USD_PER_REQUEST:.5f} USD; "
            f"{'the key will be rotated' if allow_changes else 'the key will not be changed'}"
        )
        report = run(key, context, session, chosen, (lambda _: None) if as_json else _print)
    if as_json:
        console.print_json(report.as_dict())
    else:
        _sum_up(report)
    return FINDINGS if report.count("failed") else 0


@contextlib.contextmanager
def _reach(
    where: options.Aws, denied_profile: str | None, denied_role: str | None
) -> Iterator[tuple[Session, Session | None, Helper]]:
    """Lend the session, the one that must be denied, and the process to search."""
    from sealwax import aws
    from sealwax.prove import Helper

    session = where.session()
    if where.lab is not None:
        with _served_lab(where.lab, where.region) as (lab, environment):
            denied: Session | None = None
            if denied_role:
                denied = lab.session(where.region, principal=denied_role)
            elif denied_profile:
                denied = aws.open_session(denied_profile, where.region, environment["AWS_ENDPOINT_URL_KMS"])
            yield session, denied, Helper(environment)
        return
    given = {"AWS_PROFILE": where.profile, "AWS_ENDPOINT_URL_KMS": where.endpoint_url}
    denied = None
    if denied_role:
        # STS is not at KMS's endpoint.
        own = aws.open_session(where.profile, where.region)
        denied = aws.assume_role(denied_role, own, where.region, where.endpoint_url)
    elif denied_profile:
        denied = aws.open_session(denied_profile, where.region, where.endpoint_url)
    yield session, denied, Helper({name: value for name, value in given.items() if value})


@contextlib.contextmanager
def _served_lab(folder: str, region: str | None) -> Iterator[tuple[Lab, dict[str, str]]]:
    """Lend a lab, and the settings with which another process reaches it."""
    from sealwax.lab.server import Server

    lab = options.open_lab(folder)
    credentials = lab.session(region).get_credentials()
    assert credentials is not None
    key = credentials.get_frozen_credentials()
    server = Server(lab.gateway)
    serving = threading.Thread(target=server.serve, daemon=True)
    serving.start()
    settings = {
        "AWS_ENDPOINT_URL_KMS": server.url,
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_SESSION_TOKEN": key.token,
    }
    try:
        yield lab, {name: value for name, value in settings.items() if value}
    finally:
        server.close()
        serving.join()


def _print(result: Result) -> None:
    evidence = _evidence(result)
    line = f"{result.outcome:<9}  {result.name:<21}  {printable(result.detail)}"
    console.put(click.style(line[:9], fg=_COLORS[result.outcome]) + line[9:] + (f"  [{evidence}]" if evidence else ""))


def _evidence(result: Result) -> str:
    """Return what was asked and how it ended, alike ones together, and where to find the last one in CloudTrail."""
    counts = Counter(
        f"{'injected ' if one.simulated else ''}{one.operation}{f': {one.error}' if one.error else ''}"
        for one in result.evidence
    )
    parts = [text if times == 1 else f"{text} x {times}" for text, times in counts.items()]
    requests = [one for one in result.evidence if one.is_request]
    if requests:
        parts.append(f"last request {requests[-1].request_id} at {requests[-1].time:%H:%M:%SZ}")
    return "; ".join(parts)


def _sum_up(report: Report) -> None:
    dictionary = report.as_dict()
    counts = ", ".join(f"{report.count(outcome)} {outcome}" for outcome in ("passed", "failed", "not shown"))
    console.put(
        f"{printable(report.key_arn or report.key)}: {counts}. {report.requests} requests to KMS were made "
        f"({report.planned} planned), {dictionary['usd']:.6f} USD."
    )
    if report.count("not shown"):
        console.tell("what is not shown is not known to be so; each line says what it would take")
