"""The tables of the lab's SQLite files."""

STATE = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

    CREATE TABLE keys (
        account TEXT NOT NULL, region TEXT NOT NULL, key_id TEXT NOT NULL,
        description TEXT NOT NULL, usage TEXT NOT NULL, spec TEXT NOT NULL, origin TEXT NOT NULL,
        state TEXT NOT NULL, created REAL NOT NULL, policy TEXT NOT NULL,
        policy_before TEXT, policy_effective REAL,
        deletion_date REAL, pending_window INTEGER,
        multi_region TEXT, primary_region TEXT,
        current_material TEXT,
        rotation_period INTEGER, rotation_next REAL,
        key_store TEXT, xks_key TEXT,
        PRIMARY KEY (account, region, key_id)
    ) WITHOUT ROWID;

    CREATE TABLE materials (
        account TEXT NOT NULL, region TEXT NOT NULL, key_id TEXT NOT NULL,
        number INTEGER NOT NULL, material_id TEXT NOT NULL,
        sealed BLOB, state TEXT NOT NULL, created REAL NOT NULL,
        rotation_type TEXT, description TEXT, expires REAL,
        PRIMARY KEY (account, region, key_id, material_id),
        FOREIGN KEY (account, region, key_id) REFERENCES keys ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE aliases (
        account TEXT NOT NULL, region TEXT NOT NULL, name TEXT NOT NULL, key_id TEXT NOT NULL,
        created REAL NOT NULL, updated REAL NOT NULL,
        PRIMARY KEY (account, region, name),
        FOREIGN KEY (account, region, key_id) REFERENCES keys ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX aliases_of_key ON aliases (account, region, key_id);

    CREATE TABLE tags (
        account TEXT NOT NULL, region TEXT NOT NULL, key_id TEXT NOT NULL, tag TEXT NOT NULL, value TEXT NOT NULL,
        PRIMARY KEY (account, region, key_id, tag),
        FOREIGN KEY (account, region, key_id) REFERENCES keys ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE grants (
        grant_id TEXT PRIMARY KEY, token TEXT NOT NULL UNIQUE,
        account TEXT NOT NULL, region TEXT NOT NULL, key_id TEXT NOT NULL,
        name TEXT, grantee TEXT, retiring TEXT, grantee_service TEXT, retiring_service TEXT,
        issuer TEXT NOT NULL, operations TEXT NOT NULL, constraints TEXT NOT NULL, created REAL NOT NULL,
        effective REAL NOT NULL,
        FOREIGN KEY (account, region, key_id) REFERENCES keys ON DELETE CASCADE
    ) WITHOUT ROWID;
    CREATE INDEX grants_of_key ON grants (account, region, key_id);

    CREATE TABLE principals (
        arn TEXT PRIMARY KEY, account TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
        unique_id TEXT NOT NULL UNIQUE, policies TEXT NOT NULL, tags TEXT NOT NULL
    ) WITHOUT ROWID;

    CREATE TABLE access_keys (
        access_key_id TEXT PRIMARY KEY, account TEXT NOT NULL, principal TEXT, sealed BLOB NOT NULL,
        token TEXT, session_name TEXT, expires REAL
    ) WITHOUT ROWID;

    CREATE TABLE imports (
        token_id BLOB PRIMARY KEY, account TEXT NOT NULL, region TEXT NOT NULL, key_id TEXT NOT NULL,
        algorithm TEXT NOT NULL, sealed BLOB NOT NULL, valid_to REAL NOT NULL,
        FOREIGN KEY (account, region, key_id) REFERENCES keys ON DELETE CASCADE
    ) WITHOUT ROWID;

    CREATE TABLE faults (
        number INTEGER PRIMARY KEY, region TEXT NOT NULL, operation TEXT, kind TEXT NOT NULL,
        code TEXT, amount REAL NOT NULL, seed INTEGER NOT NULL
    );
    """,
)

TRAIL = (
    """
    CREATE TABLE events (
        number INTEGER PRIMARY KEY, event_id TEXT NOT NULL, account TEXT NOT NULL, region TEXT NOT NULL,
        time REAL NOT NULL, username TEXT NOT NULL, record TEXT NOT NULL, reason TEXT
    );
    CREATE INDEX events_by_time ON events (time);

    CREATE TABLE last_usage (
        account TEXT NOT NULL, region TEXT NOT NULL, key_id TEXT NOT NULL,
        operation TEXT NOT NULL, time REAL NOT NULL, event_id TEXT NOT NULL, request_id TEXT NOT NULL,
        PRIMARY KEY (account, region, key_id)
    ) WITHOUT ROWID;
    """,
)
