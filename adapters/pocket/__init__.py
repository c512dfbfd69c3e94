"""The pocket zoo: tiny models of published architectures, trained here on the pocket data, and how they are built.

They are loaded by the very adapters that load the families' full models; of those they say nothing.
"""
