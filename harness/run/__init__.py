"""A run: `plan` says what is asked, `driver` carries it out and writes, `worker` runs one model in its own process."""
