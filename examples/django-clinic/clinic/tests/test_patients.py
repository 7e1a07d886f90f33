"""What the clinic promises, through the admin as its members have it, and in the table as whoever copies it has it."""

from datetime import date
from typing import Any

from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from sealwax.errors import RecordTamperedError, ShreddedError
from sealwax.records import is_record

from clinic.models import Clinic, Patient
from clinic.tests.base import ClinicTestCase

ADA = {"name": "Ada Lovelace", "born": date(1815, 12, 10), "notes": "prefers letters"}
LIST, ADD = reverse("admin:clinic_patient_changelist"), reverse("admin:clinic_patient_add")


def columns(patient: Patient) -> dict[str, Any]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM clinic_patient WHERE id = %s", [patient.pk])
        return dict(zip([each.name for each in cursor.description], cursor.fetchone(), strict=True))


class PatientTest(ClinicTestCase):
    def test_values_come_back_and_the_table_tells_nothing(self) -> None:
        ada = Patient.objects.create(clinic=self.north, **ADA)
        read = Patient.objects.get()
        self.assertEqual({name: getattr(read, name) for name in ADA}, ADA)
        row = columns(ada)
        self.assertTrue(all(is_record(bytes(row[name])) for name in ADA))
        self.assertNotIn("ada", repr({name: bytes(row[name]) for name in ADA}).lower())

    def test_the_admin_adds_changes_and_searches(self) -> None:
        self.sign_in(self.north)
        self.client.post(ADD, {**ADA, "born": "1815-12-10"})
        ada = Patient.objects.get()
        self.assertEqual((ada.clinic, ada.name, ada.born), (self.north, ADA["name"], ADA["born"]))
        change = reverse("admin:clinic_patient_change", args=[ada.pk])
        self.assertContains(self.client.get(change), "prefers letters")
        self.client.post(change, {**ADA, "notes": "prefers calls", "born": ""})
        ada = Patient.objects.get()
        self.assertEqual((ada.notes, ada.born), ("prefers calls", None))
        self.assertContains(self.client.get(LIST, {"q": "ADA lovelace"}), "1 patient")
        self.assertContains(self.client.get(LIST, {"q": "Ada"}), "0 patients")

    def test_a_member_sees_the_patients_of_one_clinic(self) -> None:
        ada = Patient.objects.create(clinic=self.north, **ADA)
        self.sign_in(self.south)
        self.assertContains(self.client.get(LIST), "0 patients")
        change = reverse("admin:clinic_patient_change", args=[ada.pk])
        self.assertRedirects(self.client.get(change), reverse("admin:index"))

    def test_a_record_of_another_row_does_not_open(self) -> None:
        ada = Patient.objects.create(clinic=self.north, **ADA)
        bob = Patient.objects.create(clinic=self.north, name="Bob")
        with connection.cursor() as cursor:
            query = "UPDATE clinic_patient SET name = %s WHERE id = %s"
            cursor.execute(query, [columns(ada)["name"], bob.pk])
        with self.assertRaises(RecordTamperedError):
            _ = Patient.objects.get(pk=bob.pk).name

    def test_a_forgotten_clinic_does_not_come_back(self) -> None:
        ada = Patient.objects.create(clinic=self.north, **ADA)
        backup = columns(ada)
        with self.assertRaises(CommandError):
            call_command("forget_clinic", "north", confirm="nroth")
        call_command("forget_clinic", "north", confirm="north")
        self.assertFalse(Patient.objects.exists())
        Clinic.objects.create(slug="north")
        with connection.cursor() as cursor:
            names, marks = ", ".join(backup), ", ".join(["%s"] * len(backup))
            cursor.execute(f"INSERT INTO clinic_patient ({names}) VALUES ({marks})", list(backup.values()))
        with self.assertRaises(ShreddedError):
            _ = Patient.objects.get().name
