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
