"""Alerts: rules over figures and budgets, raised once, told, taken up, and cleared."""

from langchain_tokopt.telemetry.alerts.alerts import Alerts
from langchain_tokopt.telemetry.alerts.channels import CallbackChannel, LogChannel
from langchain_tokopt.telemetry.alerts.rules import DEFAULT_RULES, AlertRule
from langchain_tokopt.telemetry.alerts.webhook import Webhook, signature
from langchain_tokopt.telemetry.alerts.words import Alert, AlertChanged, Channel, Notice

__all__ = [
    "DEFAULT_RULES",
    "Alert",
    "AlertChanged",
    "AlertRule",
    "Alerts",
    "CallbackChannel",
    "Channel",
    "LogChannel",
    "Notice",
    "Webhook",
    "signature",
]
