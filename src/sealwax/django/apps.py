"""The application ``sealwax.django``: its tables are those of the key store."""

from __future__ import annotations

from django.apps import AppConfig


class SealwaxConfig(AppConfig):
    """Put ``"sealwax.django"`` into INSTALLED_APPS."""

    name = "sealwax.django"
    label = "sealwax"
    verbose_name = "sealwax"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django.apps import apps
        from django.core.checks import Tags, register
        from django.db.migrations.writer import MigrationWriter

        from sealwax.django._operations import UnboundSerializer
        from sealwax.records._rows import Unbound

        MigrationWriter.register_serializer(Unbound, UnboundSerializer)
        if apps.is_installed("django.contrib.admin"):
            from sealwax.django.admin import check_admins

            register(check_admins, Tags.admin)
