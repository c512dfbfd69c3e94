"""What a run leaves on disk: `files` writes whole files, `cells` one cell's folder, `runs` a run's, and `lock` sees to
it that one driver writes.

The driver alone writes; reports and resumes read. `results/README.md` is the format.
"""
