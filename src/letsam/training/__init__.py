"""Training runs and trials, with Lightning Fabric (extra `trial`).

- `methods`: the registry of methods
- `config`: the options of a trial
- `trial`: methods x seeds, one after another or by workers
- `loop`: one run
- `sampling`: splits and batches
- `devices`, `checkpoint_file`: where it runs, the file of a run
- `executors`: where runs are worked on; `joblib_workers`, `dask_cluster`, `ray_cluster`
"""
