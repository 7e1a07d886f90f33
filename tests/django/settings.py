"""The settings of a small project: patients of several clinics."""

from __future__ import annotations

import os

SECRET_KEY = "of a test"
DEBUG = False
ALLOWED_HOSTS = ["testserver"]
USE_TZ = True
ROOT_URLCONF = "tests.django.urls"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "sealwax.django",
    "tests.django.clinic",
    "tests.django.archive",
    "tests.django.hospital",
]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
SILENCED_SYSTEM_CHECKS = ["models.E028"]  # the versions of one table in tests.django.archive
STATIC_URL = "static/"
FOLDER = os.environ.get("CLINIC_FOLDER", ".")
DATABASES = {
    name: {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/{file}.db"}
    for name, file in (("default", "clinic"), ("other", "other"))
}
SEALWAX = {"RECORDS": "tests.django.records.make"}
