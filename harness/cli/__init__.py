"""The command `harness`: `main` reads the command line, and each command stands in a file of its own."""
