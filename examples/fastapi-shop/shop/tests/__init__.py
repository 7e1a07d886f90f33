"""Tests have a database of their own, because they drop its tables."""

import os

os.environ["DATABASE_URL"] = os.environ.get("TEST_DATABASE_URL", "postgresql+psycopg://localhost/shop_test")
