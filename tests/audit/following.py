"""Somebody who does what a fix says, to the letter: saves its JSON, and runs its commands as the AWS CLI would."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

from botocore import xform_name

from sealwax.audit._findings import BlockKind, Fix

Clients = Callable[[str, str | None], Any]


def follow(fix: Fix, clients: Clients, folder: Path) -> int:
    """Paste every block of a fix, in order.

    Args:
        clients: lends a client of a service in a Region.
        folder: where it is pasted.

    Returns:
        how many commands were run.
    """
    count = 0
    for block in fix.blocks:
        if block.kind in (BlockKind.CLOUDFORMATION, BlockKind.TERRAFORM):
            continue  # these take the place of the commands
        if block.kind is BlockKind.FILE:
            json.loads(block.text)
            (folder / block.name).write_text(block.text)
            continue
        for line in block.text.splitlines():
            run(shlex.split(line), clients, folder)
            count += 1
    return count


def run(words: list[str], clients: Clients, folder: Path) -> Any:
    """Run one command of the AWS CLI."""
    program, service, operation, *rest = words
    assert program == "aws", words
    options: dict[str, list[str]] = {}
    for word in rest:
        if word.startswith("--"):
            options[word.removeprefix("--")] = []
        else:
            options[list(options)[-1]].append(word)
    (region,) = options.pop("region", [None])
    client = clients("s3" if service == "s3api" else service, region)
    method = operation.replace("-", "_")
    model = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method])
    members = {xform_name(name, "-"): (name, shape) for name, shape in model.input_shape.members.items()}
    given = {}
    for name, values in options.items():
        assert name in members, f"the AWS CLI has no --{name} for {service} {operation}"
        member, shape = members[name]
        given[member] = _value(shape, values, folder)
    return getattr(client, method)(**given)


def _value(shape: Any, values: list[str], folder: Path) -> Any:
    if shape.type_name == "boolean":
        assert values == []
        return True
    texts = [_text(one, folder) for one in values]
    if shape.type_name == "list":
        if shape.member.type_name == "string" and not texts[0].startswith("["):
            return texts
        if texts[0].startswith("["):
            return json.loads(texts[0])
        return [_shorthand(one) for one in texts]
    (text,) = texts
    if shape.type_name == "structure":
        return json.loads(text) if text.startswith("{") else _shorthand(text)
    return int(text) if shape.type_name == "integer" else text


def _text(value: str, folder: Path) -> str:
    name = value.removeprefix("file://")
    return value if name == value else (folder / name).read_text()


def _shorthand(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(","))
