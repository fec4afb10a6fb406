"""The one table of grid methods: detector → the class that learns and scores cells (`pipelines/grids.py`)."""

import importlib

from pipelines.grids import NetMethod

__all__ = ["METHODS", "method_class"]

METHODS: dict[str, str] = {
    "cfm": "pipelines.cfm:Cfm",
    "ib_iumad": "pipelines.ib_iumad:IbIumad",
    "mafr": "pipelines.mafr:Mafr",
    "uni_rcm": "pipelines.uni_rcm:UniRcm",
}
"""Detector → its method."""


def method_class(name: str) -> type[NetMethod]:
    """The class behind a row of `METHODS`."""
    module, _, attribute = METHODS[name].partition(":")
    found: type[NetMethod] = getattr(importlib.import_module(module), attribute)
    return found
