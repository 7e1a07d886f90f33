"""Audits: facts of an account, rules over them, findings."""
