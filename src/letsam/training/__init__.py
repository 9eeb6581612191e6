"""Training runs and trials, with Lightning Fabric (extra `trial`).

- `methods`: the registry of methods
- `config`: the options of a trial
- `trial`: methods x seeds, one after another or in parallel processes
- `loop`: one run
- `sampling`: splits and batches
- `devices`, `parallel`, `checkpoint_file`: where it runs, worker processes, the file of a run
"""
