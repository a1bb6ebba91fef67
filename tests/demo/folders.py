"""A small folder with a bit of everything, for the demo's tests."""

from __future__ import annotations

import os
from pathlib import Path

SHOP = '''"""What a shop sells."""

from __future__ import annotations

import json
from decimal import Decimal

from shop import prices

LIMIT = 10


class Item:
    """Something that is sold. It has a price."""

    name: str

    def total(self, count: int, *, rebate: Decimal = Decimal(0)) -> Decimal:
        """The price of `count` items."""
        if count > LIMIT:
            raise ValueError("too many")
        return prices.price_of(self.name) * count - rebate

    @property
    def label(self) -> str:
        return json.dumps(self.name)  # TODO: escape it


class Book(Item):
    pass
'''
PRICES = '''"""Prices."""


def price_of(name: str) -> int:
    """The price of an item in cents."""
    return len(name) * 100


def unused(*names: str, **options: int) -> None:
    price_of("a")
'''
GUIDE = """# Guide

How to run the shop. Open it at nine.

## Opening hours

The shop opens at nine and closes at five. On Sundays it stays closed. See [prices](prices.md).

```python
print("open")
```

## Prices

| item | price |
| --- | --- |
| book | 400 |

Every price is in cents. The API is not used.
"""


def make_folder(root: Path) -> Path:
    """The folder; every file has the same time of change."""
    files = {
        "shop/__init__.py": "",
        "shop/items.py": SHOP,
        "shop/prices.py": PRICES,
        "docs/guide.md": GUIDE,
        "docs/notes.txt": "Nine o'clock is early. The shop is open.\nBuy bread.\n",
        "docs/copy.txt": "Nine o'clock is early. The shop is open.\nBuy bread.\n",
        "settings.toml": '[shop]\nname = "Corner"\nopen = true\n',
        "data/stock.json": '{"items": [{"name": "book", "count": 3}, {"name": "pen", "count": 5}]}',
        "data/sales.csv": "day,sold\nMon,3\nTue,5\nWed,\n",
        "broken.py": "def broken(:\n",
    }
    for path, text in files.items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    (root / "data" / "picture.bin").write_bytes(b"\x00\x01\x02" * 10)
    for target in root.rglob("*"):
        if target.is_file():
            os.utime(target, (1_767_268_800, 1_767_268_800))  # 2026-01-01 12:00 UTC
    return root
