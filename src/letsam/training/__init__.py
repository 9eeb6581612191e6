"""Training runs and trials, with Lightning Fabric (extra `trial`)."""
