"""What a model card says of the repo as a whole: its front matter, and phrases that makers use."""

from __future__ import annotations

import re
from typing import NamedTuple

from quantpick.domain.spec import is_repo_id

#: Lines of front matter, and of a prompt's example, at most.
_MOST_MATTER = 400
_MOST_PROMPT = 60

_FIELD = re.compile(r"(license|license_name|base_model):\s*(.*)")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_RELEASE = re.compile(r"releases/tag/b(\d{3,6})\b|llama\.cpp\W{0,9}release\W{0,9}b(\d{3,6})\b")
_IMATRIX = re.compile(
    r"weighted/imatrix quants of|(?:using|with)(?: an| the)? imatrix", re.IGNORECASE
)
_STATIC = re.compile(r"\bstatic quants of", re.IGNORECASE)
_PROMPT = re.compile(r"#{1,6}\s*prompt (?:format|template)", re.IGNORECASE)
_FENCE = "```"


class CardWords(NamedTuple):
    """None is what the card does not say. ``llama_cpp`` is a release such as ``b3472``."""

    license: str | None = None
    base_model: str | None = None
    llama_cpp: str | None = None
    imatrix: bool | None = None
    prompt_format: str | None = None


def card_words(lines: list[str]) -> CardWords:
    """Read them from the lines of a card."""
    matter = _front_matter(lines)
    licence = matter.get("license")
    if licence == "other":
        licence = matter.get("license_name", licence)
    base = matter.get("base_model")
    found = next(filter(None, map(_RELEASE.search, lines)), None)
    return CardWords(
        license=licence if licence and _ID.fullmatch(licence) else None,
        base_model=base if base and is_repo_id(base) else None,
        llama_cpp=f"b{found.group(1) or found.group(2)}" if found else None,
        imatrix=_imatrix(lines),
        prompt_format=_prompt(lines),
    )


def _front_matter(lines: list[str]) -> dict[str, str]:
    """Return the fields of interest; of a list its first item."""
    if not lines or lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    open_field = ""
    for line in lines[1:_MOST_MATTER]:
        if line.strip() == "---":
            return found
        field = _FIELD.match(line)
        item = line.strip().removeprefix("- ").strip() if line.lstrip().startswith("- ") else ""
        if field:
            value = _unquoted(field.group(2))
            open_field = "" if value else field.group(1)
            found |= {field.group(1): value} if value else {}
        elif item and open_field:
            found[open_field], open_field = _unquoted(item), ""
        else:
            open_field = ""
    return {}


def _unquoted(text: str) -> str:
    return text.strip().strip("'\"").strip()


def _imatrix(lines: list[str]) -> bool | None:
    if any(map(_IMATRIX.search, lines)):
        return True
    return False if any(map(_STATIC.search, lines)) else None


def _prompt(lines: list[str]) -> str | None:
    """Return the example of a turn under its heading, None unless it has a place for the prompt.

    None too where it holds what a terminal would obey.
    """
    start = next((at for at, line in enumerate(lines) if _PROMPT.match(line)), None)
    if start is None:
        return None
    block: list[str] | None = None
    for line in lines[start + 1 : start + _MOST_PROMPT]:
        if line.startswith(_FENCE):
            if block is not None:
                text = "\n".join(block)
                safe = all(map(str.isprintable, block))
                return text + "\n" if safe and "{prompt}" in text else None
            block = []
        elif block is not None:
            block.append(line)
        elif line.startswith("#"):
            return None
    return None
