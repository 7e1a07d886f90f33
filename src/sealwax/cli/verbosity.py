"""-q, -v and --debug: what is left out, and which requests to AWS are shown among the messages on standard error."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from sealwax._text import printable
from sealwax.cli import console
from sealwax.cli.state import RunState

if TYPE_CHECKING:
    from sealwax._aws.calls import AwsCall

Command = Callable[..., object]


def loudness(command: Command) -> Command:
    """Add -q, -v and --debug."""

    # Eager, and set during parsing: other options print messages before the verb begins.
    def set_on_state(context: click.Context, param: click.Parameter, value: bool) -> None:
        if not value:
            return
        state = context.ensure_object(RunState)
        if param.name == "quiet":
            state.quiet = True
        elif not state.verbose:
            state.verbose = True
            _tell_calls(state)
        if state.quiet and state.verbose:
            raise click.UsageError("use -q or -v, not both; --debug includes -v", context)
        if param.name == "debug" and not state.debug:
            state.debug = True
            _show_botocore(state)

    def flag(*names: str, help_: str) -> Callable[[Command], Command]:
        return click.option(*names, is_flag=True, is_eager=True, expose_value=False, callback=set_on_state, help=help_)

    quiet = flag("-q", "--quiet", help_="Print only errors and the output that was asked for.")
    verbose = flag("-v", "--verbose", help_="Show each file, each request to AWS, and internal errors in full.")
    debug = flag("--debug", help_="Like -v, and also show botocore's log, with keys, credentials and data withheld.")
    return quiet(verbose(debug(command)))


def _tell_calls(state: RunState) -> None:
    """Let a run tell each of its requests to AWS."""
    state.sessions.watchers.append(_watch)


def _show_botocore(state: RunState) -> None:
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
