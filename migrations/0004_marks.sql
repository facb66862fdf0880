-- Tags and notes of runs. A tag stays with the run as it was planned when it was tagged: where the plan changes
-- later, the former run stays in the store as long as it has a tag. Columns of views are added at the end.

CREATE TABLE tags (
    run INTEGER NOT NULL REFERENCES runs(id),
    name TEXT NOT NULL,
    time REAL NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_name ON tags(name, run);

CREATE TABLE notes (
    id INTEGER PRIMARY KEY,
    run INTEGER NOT NULL REFERENCES runs(id),
    text TEXT NOT NULL,
    time REAL NOT NULL
) STRICT;
CREATE INDEX notes_run ON notes(run);

DROP VIEW v_runs;

CREATE VIEW v_runs AS
SELECT
    e.name AS experiment,
    r.name AS run,
    r.variant AS variant,
    r.variant_index AS variant_index,
    r.labels AS labels,
    r.seed AS seed,
    e.profile AS profile,
    r.status AS status,
    r.failure AS failure,
    (SELECT COUNT(*) FROM run_stages rs WHERE rs.run = r.id) AS stages,
    (SELECT SUM(s.wall_seconds) FROM run_stages rs JOIN stages s ON s.id = rs.stage WHERE rs.run = r.id)
        AS wall_seconds,
    (SELECT s.fingerprint FROM stages s WHERE s.id = r.result) AS fingerprint,
    (SELECT p.git_revision FROM plans p WHERE p.id = r.plan) AS git_revision,
    (SELECT p.saved FROM plans p WHERE p.id = r.plan) AS planned,
    (SELECT json_group_array(t.name ORDER BY t.name) FROM tags t WHERE t.run = r.id) AS tags
FROM experiments e JOIN runs r ON r.experiment = e.id
WHERE r.current = 1;

CREATE VIEW v_tags AS
SELECT
    t.name AS tag,
    e.name AS experiment,
    r.name AS run,
    r.current AS current,
    r.status AS status,
    (SELECT s.fingerprint FROM stages s WHERE s.id = r.result) AS fingerprint,
    t.time AS time
FROM tags t JOIN runs r ON r.id = t.run JOIN experiments e ON e.id = r.experiment;

CREATE VIEW v_notes AS
SELECT
    e.name AS experiment,
    r.name AS run,
    r.current AS current,
    n.text AS note,
    n.time AS time
FROM notes n JOIN runs r ON r.id = n.run JOIN experiments e ON e.id = r.experiment;
