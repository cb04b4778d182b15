"""What the user names: ``OWNER/REPO@REVISION:LABEL``, an alias, a label alone, or a local path."""

from __future__ import annotations

import re
from typing import NamedTuple

from quantpick.errors import UsageError

#: The label that asks for the recommended quant.
AUTO = "auto"

_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"
_REPO_ID = rf"{_NAME}/{_NAME}"
_ALIAS = r"[A-Za-z0-9][A-Za-z0-9._-]{0,94}"
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,254}"
#: How quant labels begin, so that a mistyped one is still taken for a label.
_LABEL_LIKE = r"(?i:(?:ud-|i1-)?(?:i?q\d|tq\d|b?f(?:16|32)|fp(?:16|32)|mxfp4|nvfp4))"
_PATH_LIKE = r"\.{1,2}(?:[/\\:]|$)|[/~\\]|[A-Za-z]:[/\\]"
#: How the name of a file with a model ends, or of a raw part of one.
_GGUF = r"(?i:\.gguf)(?:[._-][A-Za-z0-9-]{1,24})?"
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Spec(NamedTuple):
    """One parsed SPEC; ``None`` marks a part that was not given.

    ``repo`` is a repo_id when it holds a slash and a catalog alias otherwise. ``file`` is a path in
    the repo in place of a label. ``path`` is a file or folder on disk instead of all of them.
    """

    repo: str | None = None
    revision: str | None = None
    label: str | None = None
    path: str | None = None
    file: str | None = None


def parse_spec(text: str) -> Spec:
    """Read ``[REPO[@REVISION]][:LABEL]``; a word that begins as a label does is one.

    ``OWNER/REPO:PATH.gguf`` names a file of a repo.
    What begins as a path does (``./``, ``../``, ``/``, ``~``), or ends in ``.gguf``, is a path.
    Raises UsageError when a part holds characters that no Hub name can have.
    """
    named = re.fullmatch(rf"({_REPO_ID})(?:@({_REVISION}))?:(.+{_GGUF})", text)
    if named:
        return Spec(named.group(1), _revision(text, named.group(2)), file=named.group(3))
    if text.lower().endswith(".gguf"):
        return Spec(path=text)
    if re.match(_PATH_LIKE, text):
        named = re.fullmatch(rf"(.+):({_LABEL})", text)
        path, label = named.groups() if named else (text, None)
        return Spec(path=path, label=label)
    target, colon, label = text.strip().partition(":")
    if not colon and re.match(_LABEL_LIKE, target):
        return Spec(label=target)
    repo, at, revision = target.partition("@")
    if not _is_repo(repo) or (colon and not re.fullmatch(_LABEL, label)):
        raise _unreadable(text)
    return Spec(repo, _revision(text, revision if at else None), label or None)


def is_repo_id(text: str) -> bool:
    """Whether a text has the form ``OWNER/REPO`` that the Hub allows."""
    return re.fullmatch(_REPO_ID, text) is not None and "--" not in text and ".." not in text


def _is_repo(text: str) -> bool:
    return is_repo_id(text) or re.fullmatch(_ALIAS, text) is not None


def is_revision(text: str) -> bool:
    """Whether a text may name a branch, a tag or a commit."""
    return re.fullmatch(_REVISION, text) is not None and ".." not in text and "//" not in text


def _revision(text: str, revision: str | None) -> str | None:
    if revision is None or is_revision(revision):
        return revision
    raise _unreadable(text)


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"cannot read {text!r} as a repo or quant",
        "write OWNER/REPO, OWNER/REPO:LABEL, OWNER/REPO:PATH.gguf, ALIAS:LABEL or LABEL, "
        "for example bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Q4_K_M",
    )
