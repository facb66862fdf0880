"""What `ablate bench report` times, beside MLflow and pandas, on the same rows.

    ablate bench report --dir /tmp/bench-store --csv /tmp/bench.csv
    pip install mlflow pandas
    python benches/compare_report.py target/release/ablate /tmp/bench-store /tmp/bench.csv

Fills an MLflow tracking store (SQLite) with the runs of the CSV file: the first run goes through MLflow's client, the
others are copies of its rows with their own values, in bulk, for MLflow needs about a tenth of a second for each run
that it is told of. The last run goes through the client again and is compared with a copy, so that the copies are what
MLflow would have written.

Then both sides are timed in pairs, one after the other, seven times; printed are medians, and the ratio of each pair as
its median and range. `ablate` is timed as a command, from its start to its end, with tables and files written; MLflow
and pandas are timed inside a Python that has imported them.
"""

import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param

PAIRS = 7
QUERY = "SELECT metric, COUNT(*), AVG(value) FROM v_metrics GROUP BY metric"
TABLES = ["runs", "params", "metrics", "latest_metrics", "tags"]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def paired(name, ours, theirs):
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(PAIRS)]
    ratios = sorted(theirs / ours for ours, theirs in pairs)
    ms = [1e3 * statistics.median(side) for side in zip(*pairs)]
    print(
        f"{name}: ablate {ms[0]:.0f} ms, other {ms[1]:.0f} ms; other over ablate "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
    )


def told(client, experiment, name, rows):
    """One run, through MLflow's client; its id."""
    run = client.create_run(experiment, run_name=name)
    first = rows.iloc[0]
    params = [Param("variant", str(first.variant)), Param("seed", str(first.seed))]
    metrics = [
        Metric(row.metric.replace("/", "_"), float(row.value), 0, int(row.epoch)) for row in rows.itertuples()
    ]
    client.log_batch(run.info.run_id, metrics=metrics, params=params)
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def rows_of(db, table, run):
    """The rows of a run without what differs between any two runs: its id and name, and times."""
    found = db.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", [run])
    names = [column[0] for column in found.description]
    own = {"run_uuid", "name", "start_time", "end_time", "artifact_uri"}
    is_name = lambda row: row.get("key") == "mlflow.runName"
    rows = [dict(zip(names, row)) for row in found]
    kept = [{k: v for k, v in row.items() if k not in own} for row in rows if not is_name(row)]
    return sorted(kept, key=str)


def copied(db, pattern, frames):
    """The rows of `frames` (run name -> frame) as MLflow wrote those of the run `pattern`."""

    def template(table):
        found = db.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", [pattern])
        return [dict(zip([column[0] for column in found.description], row)) for row in found]

    templates = {table: template(table) for table in TABLES}
    out = {table: [] for table in TABLES}
    ids = {}
    for name, rows in frames:
        run = uuid.uuid4().hex
        ids[name] = run
        uri = templates["runs"][0]["artifact_uri"].replace(pattern, run)
        out["runs"].append({**templates["runs"][0], "run_uuid": run, "name": name, "artifact_uri": uri})
        first = rows.iloc[0]
        for key in ["variant", "seed"]:
            like = next(row for row in templates["params"] if row["key"] == key)
            out["params"].append({**like, "run_uuid": run, "value": str(getattr(first, key))})
        for row in templates["tags"]:
            value = name if row["key"] == "mlflow.runName" else row["value"]
            out["tags"].append({**row, "run_uuid": run, "value": value})
        last = {}
        for row in rows.itertuples():
            metric = {
                **templates["metrics"][0],
                "run_uuid": run,
                "key": row.metric.replace("/", "_"),
                "value": float(row.value),
                "step": int(row.epoch),
            }
            out["metrics"].append(metric)
            if metric["key"] not in last or last[metric["key"]]["step"] <= metric["step"]:
                last[metric["key"]] = metric
        out["latest_metrics"] += [
            {key: metric[key] for key in templates["latest_metrics"][0]} for metric in last.values()
        ]
    for table, rows in out.items():
        columns = list(rows[0])
        marks = ", ".join("?" for _ in columns)
        values = ([row[column] for column in columns] for row in rows)
        db.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({marks})", values)
    db.commit()
    return ids


def fill(folder, frame):
    """An MLflow store of all runs; its experiment."""
    mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
    client = mlflow.MlflowClient()
    experiment = client.create_experiment("bench")
    frames = list(frame.groupby("run", sort=False))
    first = seconds(lambda: told(client, experiment, *frames[0]))
    last = told(client, experiment, *frames[-1])
    db = sqlite3.connect(f"{folder}/mlflow.db")
    again = copied(db, last, [frames[0], frames[-1]])
    for table in TABLES:
        assert rows_of(db, table, again[frames[-1][0]]) == rows_of(db, table, last), table
    for run in again.values():
        for table in TABLES[::-1]:
            db.execute(f"DELETE FROM {table} WHERE run_uuid = ?", [run])
    taken = seconds(lambda: copied(db, last, frames[1:-1]))
    db.close()
    print(f"MLflow: one run through its client {1e3 * first:.0f} ms; all others in bulk {taken:.0f} s")
    return experiment


def main():
    program, store, path = sys.argv[1:4]
    frame = pd.read_csv(path)
    print(f"{frame.run.nunique()} runs, {len(frame)} metric rows; MLflow {mlflow.__version__}, pandas {pd.__version__}")
    with tempfile.TemporaryDirectory() as folder:

        def ablate(*args):
            done = subprocess.run([program, *args, "--store", store], capture_output=True, text=True, check=True)
            return done.stdout

        def group():
            return frame.groupby("metric").value.agg(["count", "mean"])

        # Both sides answer alike.
        ours = {line.split(",")[0]: line.split(",") for line in ablate("query", "--format", "csv", QUERY).splitlines()[1:]}
        for metric, row in group().iterrows():
            assert int(ours[metric][1]) == row["count"], metric
            assert abs(float(ours[metric][2]) - row["mean"]) < 1e-9 * max(1.0, abs(row["mean"])), metric

        report = lambda: ablate("report", "bench", "--out", f"{folder}/reports")
        experiment = fill(folder, frame)
        search = lambda: mlflow.search_runs(experiment_ids=[experiment], max_results=50_000)
        found = search()
        assert len(found) == frame.run.nunique(), len(found)
        columns = ["count", "mean", "std"]
        table = lambda: search().groupby("params.variant")["metrics.val_top1"].agg(columns)
        paired("report (table, files, page) and search_runs", report, search)
        paired("report and search_runs with a table by variant", report, table)
    query = lambda: ablate("query", QUERY)
    paired("grouped query and pandas groupby in memory", query, group)
    paired(
        "grouped query and pandas read_csv with groupby",
        query,
        lambda: pd.read_csv(path).groupby("metric").value.agg(["count", "mean"]),
    )


if __name__ == "__main__":
    main()
