-- Which scheduler has a stage: one row from the claim to the stage's end there, over the pauses between attempts.
CREATE TABLE leases (
    stage INTEGER PRIMARY KEY REFERENCES stages(id),
    attempt INTEGER NOT NULL, -- the last one under this lease
    taken REAL NOT NULL,
    -- The scheduler: its file in `owners/`, and its process.
    owner TEXT NOT NULL,
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    pid INTEGER NOT NULL,
    start_time INTEGER NOT NULL,
    since REAL NOT NULL,
    -- The worker of that attempt, once it was started.
    worker_pid INTEGER,
    worker_start INTEGER
) STRICT;
CREATE INDEX leases_owner ON leases(owner);

CREATE VIEW v_leases AS
SELECT
    s.fingerprint AS fingerprint,
    l.attempt AS attempt,
    l.taken AS taken,
    l.owner AS owner,
    l.host AS host,
    l.pid AS pid,
    l.since AS since,
    l.worker_pid AS worker_pid
FROM leases l JOIN stages s ON s.id = l.stage;
