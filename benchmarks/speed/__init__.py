"""Time, operators and memory of a step, beside other implementations."""
