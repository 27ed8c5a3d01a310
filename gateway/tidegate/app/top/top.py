"""The command: a picture that follows the gateway, or one alone."""

from __future__ import annotations

import asyncio
import shutil
import time
from argparse import Namespace

from tidegate.app.top.live import Live
from tidegate.app.top.screen import Painter, Screen, is_ascii_only, is_live
from tidegate.app.top.seen import Seen
from tidegate.app.top.source import Address, fetch
from tidegate.app.top.ui import Ui
from tidegate.app.top.view import plain_picture


def top(options: Namespace) -> int:
    """Show the gateway at options.url or of options.config; return the exit status.

    With options.once, and where there is no terminal to draw on, prints one picture. Raises ConfigError, and
    StatusError where there is no answer for that picture.
    """
    address = Address.of_url(options.url) if options.config is None else Address.of_config(options.config)
    ui = Ui(sort=options.sort)
    if options.once or not is_live():
        _print_once(address, ui)
        return 0
    # asyncio's own loop: uvloop's would leave the terminal, which others share, in non-blocking mode.
    asyncio.run(Live(address, options.interval, ui, Screen()).run())
    return 0


def _print_once(address: Address, ui: Ui) -> None:
    status = asyncio.run(fetch(address))
    now = time.time()
    width = shutil.get_terminal_size().columns
    lines = plain_picture(Seen(address.url, now).answered(status, now), ui, width, ascii_only=is_ascii_only())
    Painter().print(lines)
