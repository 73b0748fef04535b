"""The main job: replicate real data, kill whoever leads, lose nothing. ``mosaik demo`` runs it."""

from __future__ import annotations

from mosaik.demo.records import Record, library_records, line_records
from mosaik.demo.report import Report
from mosaik.demo.run import Options, run_demo

__all__ = ["Options", "Record", "Report", "library_records", "line_records", "run_demo"]
