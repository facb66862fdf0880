-- Published training curves, one row per point, beside the published results.
CREATE TABLE reference_curves (
    run TEXT NOT NULL,
    model TEXT,
    stage TEXT,
    epochs_total INTEGER,
    res INTEGER,
    epoch REAL NOT NULL,
    top1 REAL NOT NULL,
    source TEXT NOT NULL,
    confidence TEXT NOT NULL,
    PRIMARY KEY (run, epoch)
) STRICT, WITHOUT ROWID;

CREATE VIEW v_reference_curves AS
SELECT
    run, model, stage, epochs_total, res, epoch, top1, source, confidence
FROM reference_curves;

-- The file of published numbers has grown a second part: it is read again at the next opening.
DELETE FROM meta WHERE key = 'reference';
