-- Stages of programs of the user's own have no recipe and no resolution: their results on `val` are their headline.
-- Columns of views stay as they are.
DROP VIEW v_results;

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
    v.time AS time,
    -- A subquery, so that the configuration is read only where this column is asked for.
    n.eval_set = 'val' AND (s.task = 'command' OR n.resolution = (
        SELECT json_extract(c.config, '$.recipe.eval.resolution') FROM stage_configs c WHERE c.stage = s.id
    )) AS headline
FROM experiments e
JOIN runs r ON r.experiment = e.id AND r.current = 1
CROSS JOIN run_stages rs ON rs.run = r.id
CROSS JOIN stages s ON s.id = rs.stage
CROSS JOIN results v ON v.stage = rs.stage
CROSS JOIN series n ON n.id = v.series;
