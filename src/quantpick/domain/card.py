"""What a published model card says of its quants: read from markdown that anybody may have written.

Only the table of files, the front matter and a few set phrases are looked at. All of it is text
from outside: what cannot be read, is not safe, or is of another repo is left out, and said so.
"""

from __future__ import annotations

import re
from html import unescape
from typing import TYPE_CHECKING, NamedTuple

from quantpick.domain.card_words import card_words
from quantpick.domain.listing import MOST_BYTES
from quantpick.domain.names import printable, unsafe_path
from quantpick.domain.quant import FileKind, canonical_label, parse_filename
from quantpick.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quantpick.domain.card_words import CardWords

#: Characters of the longest card that is read, and of the longest line: known cards stay below a
#: hundredth of the first.
MOST_CHARS = 4_000_000
_MOST_LINE = 20_000

#: Rows of all tables together; a repo has some tens of quants.
_MOST_ROWS = 1000

#: Columns by the letters and digits of what their authors call them.
_COLUMNS = {
    "file": {"filename", "file", "link", "name"},
    "label": {"quanttype", "type", "quant", "quantmethod", "quantization"},
    "size": {"filesize", "size", "sizegb", "sizegib", "filesizegb", "filesizegib"},
    "split": {"split"},
    "note": {"description", "notes", "note", "usecase"},
}
_UNITS = {
    "tb": 10**12,
    "gb": 10**9,
    "mb": 10**6,
    "tib": 2**40,
    "gib": 2**30,
    "mib": 2**20,
}
_HOSTS = r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/"

_PIPE = re.compile(r"(?<!\\)\|")
_LINK = re.compile(r"\[([^\[\]]*)\]\(\s*<?([^()\s<>]*)[^()]*\)?")
_ANCHOR = re.compile(r"""<a\s[^<>]*?href\s*=\s*["']([^"'<>]*)["']""", re.IGNORECASE)
_TAG = re.compile(r"<[^<>]*>")
_SIZE = re.compile(r"~?(\d{1,9})(?:\.(\d{1,6}))?([a-z]*)", re.ASCII)
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})(?=\.gguf$)", re.IGNORECASE | re.ASCII)
_HEAVY_ENDS = re.compile(r"\b(B?F16|F32|Q\d_\w{1,3}) for embed\w* and output", re.IGNORECASE)
_NOT_RECOMMENDED = re.compile(r"\bnot\s+recommended", re.IGNORECASE)
_RECOMMENDED = re.compile(r"\brecommended", re.IGNORECASE)

#: What says of a split that it is one.
_YES = frozenset({"true", "yes"})


class CardRow(NamedTuple):
    """A quant as its card has it: ``rounded_to`` is the last digit of the size.

    ``paths`` is empty for a split quant whose shards the card does not name. ``heavy_ends`` is the
    type of embedding and output where the card says that they have one of their own.
    """

    label: str
    file_bytes: int
    rounded_to: int
    paths: tuple[str, ...]
    recommended: bool | None = None
    heavy_ends: str | None = None


class LeftOut(NamedTuple):
    """A row that cannot be used, by its first words, and why."""

    words: str
    why: str


class Card(NamedTuple):
    """What was found, in the order of the card."""

    rows: tuple[CardRow, ...]
    left_out: tuple[LeftOut, ...]
    words: CardWords


class _UnusableError(Exception):
    """Why a row is left out."""


def parse_card(text: str, repo_id: str) -> Card:
    """Read the card of a repo. Raises UsageError for a text that is too long to be one."""
    if len(text) > MOST_CHARS:
        raise UsageError(
            f"the card has {len(text)} characters, and no card has {MOST_CHARS}",
            "give the README.md of the repo",
        )
    lines = [line for line in text.splitlines() if len(line) <= _MOST_LINE]
    rows: dict[str, CardRow] = {}
    left_out: list[LeftOut] = []
    for cells in _table_rows(lines):
        found = _row(cells, repo_id)
        if isinstance(found, CardRow) and found.label not in rows:
            rows[found.label] = found
        elif isinstance(found, CardRow):
            left_out.append(LeftOut(_name(cells), f"{found.label} is there twice"))
        else:
            left_out.append(found)
    return Card(tuple(rows.values()), tuple(left_out), card_words(lines))


# Tables


def _table_rows(lines: list[str]) -> Iterator[dict[str, str]]:
    """Yield the rows of all tables of files: cells by what their column is for."""
    columns: dict[int, str] = {}
    count = 0
    for line in lines:
        if "|" not in line:
            columns = {}
            continue
        cells = _cells(line)
        if not columns:
            columns = _columns_of(cells)
        elif set("".join(cells)) <= set("-: "):
            continue
        elif count < _MOST_ROWS:
            count += 1
            yield {use: cells[at] for at, use in columns.items() if at < len(cells)}


def _cells(line: str) -> list[str]:
    line = line.strip()
    line = line.removeprefix("|")
    if line.endswith("|") and not line.endswith("\\|"):
        line = line[:-1]
    return [cell.strip().replace("\\|", "|") for cell in _PIPE.split(line)]


def _columns_of(cells: list[str]) -> dict[int, str]:
    """Return what the columns are for, nothing where the line does not head a table of files."""
    found: dict[int, str] = {}
    for at, cell in enumerate(cells):
        name = re.sub(r"[^a-z]", "", _plain(cell).lower())
        use = next((use for use, names in _COLUMNS.items() if name in names), None)
        if use is not None and use not in found.values():
            found[at] = f"{use}:{name}" if use == "size" else use
    if not {"file", "label"} & set(found.values()):
        return {}
    return found if any(use.startswith("size:") for use in found.values()) else {}


def _plain(cell: str) -> str:
    """Return a cell without markup; underscores stay, as labels have them."""
    text = _LINK.sub(lambda link: link.group(1), cell)
    return re.sub(r"[*`\\]", "", unescape(_TAG.sub("", text))).strip()


def _name(cells: dict[str, str]) -> str:
    text = _plain(cells.get("file") or "") or _plain(cells.get("label") or "") or "a row"
    return printable(text[:120])


# A row


def _row(cells: dict[str, str], repo_id: str) -> CardRow | LeftOut:
    try:
        size = _size(cells)
        paths = _paths(cells, repo_id)
        label = _agreed(canonical_label(_plain(cells.get("label", ""))), paths)
    except _UnusableError as error:
        return LeftOut(_name(cells), str(error))
    note = _plain(cells.get("note", ""))
    heavy = _HEAVY_ENDS.search(note)
    ends = heavy.group(1).upper() if heavy else None
    return CardRow(label, *size, paths, _recommended(note), ends)


def _size(cells: dict[str, str]) -> tuple[int, int]:
    """Return bytes, and the step that the card rounded them to."""
    column, cell = next((item for item in cells.items() if item[0].startswith("size:")), ("", ""))
    found = _SIZE.fullmatch(re.sub(r"\s", "", _plain(cell)).lower())
    if found is None:
        raise _UnusableError("its size cannot be read")
    whole, part, unit = found.group(1), found.group(2) or "", found.group(3)
    scale = _UNITS.get(unit or re.sub(r"^size:(?:file)?size", "", column))
    if scale is None:
        raise _UnusableError("its size has no unit that is known")
    step = 10 ** len(part)
    size = int(whole + part) * scale // step
    if not 0 < size < MOST_BYTES:
        raise _UnusableError("its size makes no sense")
    return size, max(scale // step, 1)


def _recommended(note: str) -> bool | None:
    if _NOT_RECOMMENDED.search(note):
        return False
    return True if _RECOMMENDED.search(note) else None


def _agreed(label: str | None, paths: tuple[str, ...]) -> str:
    """Return the label of a row, which its file's name has to agree with."""
    if not paths and label is not None:
        return label
    name = parse_filename(paths[0] if paths else "")
    if paths and name.kind is not FileKind.MODEL:
        raise _UnusableError("it is no model")
    if name.label is None:
        raise _UnusableError("its label is none that is known")
    if label not in {None, name.label}:
        raise _UnusableError(f"the card calls it {label} and its name {name.label}")
    return name.label


# Its files


def _paths(cells: dict[str, str], repo_id: str) -> tuple[str, ...]:
    """Return the files of a row inside the repo, the shards of a set all of them.

    None for a split quant of which the folder alone is named.
    """
    named = [path for path in _named(cells.get("file", ""), repo_id) if path]
    if not named and _plain(cells.get("split", "")).lower() in _YES:
        return ()
    if not named:
        raise _UnusableError("it names no file")
    if any(unsafe_path(path) for path in named):
        raise _UnusableError("its file name is not safe to write")
    if parse_filename(named[0]).raw_part:
        raise _UnusableError("it is cut into raw byte parts")
    whole = _shards(named[0])
    if len(named) > 1 and tuple(named) != whole:
        raise _UnusableError("it names several files that are no set of shards")
    return whole


def _named(cell: str, repo_id: str) -> Iterator[str]:
    """Yield the files that a cell links to or names; nothing for a folder."""
    addresses = [url for _, url in _LINK.findall(cell)] + _ANCHOR.findall(cell)
    for url in addresses:
        yield _path_of(unescape(url), repo_id)
    if not addresses:
        text = _plain(cell)
        yield text if text.lower().endswith(".gguf") else ""


def _path_of(url: str, repo_id: str) -> str:
    """Return the file that an address means, nothing for a folder."""
    url = re.split(r"[?#]", url, maxsplit=1)[0]
    if "://" not in url and not url.startswith("/"):
        path = _unquoted(url).removeprefix("./")
        return path if ".gguf" in path.lower() else ""
    found = re.fullmatch(rf"{_HOSTS}([^/]+/[^/]+)/(resolve|blob|tree)/[^/]+/(.*)", url)
    if found is None:
        raise _UnusableError("its link leads elsewhere")
    if found.group(1).lower() != repo_id.lower():
        raise _UnusableError(f"its link leads to {printable(found.group(1)[:120])}")
    return "" if found.group(2) == "tree" else _unquoted(found.group(3))


def _unquoted(text: str) -> str:
    """Return an address's path as it is written on disk."""
    raw = re.sub(
        rb"%([0-9A-Fa-f]{2})", lambda found: bytes([int(found.group(1), 16)]), text.encode()
    )
    return raw.decode("utf-8", "replace")


def _shards(path: str) -> tuple[str, ...]:
    """Return all shards of the set that a name is of; any other file alone."""
    found = _SHARD.search(path)
    count = int(found.group(2)) if found else 1
    if found is None or count > _MOST_ROWS:
        return (path,)
    head, tail = path[: found.start()], path[found.end() :]
    return tuple(f"{head}-{index:05}-of-{count:05}{tail}" for index in range(1, count + 1))
