"""Where alerts are told inside of the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from langchain_tokopt.errors import ConfigurationError
from langchain_tokopt.telemetry.alerts.words import Notice, Severity

_LEVELS: Final[dict[Severity, int]] = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.ERROR}


class LogChannel:
    """Writes alerts into a log: by severity as info, warning or error, and as info when they are over.

    Args:
        logger: Where to; that of this package by default.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._log = logger if logger is not None else logging.getLogger("langchain_tokopt")

    def tell(self, notice: Notice) -> None:
        level = logging.INFO if notice.change == "cleared" else _LEVELS[notice.alert.severity]
        self._log.log(level, "alert %s %s", notice.alert.id[:8], notice.text)


class CallbackChannel:
    """Calls a function with each notice, in the thread that looks for alerts. It must be quick.

    Args:
        call: The function. What it returns is ignored; what it raises is logged.

    Raises:
        ConfigurationError: It cannot be called.
    """

    def __init__(self, call: Callable[[Notice], object]) -> None:
        if not callable(call):
            raise ConfigurationError("call", call, "give a function that takes a Notice")
        self._call = call

    def tell(self, notice: Notice) -> None:
        self._call(notice)
