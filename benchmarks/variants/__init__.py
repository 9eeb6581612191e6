"""Every variant, with a fixed and with a learned radius: accuracy, cost, and how true its hypergradient is."""
