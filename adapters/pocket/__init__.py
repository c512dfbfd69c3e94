"""The pocket zoo: tiny models of published architectures, trained here on the pocket data, and how they are built.

`tower` is the vision tower that all begin with and `parts` what else they share. `chat` and `dual` build the models
around it; `chat_training` and `dual_training` teach them. The weights lie in `weights/`, beside those of the fusion
models. They are loaded by the very adapters that load the families' full models, of whose quality they say nothing.
"""
