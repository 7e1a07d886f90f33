"""What migrations need: the operation that makes the tables of a key store, and how ``UNBOUND`` is written."""

from __future__ import annotations

from typing import Any

from django.db import router
from django.db.migrations.operations.base import Operation
from django.db.migrations.serializer import BaseSerializer

from sealwax.django._settings import key_database


class UnboundSerializer(BaseSerializer):
    """Writes ``UNBOUND`` into a migration."""

    def serialize(self) -> tuple[str, set[str]]:
        return "sealwax.django.UNBOUND", {"import sealwax.django"}


class CreateKeyTables(Operation):
    """Make the tables of ``DjangoKeys`` in the database that the setting SEALWAX names. They are never dropped."""

    reversible = False
    reduces_to_sql = True

    def state_forwards(self, app_label: str, state: Any) -> None:
        pass

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:  # noqa: ARG002
        alias = schema_editor.connection.alias
        if alias == key_database() and router.allow_migrate(alias, app_label):
            from sealwax.django._tables import statements

            # `sqlmigrate` prints what a new database needs.
            for statement in statements(schema_editor.connection, looking=not schema_editor.collect_sql):
                schema_editor.execute(statement, params=None)

    def describe(self) -> str:
        return "Create the tables of the data keys of records"
