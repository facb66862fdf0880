-- Which GPUs an attempt had, by their names for good: `cuda:0` says nothing to anybody but its process.
CREATE TABLE attempt_gpus (
    stage INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    -- Position among the attempt's GPUs.
    place INTEGER NOT NULL,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    driver TEXT NOT NULL,
    -- Bytes: the share that was asked for, or all of it.
    memory INTEGER NOT NULL,
    PRIMARY KEY (stage, attempt, place),
    FOREIGN KEY (stage, attempt) REFERENCES attempts (stage, attempt) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE VIEW v_gpus AS
SELECT
    s.fingerprint AS fingerprint,
    g.attempt AS attempt,
    g.place AS place,
    g.uuid AS uuid,
    g.name AS name,
    g.driver AS driver,
    g.memory AS memory
FROM attempt_gpus g JOIN stages s ON s.id = g.stage;
