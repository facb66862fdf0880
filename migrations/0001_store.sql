-- Tables may change from version to version; the views are an API (docs/views.md).
-- Times are Unix seconds. Numbers that aren't finite are NULL with a mark beside them.

PRAGMA application_id = 1094863956; -- "ABLT"

CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- One row for every plan that `ablate run` stored and that differs from the one before.
CREATE TABLE plans (
    id INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments(id) DEFERRABLE INITIALLY DEFERRED,
    saved REAL NOT NULL,
    profile TEXT NOT NULL,
    path TEXT NOT NULL,
    source TEXT NOT NULL,
    program TEXT NOT NULL,
    git_revision TEXT,
    host TEXT NOT NULL,
    command_line TEXT NOT NULL
) STRICT;

CREATE TABLE experiments (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    title TEXT NOT NULL,
    claim TEXT NOT NULL,
    profile TEXT NOT NULL,
    axes TEXT NOT NULL,        -- JSON: [{name, labels}]
    stage_names TEXT NOT NULL, -- JSON: [name]
    baseline TEXT,             -- JSON: [label or null]
    report TEXT NOT NULL,      -- JSON
    digest TEXT NOT NULL,      -- of the plan, to see that nothing changed
    plan INTEGER NOT NULL REFERENCES plans(id),
    created REAL NOT NULL,
    updated REAL NOT NULL
) STRICT;

CREATE TABLE stages (
    id INTEGER PRIMARY KEY,
    fingerprint TEXT NOT NULL UNIQUE,
    task TEXT NOT NULL,
    parent INTEGER REFERENCES stages(id) DEFERRABLE INITIALLY DEFERRED,
    seed INTEGER NOT NULL,
    data_name TEXT NOT NULL,
    data_hash TEXT NOT NULL,
    flops REAL NOT NULL,
    parameters INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    disk_bytes INTEGER NOT NULL,
    created REAL NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'done', 'failed')),
    attempts INTEGER NOT NULL DEFAULT 0,
    failure TEXT,
    message TEXT,
    log TEXT,
    wall_seconds REAL,
    -- The last event that was stored.
    last_attempt INTEGER NOT NULL DEFAULT 0,
    last_seq INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX stages_status ON stages(status, fingerprint);

-- Apart from the stage, so that a scan over stages doesn't read kilobytes of JSON a row.
CREATE TABLE stage_configs (
    stage INTEGER PRIMARY KEY REFERENCES stages(id),
    config TEXT NOT NULL
) STRICT;

CREATE TABLE runs (
    id INTEGER PRIMARY KEY,
    experiment INTEGER NOT NULL REFERENCES experiments(id),
    name TEXT NOT NULL,
    variant TEXT NOT NULL,
    variant_index INTEGER NOT NULL,
    labels TEXT NOT NULL, -- JSON: {axis: label}
    seed INTEGER NOT NULL,
    result INTEGER NOT NULL REFERENCES stages(id), -- its last stage
    plan INTEGER NOT NULL REFERENCES plans(id),    -- the last plan that it was in
    current INTEGER NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'running', 'done', 'failed')),
    failure TEXT,
    UNIQUE (experiment, variant, seed, result)
) STRICT;
CREATE INDEX runs_name ON runs(name, current);
CREATE INDEX runs_status ON runs(experiment, current, status);

CREATE TABLE run_stages (
    run INTEGER NOT NULL REFERENCES runs(id),
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    stage INTEGER NOT NULL REFERENCES stages(id),
    PRIMARY KEY (run, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_stages_stage ON run_stages(stage, run);

CREATE TABLE attempts (
    id INTEGER PRIMARY KEY,
    stage INTEGER NOT NULL REFERENCES stages(id),
    attempt INTEGER NOT NULL,
    device TEXT NOT NULL,
    host TEXT NOT NULL,
    pid INTEGER,
    log TEXT NOT NULL,
    started REAL NOT NULL,
    ended REAL,
    status TEXT NOT NULL CHECK (status IN ('running', 'done', 'failed')),
    failure TEXT,
    message TEXT,
    exit_code INTEGER,
    signal INTEGER,
    -- What its events said.
    program TEXT,
    resumed_step INTEGER,
    total_steps INTEGER,
    checkpoint_step INTEGER,
    peak_rss_bytes INTEGER,
    cpu_seconds REAL,
    wall_seconds REAL,
    images INTEGER,
    last_event REAL,
    finished INTEGER NOT NULL DEFAULT 0,
    UNIQUE (stage, attempt)
) STRICT;
CREATE INDEX attempts_running ON attempts(stage) WHERE status = 'running';

CREATE TABLE steps (
    stage INTEGER NOT NULL REFERENCES stages(id),
    step INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    time REAL NOT NULL,
    loss REAL,
    lr REAL,
    grad_norm REAL,
    images_per_second REAL,
    PRIMARY KEY (stage, step)
) STRICT, WITHOUT ROWID;

CREATE TABLE epochs (
    stage INTEGER NOT NULL REFERENCES stages(id),
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time REAL NOT NULL,
    train_loss REAL,
    lr REAL,
    seconds REAL,
    PRIMARY KEY (stage, epoch)
) STRICT, WITHOUT ROWID;

-- What an evaluation measures: interned, because millions of rows name the same few.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    eval_set TEXT NOT NULL,
    resolution INTEGER NOT NULL,
    metric TEXT NOT NULL,
    UNIQUE (eval_set, resolution, metric)
) STRICT;

CREATE TABLE evaluations (
    stage INTEGER NOT NULL REFERENCES stages(id),
    series INTEGER NOT NULL REFERENCES series(id),
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time REAL NOT NULL,
    value REAL,
    nonfinite TEXT CHECK (nonfinite IN ('nan', 'inf', '-inf')),
    PRIMARY KEY (stage, series, epoch)
) STRICT, WITHOUT ROWID;

-- The last evaluation of a stage: a copy, so that reports don't read the curves.
CREATE TABLE results (
    stage INTEGER NOT NULL REFERENCES stages(id),
    series INTEGER NOT NULL REFERENCES series(id),
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time REAL NOT NULL,
    value REAL,
    nonfinite TEXT CHECK (nonfinite IN ('nan', 'inf', '-inf')),
    PRIMARY KEY (stage, series)
) STRICT, WITHOUT ROWID;

CREATE TABLE warnings (
    stage INTEGER NOT NULL REFERENCES stages(id),
    attempt INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    time REAL NOT NULL,
    message TEXT NOT NULL,
    PRIMARY KEY (stage, attempt, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE reference_values (
    id TEXT PRIMARY KEY,
    table_or_figure TEXT NOT NULL,
    model TEXT,
    dataset TEXT,
    train_set TEXT,
    epochs TEXT,
    train_res TEXT,
    test_res INTEGER,
    ablation_axis TEXT,
    variant TEXT,
    metric TEXT NOT NULL,
    value REAL,
    std REAL,
    source TEXT NOT NULL,
    confidence TEXT NOT NULL
) STRICT, WITHOUT ROWID;

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
    (SELECT p.saved FROM plans p WHERE p.id = r.plan) AS planned
FROM experiments e JOIN runs r ON r.experiment = e.id
WHERE r.current = 1;

-- CROSS JOIN fixes the order of the loops: runs first, then a range of each metric table.
CREATE VIEW v_results AS
SELECT
    e.name AS experiment,
    r.name AS run,
    r.variant AS variant,
    r.variant_index AS variant_index,
    r.labels AS labels,
    r.seed AS seed,
    rs.name AS stage,
    s.fingerprint AS fingerprint,
    n.eval_set AS eval_set,
    n.resolution AS resolution,
    n.metric AS metric,
    v.value AS value,
    v.nonfinite IS NULL AS finite,
    v.epoch AS epoch,
    v.step AS step,
    v.time AS time
FROM experiments e
JOIN runs r ON r.experiment = e.id AND r.current = 1
CROSS JOIN run_stages rs ON rs.run = r.id
CROSS JOIN stages s ON s.id = rs.stage
CROSS JOIN results v ON v.stage = rs.stage
CROSS JOIN series n ON n.id = v.series;

-- The stages of the current runs. The joins of the views are written into each branch of a union, so that
-- a condition on a run or an experiment reaches the metric tables' keys.
CREATE VIEW run_stage_names AS
SELECT
    e.name AS experiment,
    r.name AS run,
    r.variant AS variant,
    r.variant_index AS variant_index,
    r.seed AS seed,
    rs.name AS stage,
    s.fingerprint AS fingerprint,
    rs.stage AS id
FROM experiments e
JOIN runs r ON r.experiment = e.id AND r.current = 1
CROSS JOIN run_stages rs ON rs.run = r.id
CROSS JOIN stages s ON s.id = rs.stage;

CREATE VIEW v_metrics AS
SELECT
    o.experiment AS experiment,
    o.run AS run,
    o.variant AS variant,
    o.variant_index AS variant_index,
    o.seed AS seed,
    o.stage AS stage,
    o.fingerprint AS fingerprint,
    v.step AS step,
    v.epoch AS epoch,
    NULL AS resolution,
    'step/loss' AS metric,
    v.loss AS value,
    v.loss IS NOT NULL AS finite,
    v.time AS time
FROM run_stage_names o CROSS JOIN steps v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, NULL, 'step/lr', v.lr, v.lr IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN steps v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, NULL, 'step/grad_norm', v.grad_norm, v.grad_norm IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN steps v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, NULL, 'step/images_per_second', v.images_per_second, v.images_per_second IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN steps v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, NULL, 'train_loss', v.train_loss, v.train_loss IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN epochs v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, NULL, 'lr', v.lr, v.lr IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN epochs v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, NULL, 'seconds', v.seconds, v.seconds IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN epochs v ON v.stage = o.id
UNION ALL
SELECT o.experiment, o.run, o.variant, o.variant_index, o.seed, o.stage, o.fingerprint,
    v.step, v.epoch, n.resolution, n.eval_set || '/' || n.metric, v.value, v.value IS NOT NULL, v.time
FROM run_stage_names o CROSS JOIN evaluations v ON v.stage = o.id CROSS JOIN series n ON n.id = v.series;

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
    a.log AS log
FROM attempts a JOIN stages s ON s.id = a.stage;

CREATE VIEW v_reference AS
SELECT
    id, table_or_figure, model, dataset, train_set, epochs, train_res, test_res, ablation_axis, variant,
    metric, value, std, source, confidence
FROM reference_values;
