"""The frame of every page for people. It loads nothing, runs only its own script, and is readable without it.

Everything foreign is escaped, including control and direction characters, and a Content-Security-Policy allows the one
style and the one script by their digests.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from sealwax._report.markup import code, copyable, text
from sealwax._report.verdict import MARKS, Provenance, Verdict, zoned


def page(
    title: str, verdict: Verdict, made: Provenance, body: str, *, about: str = "", style: str = "", script: str = ""
) -> str:
    """Return a page: the verdict, what to do next, who made the report and how, and its content.

    Args:
        title: what the report is, such as ``"sealwax fleet verify"``.
        made: where it comes from.
        body: the content, as markup.
        about: more rows on what it is about, as markup: ``row`` makes one.
        style: rules for this kind of report.
        script: its own script.
    """
    style, script = _shared("page.css") + style, _shared("page.js") + script
    policy = (
        f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    return "".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="referrer" content="no-referrer">\n',
            f"<title>{text(title)}: {text(verdict.says)}</title>\n<style>{style}</style>\n</head>\n<body>\n",
            f'<header class="{verdict.tone}">\n<p class="kind">{text(title)}</p>\n',
            f'<h1><span class="mark" aria-hidden="true">{MARKS[verdict.tone]}</span> {text(verdict.says)}</h1>\n',
            _next(verdict),
            f'</header>\n<dl class="made">\n{about}{_made(made)}</dl>\n<main>\n',
            f"{body}</main>\n<script>{script}</script>\n</body>\n</html>\n",
        )
    )


def row(name: str, value: str) -> str:
    """Return a row of what the report is about; none without a value.

    Args:
        value: markup.
    """
    return f"<div><dt>{text(name)}</dt><dd>{value}</dd></div>\n" if value else ""


def _shared(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(source: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()}'"


def _next(verdict: Verdict) -> str:
    if not verdict.next:
        return ""
    return f'<p class="next"><b>Next:</b> {text(verdict.advice)}</p>\n' + (
        copyable(verdict.command) if verdict.command else ""
    )


def _made(made: Provenance) -> str:
    return "".join(
        (
            row("Made", text(zoned(made.time))),
            row("Caller", code(made.caller) if made.caller else "not known"),
            row("Account", text(made.account)),
            row("Regions" if len(made.regions) > 1 else "Region", text(", ".join(made.regions))),
            row("Answers from", text(made.source)),
            row("sealwax", text(made.version)),
            row("Command", copyable(made.command) if made.command else ""),
        )
    )
