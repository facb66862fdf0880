"""What `ablate bench report` times, with MLflow and pandas, on the same rows.

    ablate bench report --dir /tmp/bench-store --csv /tmp/bench.csv
    pip install mlflow pandas
    python benches/compare_report.py /tmp/bench.csv

Builds an MLflow file-less (SQLite) tracking store with the runs of the CSV file (through MLflow's own client, in
batches), then prints medians of five: `mlflow.search_runs` over all runs, and a pandas groupby over all metric rows
read from the CSV file, with and without the reading.
"""

import statistics
import sys
import tempfile
import time

import mlflow
import pandas as pd
from mlflow.entities import Metric, Param


def median(work, repetitions=5):
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def main():
    path = sys.argv[1]
    frame = pd.read_csv(path)
    print(f"{frame.run.nunique()} runs, {len(frame)} metric rows; mlflow {mlflow.__version__}, pandas {pd.__version__}")
    read = median(lambda: pd.read_csv(path))
    group = median(lambda: frame.groupby("metric").value.agg(["count", "mean"]))
    arms = frame[(frame.metric == "val/top1") & (frame.epoch == frame.epoch.max())]
    table = median(lambda: arms.groupby("variant").value.agg(["count", "mean", "std"]))
    print(f"pandas: read_csv {read * 1e3:.0f} ms, groupby over all {group * 1e3:.0f} ms, table {table * 1e3:.0f} ms")
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("bench")
        start = time.perf_counter()
        for name, rows in frame.groupby("run", sort=False):
            run = client.create_run(experiment, run_name=name)
            first = rows.iloc[0]
            params = [Param("variant", str(first.variant)), Param("seed", str(first.seed))]
            metrics = [
                Metric(row.metric.replace("/", "_"), float(row.value), 0, int(row.epoch))
                for row in rows.itertuples()
                if pd.notna(row.value)
            ]
            client.log_batch(run.info.run_id, metrics=metrics, params=params)
            client.set_terminated(run.info.run_id)
        print(f"mlflow: writing {time.perf_counter() - start:.0f} s")
        search = lambda: mlflow.search_runs(experiment_ids=[experiment], max_results=50000)
        found = search()
        seconds = median(search)
        print(f"mlflow: search_runs of {len(found)} runs {seconds * 1e3:.0f} ms")
        grouped = median(lambda: search().groupby("params.variant")["metrics.val_top1"].agg(["count", "mean", "std"]))
        print(f"mlflow: search_runs and a table of them {grouped * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
