"""The command line: parse, make one library call, print.

Exit status: 0 done; 1 any failure not named here; 2 wrong usage; 3 findings; 4 not an envelope or record, or a damaged
header; 5 the payload does not authenticate; 6 the context is missing or different; 7 the KMS key cannot be used; 8
partly done; 129 the terminal was closed; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Final, NoReturn

import click

from sealwax import __version__, errors
from sealwax._core import disk
from sealwax.cli import console
from sealwax.cli.state import RunState
from sealwax.cli.verbosity import loudness
from sealwax.cli.verbs import VerbGroup, adopted, printed_at_once

# A verb is imported when it is used: `sealwax inspect` must not wait for boto3.
VERBS: Final = {
    "encrypt": "Encrypt files, folders or a stream under a KMS key.",
    "decrypt": "Decrypt envelopes, or a range of one.",
    "edit": "Edit an envelope's plaintext in your editor.",
    "verify": "Check that envelopes are authentic, without writing anything.",
    "inspect": "Show an envelope's header, without calling KMS.",
    "rewrap": "Move envelopes to another KMS key without touching the data.",
    "reencrypt": "Encrypt envelopes again under a new data key.",
    "migrate": "Turn what other programs encrypted with KMS into envelopes.",
    "fleet": "Rotate the keys of many envelopes: plan, run, verify.",
    "records": "Manage the data keys that seal fields of databases.",
    "prove": "Test, with evidence, that a KMS key protects what it should.",
    "audit": "Find misconfigured KMS keys and how to fix them.",
    "rehearse": "Run all of sealwax once on a real account, and compare the lab with AWS.",
    "keys": "List, rotate and retire KMS keys.",
    "policy": "Write least-privilege policies, and explain existing ones.",
    "doctor": "Check your setup, and say how to fix it.",
    "settings": "Show which keys, context and other settings apply, and why.",
    "completion": "Print the completion script for a shell.",
    "lab": "Run an embedded KMS for trials and tests, without AWS.",
    "help": "Explain a verb, an exit status or an error.",
}

STATUS: Final[tuple[tuple[type[Exception], int], ...]] = (
    (errors.HeaderError, 4),
    (errors.PayloadError, 5),
    (errors.ContextError, 6),
    (errors.KmsError, 7),
    (errors.SettingsError, 2),
    (errors.NotARecordError, 4),
    (errors.RecordTamperedError, 5),
    (errors.KeyRowError, 5),
    (errors.OldFormError, 5),
    (errors.UnknownKeyError, 6),
    (errors.ShreddedError, 7),
)
FINDINGS: Final = 3
PARTLY_DONE: Final = 8
# More objects than the imports of boto3 and the lab create; at most a few dozen megabytes of garbage.
_OBJECTS_BEFORE_COLLECTION: Final = 100_000


def status_of(error: Exception) -> int:
    """Return the exit status for an error."""
    return next((status for kind, status in STATUS if isinstance(error, kind)), 1)


class _Root(VerbGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  click's signature
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in VERBS:
            return None
        command: click.Command = getattr(importlib.import_module(f"sealwax.cli.{cmd_name}"), cmd_name)
        return adopted(command)

    def summaries(self, ctx: click.Context) -> Iterator[tuple[str, str]]:  # noqa: ARG002
        yield from VERBS.items()


@click.command(
    cls=_Root,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="`sealwax help TOPIC` explains a verb, an exit status (7) or an error (AccessDeniedError).",
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=printed_at_once(lambda _: f"sealwax {__version__}"),
    help="Show the version and exit.",
)
@loudness
def root() -> None:
    """Envelope encryption with AWS KMS.

    Data is encrypted on this machine, with AES-256-GCM, under a data key from KMS. The data key is stored with the
    data, wrapped under a KMS key: only KMS can unwrap it, and only for the encryption context it is bound to.
    """


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit status."""
    state = RunState(arguments=tuple(map(os.fsdecode, sys.argv[1:] if arguments is None else arguments)))
    with state.ends:
        return _run(arguments, state)


def _run(arguments: Sequence[str] | None, state: RunState) -> int:
    try:
        result = root.main(args=arguments, prog_name="sealwax", standalone_mode=False, obj=state)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as exit_:
        return exit_.exit_code
    except click.ClickException as error:
        message = io.StringIO()  # click itself would fail if standard error cannot be written to
        error.show(message)
        if message.getvalue():
            console.stderr(message.getvalue().rstrip("\n").expandtabs(4))
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        console.warn("interrupted")
        return 130
    except BrokenPipeError:
        # Whatever read the output has ended.
        console.drop_output()
        return 1
    except errors.SealwaxError as error:
        console.error(error)
        return status_of(error)
    except OSError as error:
        console.drop_output()
        name = f": {console.shown(os.fsdecode(error.filename))}" if isinstance(error.filename, str | bytes) else ""
        console.warn(f"{disk.reason(error)}{name}")
        return 1
    except Exception as error:
        if state.verbose:
            console.stderr(traceback.format_exc().rstrip("\n"))
        kind = type(error).__name__
        console.warn(f"internal error ({kind}): this is a bug in sealwax; run the command with -v for a traceback")
        return 1


def _terminate(signal_number: int, _: object) -> NoReturn:
    # As an exception, so that half-written output is removed on the way out.
    raise SystemExit(128 + signal_number)


def _occupy_standard_streams() -> None:
    """Keep a file that is opened later from taking the descriptor of a closed standard stream."""
    for descriptor, mode in ((0, os.O_WRONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # In the wrong direction for 0 and 1, so that using a closed stream fails instead of losing data.
            os.open(os.devnull, mode)
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), encoding="utf-8", write_through=True)


def _collect_seldom() -> None:
    """Keep the garbage collector from scanning everything at the start and the end, to find nothing.

    Keys are wiped and files closed explicitly; neither waits for the collector.
    """
    gc.set_threshold(_OBJECTS_BEFORE_COLLECTION)
    atexit.register(gc.freeze)  # first, so it runs last


def main() -> NoReturn:
    """Run the program."""
    _collect_seldom()
    _occupy_standard_streams()
    console.StandardInput.reserve()
    for stop in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stop) != signal.SIG_IGN:  # nohup
            signal.signal(stop, _terminate)
    sys.exit(run())
