-- Instants are microseconds since 1970 (UTC), `short` is the number
-- that an id's last eight hex digits make. Texts of enums are checked where rows are read.

-- The one clock of leases; tests replace it.
CREATE FUNCTION birun_now() RETURNS BIGINT LANGUAGE sql VOLATILE
    AS 'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::BIGINT';

CREATE TABLE birun_settings (
    key   TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    value BYTEA            NOT NULL
);

CREATE TABLE birun_audit_logs (
    project_id    UUID             NOT NULL,
    id            UUID             NOT NULL,
    at            BIGINT           NOT NULL,
    actor_kind    TEXT             NOT NULL,
    actor_name    TEXT             NOT NULL,
    action        TEXT COLLATE "C" NOT NULL,
    outcome       TEXT             NOT NULL,
    resource_kind TEXT             NOT NULL,
    resource_id   UUID,
    resource_name TEXT,
    state_before  TEXT,
    state_after   TEXT,
    request_id    TEXT,
    seal_number   BIGINT,
    seal          BYTEA,
    PRIMARY KEY (project_id, id)
);
CREATE INDEX birun_audit_logs_at ON birun_audit_logs (project_id, at);
CREATE INDEX birun_audit_logs_action ON birun_audit_logs (project_id, action, id);
CREATE INDEX birun_audit_logs_resource ON birun_audit_logs (project_id, resource_id, id);
CREATE INDEX birun_audit_logs_unsealed ON birun_audit_logs (id) WHERE seal_number IS NULL;
CREATE UNIQUE INDEX birun_audit_logs_sealed ON birun_audit_logs (seal_number) WHERE seal_number IS NOT NULL;

CREATE TABLE birun_credentials (
    project_id  UUID             NOT NULL,
    id          UUID             NOT NULL,
    short       BIGINT           NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    kind        TEXT             NOT NULL,
    algorithm   TEXT,
    fingerprint TEXT COLLATE "C",
    description TEXT             NOT NULL,
    sealed      BYTEA            NOT NULL,
    version     BIGINT           NOT NULL CHECK (version > 0),
    created_at  BIGINT           NOT NULL,
    updated_at  BIGINT           NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name)
);
CREATE INDEX birun_credentials_short ON birun_credentials (short);

CREATE TABLE birun_server_groups (
    project_id      UUID             NOT NULL,
    id              UUID             NOT NULL,
    short           BIGINT           NOT NULL,
    name            TEXT COLLATE "C" NOT NULL,
    description     TEXT             NOT NULL,
    host_key_policy TEXT,
    version         BIGINT           NOT NULL CHECK (version > 0),
    created_at      BIGINT           NOT NULL,
    updated_at      BIGINT           NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name)
);
CREATE INDEX birun_server_groups_short ON birun_server_groups (short);

CREATE TABLE birun_servers (
    project_id    UUID             NOT NULL,
    id            UUID             NOT NULL,
    short         BIGINT           NOT NULL,
    name          TEXT COLLATE "C" NOT NULL,
    host          TEXT             NOT NULL,
    port          BIGINT           NOT NULL CHECK (port BETWEEN 0 AND 65535),
    username      TEXT             NOT NULL,
    credential_id UUID,
    executor      TEXT             NOT NULL,
    description   TEXT             NOT NULL,
    version       BIGINT           NOT NULL CHECK (version > 0),
    created_at    BIGINT           NOT NULL,
    updated_at    BIGINT           NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name),
    FOREIGN KEY (project_id, credential_id) REFERENCES birun_credentials (project_id, id)
);
CREATE INDEX birun_servers_short ON birun_servers (short);
CREATE INDEX birun_servers_credential ON birun_servers (project_id, credential_id);

CREATE TABLE birun_server_tags (
    project_id UUID             NOT NULL,
    server_id  UUID             NOT NULL,
    tag        TEXT COLLATE "C" NOT NULL,
    PRIMARY KEY (project_id, server_id, tag),
    FOREIGN KEY (project_id, server_id) REFERENCES birun_servers (project_id, id) ON DELETE CASCADE
);
CREATE INDEX birun_server_tags_tag ON birun_server_tags (project_id, tag, server_id);

CREATE TABLE birun_server_group_members (
    project_id UUID NOT NULL,
    server_id  UUID NOT NULL,
    group_id   UUID NOT NULL,
    PRIMARY KEY (project_id, server_id, group_id),
    FOREIGN KEY (project_id, server_id) REFERENCES birun_servers (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, group_id) REFERENCES birun_server_groups (project_id, id) ON DELETE CASCADE
);
CREATE INDEX birun_server_group_members_group ON birun_server_group_members (project_id, group_id);

CREATE TABLE birun_host_keys (
    project_id  UUID             NOT NULL,
    id          UUID             NOT NULL,
    short       BIGINT           NOT NULL,
    server_id   UUID             NOT NULL,
    algorithm   TEXT             NOT NULL,
    public_key  TEXT             NOT NULL,
    fingerprint TEXT COLLATE "C" NOT NULL,
    status      TEXT             NOT NULL,
    origin      TEXT             NOT NULL,
    version     BIGINT           NOT NULL CHECK (version > 0),
    created_at  BIGINT           NOT NULL,
    updated_at  BIGINT           NOT NULL,
    PRIMARY KEY (project_id, id),
    -- The fingerprint stands for the key itself, which may be too long for an index.
    UNIQUE (project_id, server_id, fingerprint),
    FOREIGN KEY (project_id, server_id) REFERENCES birun_servers (project_id, id) ON DELETE CASCADE
);
CREATE INDEX birun_host_keys_short ON birun_host_keys (short);
CREATE INDEX birun_host_keys_server ON birun_host_keys (project_id, server_id, id);

-- Bodies of scripts, once for each SHA-256.
CREATE TABLE birun_contents (
    project_id UUID  NOT NULL,
    hash       BYTEA NOT NULL CHECK (length(hash) = 32),
    body       TEXT  NOT NULL,
    PRIMARY KEY (project_id, hash)
);

CREATE TABLE birun_scripts (
    project_id  UUID             NOT NULL,
    id          UUID             NOT NULL,
    short       BIGINT           NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    description TEXT             NOT NULL,
    latest      BIGINT           NOT NULL CHECK (latest > 0),
    version     BIGINT           NOT NULL CHECK (version > 0),
    created_at  BIGINT           NOT NULL,
    updated_at  BIGINT           NOT NULL,
    PRIMARY KEY (project_id, id),
    UNIQUE (project_id, name)
);
CREATE INDEX birun_scripts_short ON birun_scripts (short);

CREATE TABLE birun_script_versions (
    project_id  UUID   NOT NULL,
    script_id   UUID   NOT NULL,
    number      BIGINT NOT NULL CHECK (number > 0),
    content     BYTEA  NOT NULL,
    interpreter TEXT   NOT NULL,
    parameters  TEXT   NOT NULL,
    targets     TEXT,
    timeout_ms  BIGINT,
    settings    TEXT   NOT NULL,
    created_at  BIGINT NOT NULL,
    created_by  TEXT   NOT NULL,
    PRIMARY KEY (project_id, script_id, number),
    FOREIGN KEY (project_id, script_id) REFERENCES birun_scripts (project_id, id) ON DELETE CASCADE,
    FOREIGN KEY (project_id, content) REFERENCES birun_contents (project_id, hash)
);
CREATE INDEX birun_script_versions_content ON birun_script_versions (project_id, content);

-- Executions are the queue as well: a worker claims rows that are queued or waiting and due.
CREATE TABLE birun_executions (
    project_id          UUID   NOT NULL,
    id                  UUID   NOT NULL,
    short               BIGINT NOT NULL,
    kind                TEXT   NOT NULL,
    title               TEXT   NOT NULL,
    script_id           UUID,
    script_version      BIGINT,
    -- What retention counts by: the script, or a digest of kind and title.
    subject             UUID   NOT NULL,
    content             BYTEA,
    params              TEXT   NOT NULL,
    secrets             BYTEA,
    targets             TEXT   NOT NULL,
    strategy            TEXT   NOT NULL,
    plan                TEXT   NOT NULL,
    triggered_by        TEXT   NOT NULL,
    actor_kind          TEXT   NOT NULL,
    actor_name          TEXT   NOT NULL,
    retry_of            UUID,
    status              TEXT   NOT NULL,
    reason              TEXT,
    detail              TEXT,
    -- How many steps stand how; only the newest attempt on each target counts.
    n_pending           BIGINT NOT NULL,
    n_running           BIGINT NOT NULL,
    n_succeeded         BIGINT NOT NULL,
    n_failed            BIGINT NOT NULL,
    n_cancelled         BIGINT NOT NULL,
    n_timed_out         BIGINT NOT NULL,
    n_unreachable       BIGINT NOT NULL,
    n_lost              BIGINT NOT NULL,
    n_skipped           BIGINT NOT NULL,
    created_at          BIGINT NOT NULL,
    started_at          BIGINT,
    finished_at         BIGINT,
    cancel_requested_at BIGINT,
    wake_at             BIGINT NOT NULL,
    home                UUID,
    worker              UUID,
    epoch               BIGINT NOT NULL,
    -- How often the worker that had it died.
    deaths              BIGINT NOT NULL DEFAULT 0,
    rev                 BIGINT NOT NULL,
    PRIMARY KEY (project_id, id),
    FOREIGN KEY (project_id, content) REFERENCES birun_contents (project_id, hash),
    CHECK ((status = 'running') = (worker IS NOT NULL)),
    CHECK ((status IN ('queued', 'waiting', 'running')) = (finished_at IS NULL))
);
-- For claims: a young table has no statistics, and the planner would take all rows of a project for few.
CREATE UNIQUE INDEX birun_executions_id ON birun_executions (id);
CREATE INDEX birun_executions_short ON birun_executions (short);
CREATE INDEX birun_executions_created ON birun_executions (project_id, created_at);
CREATE INDEX birun_executions_subject ON birun_executions (project_id, subject, id);
CREATE INDEX birun_executions_content ON birun_executions (project_id, content) WHERE content IS NOT NULL;
CREATE INDEX birun_executions_due ON birun_executions (project_id, wake_at, id) WHERE status IN ('queued', 'waiting');
CREATE INDEX birun_executions_worker ON birun_executions (project_id, worker) WHERE status = 'running';
CREATE INDEX birun_executions_ended ON birun_executions (project_id, status, id) WHERE finished_at IS NOT NULL;

CREATE TABLE birun_steps (
    project_id     UUID   NOT NULL,
    execution_id   UUID   NOT NULL,
    ordinal        BIGINT NOT NULL,
    id             UUID   NOT NULL,
    position       BIGINT NOT NULL,
    target         TEXT   NOT NULL,
    server_id      UUID,
    attempt        BIGINT NOT NULL CHECK (attempt > 0),
    status         TEXT   NOT NULL,
    reason         TEXT,
    detail         TEXT,
    error          TEXT,
    exit_code      BIGINT,
    signal         TEXT,
    killed         TEXT,
    handle         TEXT,
    epoch          BIGINT NOT NULL,
    not_before     BIGINT,
    started_at     BIGINT,
    finished_at    BIGINT,
    output_bytes   BIGINT NOT NULL,
    output_dropped BIGINT NOT NULL,
    rev            BIGINT NOT NULL,
    PRIMARY KEY (execution_id, ordinal, project_id),
    FOREIGN KEY (project_id, execution_id) REFERENCES birun_executions (project_id, id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX birun_steps_id ON birun_steps (id);
CREATE INDEX birun_steps_rev ON birun_steps (execution_id, rev);
CREATE INDEX birun_steps_retried ON birun_steps (execution_id, position, attempt) WHERE attempt > 1;

CREATE TABLE birun_idempotency_keys (
    project_id   UUID             NOT NULL,
    key          TEXT COLLATE "C" NOT NULL,
    request      BYTEA            NOT NULL CHECK (length(request) = 32),
    execution_id UUID             NOT NULL,
    created_at   BIGINT           NOT NULL,
    PRIMARY KEY (project_id, key),
    -- Deferred: the key is taken before the execution is written.
    FOREIGN KEY (project_id, execution_id) REFERENCES birun_executions (project_id, id)
        ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED
);
CREATE INDEX birun_idempotency_keys_execution ON birun_idempotency_keys (project_id, execution_id);
CREATE INDEX birun_idempotency_keys_created ON birun_idempotency_keys (project_id, created_at);

CREATE TABLE birun_workers (
    project_id  UUID             NOT NULL,
    id          UUID             NOT NULL,
    name        TEXT COLLATE "C" NOT NULL,
    slots       BIGINT           NOT NULL,
    home_only   BIGINT           NOT NULL CHECK (home_only IN (0, 1)),
    started_at  BIGINT           NOT NULL,
    -- Until when it counts as alive; null where an operating system's lock tells.
    lease_until BIGINT,
    PRIMARY KEY (project_id, id)
);
