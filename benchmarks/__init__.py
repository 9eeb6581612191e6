"""Speed, memory and evidence: what is measured, with one command a table."""
