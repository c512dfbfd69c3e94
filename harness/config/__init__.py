"""Configuration: `specs` are the typed settings (plain dataclasses); `compose` fills them from `conf/` with Hydra."""
