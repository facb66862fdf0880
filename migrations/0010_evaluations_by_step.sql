-- Programs evaluate more than once in an epoch, or count no epochs: evaluations are told apart by their step, too. The table
-- is made anew under its own name, for the views that read it by that name.
CREATE TABLE evaluations_before AS SELECT * FROM evaluations;

DROP TABLE evaluations;

CREATE TABLE evaluations (
    stage INTEGER NOT NULL REFERENCES stages(id),
    series INTEGER NOT NULL REFERENCES series(id),
    epoch INTEGER NOT NULL,
    step INTEGER NOT NULL,
    time REAL NOT NULL,
    value REAL,
    nonfinite TEXT CHECK (nonfinite IN ('nan', 'inf', '-inf')),
    PRIMARY KEY (stage, series, epoch, step)
) STRICT, WITHOUT ROWID;

INSERT INTO evaluations (stage, series, epoch, step, time, value, nonfinite)
SELECT stage, series, epoch, step, time, value, nonfinite FROM evaluations_before ORDER BY stage, series, epoch;

DROP TABLE evaluations_before;
