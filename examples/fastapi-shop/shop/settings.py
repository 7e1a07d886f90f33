"""The settings, from environment variables."""

import os

DATABASE_URL = os.environ.get("DATABASE_URL", "postgresql+psycopg://localhost/shop")
# "dev" stands for the lab, a KMS in the folder ./lab; anything else, such as "prod", for AWS.
ENV = os.environ.get("SHOP_ENV", "dev")
# New data keys are made under the first one, and those of all of them are unwrapped: two while you rotate.
KMS_KEYS = os.environ.get("SHOP_KMS_KEYS", "alias/shop").split(",")
# Whoever has this token may create and delete tenants. Without it, nobody may.
ADMIN_TOKEN = os.environ.get("SHOP_ADMIN_TOKEN", "")
