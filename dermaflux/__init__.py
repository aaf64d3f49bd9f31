"""DermaFlux: describe a skin lesion, draw it with a rectified flow, classify it, see why."""

__version__ = "0.1.0"
