"""The settings, in part from environment variables. What concerns sealing comes first."""

import os

# "dev" stands for the lab, a KMS in the folder ./lab; anything else, such as "prod", for AWS.
ENV = os.environ.get("CLINIC_ENV", "dev")
# New data keys are made under the first one, and those of all of them are unwrapped: two while you rotate.
KMS_KEYS = os.environ.get("CLINIC_KMS_KEYS", "alias/clinic").split(",")
SEALWAX = {"RECORDS": "clinic.sealing.make_records"}

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "sealwax.django",
    "clinic",
]
MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "clinic.middleware.ClinicMiddleware",  # after it, because it needs the user
    "django.contrib.messages.middleware.MessageMiddleware",
]
# The server, user and password come from PGHOST, PGUSER and PGPASSWORD or ~/.pgpass.
DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ.get("PGDATABASE", "clinic")}}

DEBUG = ENV == "dev"
SECRET_KEY = "only for dev" if DEBUG else os.environ["CLINIC_SECRET_KEY"]
ALLOWED_HOSTS = os.environ.get("CLINIC_HOSTS", "localhost,127.0.0.1").split(",")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
ROOT_URLCONF = "project.urls"
STATIC_URL = "static/"
USE_TZ = True
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
