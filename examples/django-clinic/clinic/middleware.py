"""Which clinic a request is for: what it seals and opens is of this clinic."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from sealwax.django import get_records

from clinic.models import Member


class ClinicMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        members = Member.objects.filter(user=request.user) if request.user.is_authenticated else Member.objects.none()
        clinic = request.clinic = members.values_list("clinic", flat=True).first()  # type: ignore[attr-defined]
        if clinic is None:
            return self.get_response(request)
        with get_records().scope(clinic=clinic):
            return self.get_response(request)
