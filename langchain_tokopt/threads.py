"""Work that must not block an event loop."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from typing import Any


async def in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Call `function` in a worker thread with this task's context; on cancellation wait for it to end first.

    A generator cannot be closed while a thread is inside it, so a cancelled step is waited for before the
    cancellation goes on.
    """
    context = contextvars.copy_context()
    future = asyncio.get_running_loop().run_in_executor(None, functools.partial(context.run, function, *args))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            try:
                await asyncio.wait([future])
            except asyncio.CancelledError:
                continue
        future.exception()  # retrieved, so that it is not reported as lost
        raise
