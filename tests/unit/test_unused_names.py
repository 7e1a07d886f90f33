"""Nothing is left behind where code was moved or rewritten."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import sealwax

ROOT = Path(sealwax.__file__).parent


def _defined(module: ast.Module) -> Iterator[str]:
    for node in module.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            if not node.decorator_list:  # what decorates it may register it
                yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from (target.id for target in targets if isinstance(target, ast.Name))


def _used(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.alias):
            yield node.name
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value  # a type in quotation marks


def test_each_private_name_of_a_module_is_used() -> None:
    modules = {path: ast.parse(path.read_text()) for path in ROOT.rglob("*.py")}
    names = [
        (str(path.relative_to(ROOT)), name)
        for path, module in modules.items()
        for name in _defined(module)
        if name.startswith("_") and not name.startswith("__")
    ]
    used_in = {str(path.relative_to(ROOT)): set(_used(module)) for path, module in modules.items()}
    imported = {
        alias.name
        for module in modules.values()
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert len(names) > 1000
    assert [each for each in names if each[1] not in used_in[each[0]] and each[1] not in imported] == []
