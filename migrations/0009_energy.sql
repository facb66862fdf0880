-- Energy that an attempt used, where the machine counts it: its share of what the processor's packages, or its GPUs,
-- took meanwhile.
ALTER TABLE attempts ADD COLUMN energy_joules REAL;

DROP VIEW v_attempts;

CREATE VIEW v_attempts AS
SELECT
    s.fingerprint AS fingerprint,
    (SELECT rs.name FROM run_stages rs WHERE rs.stage = s.id ORDER BY rs.run DESC LIMIT 1) AS stage,
    (SELECT r.name FROM run_stages rs JOIN runs r ON r.id = rs.run
        WHERE rs.stage = s.id AND r.current = 1 ORDER BY r.id LIMIT 1) AS run,
    (SELECT COUNT(*) FROM run_stages rs JOIN runs r ON r.id = rs.run
        WHERE rs.stage = s.id AND r.current = 1) AS runs,
    a.attempt AS attempt,
    a.status AS status,
    a.failure AS failure,
    a.message AS message,
    a.device AS device,
    a.host AS host,
    a.pid AS pid,
    a.program AS program,
    a.started AS started,
    a.ended AS ended,
    a.wall_seconds AS wall_seconds,
    a.cpu_seconds AS cpu_seconds,
    a.peak_rss_bytes AS peak_rss_bytes,
    a.images AS images,
    a.resumed_step AS resumed_step,
    a.checkpoint_step AS checkpoint_step,
    a.exit_code AS exit_code,
    a.signal AS signal,
    a.log AS log,
    a.deviation AS deviation,
    a.energy_joules AS energy_joules
FROM attempts a JOIN stages s ON s.id = a.stage;

-- As it was, but for the order of tags: `ORDER BY` in the arguments of an aggregate made the whole store unreadable for
-- programs with an SQLite before 3.44, which many distributions have.
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
    (SELECT json_group_array(name) FROM (SELECT t.name AS name FROM tags t WHERE t.run = r.id ORDER BY t.name)) AS tags
FROM experiments e JOIN runs r ON r.experiment = e.id
WHERE r.current = 1;
