-- Instants are microseconds since 1970 (UTC), ids are the 16 bytes of a UUID, `short` is the number
-- that an id's last eight hex digits make. Texts of enums are checked where rows are read.

CREATE TABLE birun_settings (
    key   TEXT NOT NULL PRIMARY KEY,
    value BLOB NOT NULL
) STRICT;

CREATE TABLE birun_audit_logs (
    project_id    BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    at            INTEGER NOT NULL,
    actor_kind    TEXT    NOT NULL,
    actor_name    TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    outcome       TEXT    NOT NULL,
    resource_kind TEXT    NOT NULL,
    resource_id   BLOB,
    resource_name TEXT,
    state_before  TEXT,
    state_after   TEXT,
    request_id    TEXT,
    seal_number   INTEGER,
    seal          BLOB,
    PRIMARY KEY (project_id, id)
) STRICT;
CREATE INDEX birun_audit_logs_at ON birun_audit_logs (project_id, at);
CREATE INDEX birun_audit_logs_action ON birun_audit_logs (project_id, action, id);
CREATE INDEX birun_audit_logs_resource ON birun_audit_logs (project_id, resource_id, id);
CREATE INDEX birun_audit_logs_unsealed ON birun_audit_logs (id) WHERE seal_number IS NULL;
CREATE UNIQUE INDEX birun_audit_logs_sealed ON birun_audit_logs (seal_number) WHERE seal_number IS NOT NULL;

CREATE TABLE birun_credentials (
    project_id  BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    short       INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    kind        TEXT    NOT NULL,
    algorithm   TEXT,
    fingerprint TEXT,
    description TEXT    NOT NULL,
    sealed      BLOB    NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name)
) STRICT;
CREATE INDEX birun_credentials_short ON birun_credentials (short);

CREATE TABLE birun_server_groups (
    project_id      BLOB    NOT NULL,
    id              BLOB    NOT NULL,
    short           INTEGER NOT NULL,
    name            TEXT    NOT NULL,
    description     TEXT    NOT NULL,
    host_key_policy TEXT,
    version         INTEGER NOT NULL CHECK (version > 0),
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name)
) STRICT;
CREATE INDEX birun_server_groups_short ON birun_server_groups (short);

CREATE TABLE birun_servers (
    project_id    BLOB    NOT NULL,
    id            BLOB    NOT NULL,
    short         INTEGER NOT NULL,
    name          TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    port          INTEGER NOT NULL CHECK (port BETWEEN 0 AND 65535),
    username      TEXT    NOT NULL,
    credential_id BLOB,
    executor      TEXT    NOT NULL,
    description   TEXT    NOT NULL,
    version       INTEGER NOT NULL CHECK (version > 0),
    created_at    INTEGER NOT NULL,
    updated_at    INTEGER NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name),
    FOREIGN KEY (project_id, credential_id) REFERENCES birun_credentials (project_id, id)
) STRICT;
CREATE INDEX birun_servers_short ON birun_servers (short);
CREATE INDEX birun_servers_credential ON birun_servers (project_id, credential_id);

CREATE TABLE birun_server_tags (
    project_id BLOB NOT NULL,
    server_id  BLOB NOT NULL,
    tag        TEXT NOT NULL,
    PRIMARY KEY (project_id, server_id, tag),
    FOREIGN KEY (project_id, server_id) REFERENCES birun_servers (project_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX birun_server_tags_tag ON birun_server_tags (project_id, tag, server_id);

CREATE TABLE birun_server_group_members (
    project_id BLOB NOT NULL,
    server_id  BLOB NOT NULL,
    group_id   BLOB NOT NULL,
    PRIMARY KEY (project_id, server_id, group_id),
    FOREIGN KEY (project_id, server_id) REFERENCES birun_servers (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, group_id) REFERENCES birun_server_groups (project_id, id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX birun_server_group_members_group ON birun_server_group_members (project_id, group_id);

CREATE TABLE birun_host_keys (
    project_id  BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    short       INTEGER NOT NULL,
    server_id   BLOB    NOT NULL,
    algorithm   TEXT    NOT NULL,
    public_key  TEXT    NOT NULL,
    fingerprint TEXT    NOT NULL,
    status      TEXT    NOT NULL,
    origin      TEXT    NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (project_id, id),
    -- The fingerprint stands for the key itself, which may be too long for an index.
    UNIQUE (project_id, server_id, fingerprint),
    FOREIGN KEY (project_id, server_id) REFERENCES birun_servers (project_id, id) ON DELETE CASCADE
) STRICT;
CREATE INDEX birun_host_keys_short ON birun_host_keys (short);
CREATE INDEX birun_host_keys_server ON birun_host_keys (project_id, server_id, id);

-- Bodies of scripts, once for each SHA-256.
CREATE TABLE birun_contents (
    project_id BLOB NOT NULL,
    hash       BLOB NOT NULL CHECK (length(hash) = 32),
    body       TEXT NOT NULL,
    PRIMARY KEY (project_id, hash)
) STRICT;

CREATE TABLE birun_scripts (
    project_id  BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    short       INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    description TEXT    NOT NULL,
    latest      INTEGER NOT NULL CHECK (latest > 0),
    version     INTEGER NOT NULL CHECK (version > 0),
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name)
) STRICT;
CREATE INDEX birun_scripts_short ON birun_scripts (short);

CREATE TABLE birun_script_versions (
    project_id  BLOB    NOT NULL,
    script_id   BLOB    NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),
    content     BLOB    NOT NULL,
    interpreter TEXT    NOT NULL,
    parameters  TEXT    NOT NULL,
    targets     TEXT,
    timeout_ms  INTEGER,
    settings    TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    created_by  TEXT    NOT NULL,
    PRIMARY KEY (project_id, script_id, number),
    FOREIGN KEY (project_id, script_id) REFERENCES birun_scripts (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, content) REFERENCES birun_contents (project_id, hash)
) STRICT;
CREATE INDEX birun_script_versions_content ON birun_script_versions (project_id, content);

-- Executions are the queue as well: a worker claims rows that are queued or waiting and due.
CREATE TABLE birun_executions (
    project_id          BLOB    NOT NULL,
    id                  BLOB    NOT NULL,
    short               INTEGER NOT NULL,
    kind                TEXT    NOT NULL,
    title               TEXT    NOT NULL,
    script_id           BLOB,
    script_version      INTEGER,
    -- What retention counts by: the script, or a digest of kind and title.
    subject             BLOB    NOT NULL,
    content             BLOB,
    params              TEXT    NOT NULL,
    secrets             BLOB,
    targets             TEXT    NOT NULL,
    strategy            TEXT    NOT NULL,
    plan                TEXT    NOT NULL,
    triggered_by        TEXT    NOT NULL,
    actor_kind          TEXT    NOT NULL,
    actor_name          TEXT    NOT NULL,
    retry_of            BLOB,
    status              TEXT    NOT NULL,
    reason              TEXT,
    detail              TEXT,
    -- How many steps stand how; only the newest attempt on each target counts.
    n_pending           INTEGER NOT NULL,
    n_running           INTEGER NOT NULL,
    n_succeeded         INTEGER NOT NULL,
    n_failed            INTEGER NOT NULL,
    n_cancelled         INTEGER NOT NULL,
    n_timed_out         INTEGER NOT NULL,
    n_unreachable       INTEGER NOT NULL,
    n_lost              INTEGER NOT NULL,
    n_skipped           INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    started_at          INTEGER,
    finished_at         INTEGER,
    cancel_requested_at INTEGER,
    wake_at             INTEGER NOT NULL,
    home                BLOB,
    worker              BLOB,
    epoch               INTEGER NOT NULL,
    -- How often the worker that had it died.
    deaths              INTEGER NOT NULL DEFAULT 0,
    rev                 INTEGER NOT NULL,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, content) REFERENCES birun_contents (project_id, hash),
    CHECK ((status = 'running') = (worker IS NOT NULL)),
    CHECK ((status IN ('queued', 'waiting', 'running')) = (finished_at IS NULL))
) STRICT;
CREATE INDEX birun_executions_short ON birun_executions (short);
CREATE INDEX birun_executions_created ON birun_executions (project_id, created_at);
CREATE INDEX birun_executions_subject ON birun_executions (project_id, subject, id);
CREATE INDEX birun_executions_content ON birun_executions (project_id, content) WHERE content IS NOT NULL;
CREATE INDEX birun_executions_due ON birun_executions (project_id, wake_at, id) WHERE status IN ('queued', 'waiting');
CREATE INDEX birun_executions_worker ON birun_executions (project_id, worker) WHERE status = 'running';
CREATE INDEX birun_executions_ended ON birun_executions (project_id, status, id) WHERE finished_at IS NOT NULL;

CREATE TABLE birun_steps (
    project_id     BLOB    NOT NULL,
    execution_id   BLOB    NOT NULL,
    ordinal        INTEGER NOT NULL,
    id             BLOB    NOT NULL,
    position       INTEGER NOT NULL,
    target         TEXT    NOT NULL,
    server_id      BLOB,
    attempt        INTEGER NOT NULL CHECK (attempt > 0),
    status         TEXT    NOT NULL,
    reason         TEXT,
    detail         TEXT,
    error          TEXT,
    exit_code      INTEGER,
    signal         TEXT,
    killed         TEXT,
    handle         TEXT,
    epoch          INTEGER NOT NULL,
    not_before     INTEGER,
    started_at     INTEGER,
    finished_at    INTEGER,
    output_bytes   INTEGER NOT NULL,
    output_dropped INTEGER NOT NULL,
    rev            INTEGER NOT NULL,
    PRIMARY KEY (execution_id, ordinal, project_id),
    FOREIGN KEY (project_id, execution_id) REFERENCES birun_executions (project_id, id) ON DELETE CASCADE
) STRICT;
CREATE UNIQUE INDEX birun_steps_id ON birun_steps (id);
CREATE INDEX birun_steps_rev ON birun_steps (execution_id, rev);
CREATE INDEX birun_steps_retried ON birun_steps (execution_id, position, attempt) WHERE attempt > 1;

CREATE TABLE birun_idempotency_keys (
    project_id   BLOB    NOT NULL,
    key          TEXT    NOT NULL,
    request      BLOB    NOT NULL CHECK (length(request) = 32),
    execution_id BLOB    NOT NULL,
    created_at   INTEGER NOT NULL,
    PRIMARY KEY (project_id, key),
    -- Deferred: the key is taken before the execution is written.
    FOREIGN KEY (project_id, execution_id) REFERENCES birun_executions (project_id, id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
) STRICT;
CREATE INDEX birun_idempotency_keys_execution ON birun_idempotency_keys (project_id, execution_id);
CREATE INDEX birun_idempotency_keys_created ON birun_idempotency_keys (project_id, created_at);

CREATE TABLE birun_workers (
    project_id  BLOB    NOT NULL,
    id          BLOB    NOT NULL,
    name        TEXT    NOT NULL,
    slots       INTEGER NOT NULL,
    home_only   INTEGER NOT NULL CHECK (home_only IN (0, 1)),
    started_at  INTEGER NOT NULL,
    -- Until when it counts as alive; null where an operating system's lock tells.
    lease_until INTEGER,
    PRIMARY KEY (project_id, id)
) STRICT;
