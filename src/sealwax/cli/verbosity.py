"""What -v and --debug show of the requests to AWS: lines on standard error, among the other messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sealwax._text import printable
from sealwax.cli import console

if TYPE_CHECKING:
    from sealwax._aws.calls import AwsCall
    from sealwax.cli.state import RunState


def tell_calls(state: RunState) -> None:
    """Let a run tell each of its requests to AWS."""
    state.sessions.watchers.append(_watch)


def show_botocore(state: RunState) -> None:
    """Let a run show botocore's log too."""
    from sealwax._aws.debuglog import DebugLog

    log = state.ends.enter_context(DebugLog(_show))
    state.sessions.watchers.append(log.follow)


def _watch(session: Any) -> None:
    from sealwax._aws.calls import watch

    watch(session, _tell)


def _tell(call: AwsCall) -> None:
    about = f" {', '.join(call.names)}" if call.names else ""
    facts = [f"{call.error or 'ok'} in {call.seconds * 1000:.0f} ms"]
    if call.attempt > 1:
        facts.append(f"attempt {call.attempt}")
    if call.region is not None:
        facts.append(call.region)
    if call.request_id is not None:
        facts.append(f"request {call.request_id}")
    if call.context_names:
        facts.append(f"context names {', '.join(call.context_names)}")
    _show(f"{call.service} {call.operation}{about}: {', '.join(facts)}")


def _show(line: str) -> None:
    console.warn(printable(line))
