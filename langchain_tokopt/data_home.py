"""Where this package keeps what is made once per user and machine."""

from __future__ import annotations

import os
from pathlib import Path

HOME_VARIABLE = "TOKOPT_HOME"


def data_home() -> Path:
    """The folder of `TOKOPT_HOME`, else the user's data folder on this system. It need not exist."""
    named = os.environ.get(HOME_VARIABLE, "").strip()
    if named:
        return Path(named).expanduser()
    import platformdirs

    return Path(platformdirs.user_data_dir("tokopt", appauthor=False))
