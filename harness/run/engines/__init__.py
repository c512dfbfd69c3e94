"""Engines run jobs somewhere and hand their events back, in order; `local` runs them in processes on this machine."""
