"""What a run leaves on disk: `files` writes whole files, `cells` keeps a cell's folder and `runs` a run's.

The driver alone writes, and `lock` sees to it that there is one. `results/README.md` is the format.
"""
