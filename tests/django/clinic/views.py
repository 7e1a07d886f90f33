from django.views.generic import CreateView

from tests.django.clinic.models import Patient


class NewPatient(CreateView):  # type: ignore[type-arg]
    model = Patient
    fields = ("clinic", "name", "born", "notes")
    success_url = "/"
    template_name = "admin/base.html"
