"""What is refused about sealed fields."""

from __future__ import annotations

from django.core.exceptions import FieldError

from sealwax.errors import SealwaxError


class SealedFieldError(SealwaxError, FieldError):
    """A query or an assignment that a sealed field cannot serve; the message says what can."""
