"""manage.py forget_clinic SLUG: destroy the data keys of a clinic, then its rows."""

from argparse import ArgumentParser
from typing import Any

from django.core.management import BaseCommand, CommandError
from django.db import transaction
from sealwax.django import get_records

from clinic.models import Clinic, Patient


class Command(BaseCommand):
    help = "Destroy the data keys of a clinic, so that no copy of its patients opens again, and delete them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("slug")
        parser.add_argument("--confirm", help="the slug once more; asked for without this option")

    def handle(self, slug: str, confirm: str | None, **_: Any) -> None:
        clinic = Clinic.objects.filter(slug=slug).first()
        if clinic is None:
            raise CommandError(f"there is no clinic {slug}")
        if (confirm or self.ask(slug)) != slug:
            raise CommandError("not confirmed; nothing was changed")
        rows = get_records().shred(clinic=slug)  # first: if the rest fails, run the command again
        with transaction.atomic():
            patients, _ = Patient.objects.filter(clinic=clinic).delete()
            clinic.delete()
        self.stdout.write(f"{slug}: data keys destroyed: {len(rows)}, patients deleted: {patients}")

    def ask(self, slug: str) -> str:
        try:
            return input(f"Type {slug} to destroy its data keys; this cannot be undone: ")
        except EOFError:
            return ""
