"""Audits: facts of an account, rules over them, findings."""

__all__: list[str] = []
