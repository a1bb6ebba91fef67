"""The dashboard: one page that shows what is spent, saved and wrong; as a file, or served on loopback."""

from __future__ import annotations

from langchain_tokopt.telemetry.dashboard.data import dashboard_data
from langchain_tokopt.telemetry.dashboard.page import page

__all__ = ["dashboard_data", "page"]
