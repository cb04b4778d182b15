"""The one written form of a catalog file: JSON with every field and every row on its own line.

A hand edit and a tool's edit look the same, so a diff shows what changed and nothing else.
"""

from __future__ import annotations

import json
from typing import Any


def dump_table(document: dict[str, Any], rows_field: str) -> str:
    """Return a catalog file's text: fields in the order given, the rows one to a line."""
    lines = []
    for field, value in document.items():
        if field == rows_field:
            rows = ",\n".join(f"    {_compact(row)}" for row in value)
            lines.append(f'  "{field}": [\n{rows}\n  ]')
        else:
            lines.append(f'  "{field}": {_compact(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
