"""The dashboard: one page that shows what is spent, saved and wrong; as a file, or served on loopback."""

from __future__ import annotations

from langchain_tokopt.telemetry.dashboard.data import arrivals, dashboard_data
from langchain_tokopt.telemetry.dashboard.page import page
from langchain_tokopt.telemetry.dashboard.serve import Server

__all__ = ["Server", "arrivals", "dashboard_data", "page"]
