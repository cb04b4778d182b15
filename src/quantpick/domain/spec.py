"""What the user names: ``OWNER/REPO@REVISION:LABEL``, an alias, or a quant label alone."""

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
_LABEL = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


class Spec(NamedTuple):
    """One parsed SPEC; ``None`` marks a part that was not given.

    ``repo`` is a repo_id when it holds a slash and a catalog alias otherwise.
    """

    repo: str | None = None
    revision: str | None = None
    label: str | None = None


def parse_spec(text: str) -> Spec:
    """Read ``[REPO[@REVISION]][:LABEL]``; a word that begins as a label does is one.

    Raises UsageError when a part holds characters that no Hub name can have.
    """
    target, colon, label = text.strip().partition(":")
    if not colon and re.match(_LABEL_LIKE, target):
        return Spec(label=target)
    repo, at, revision = target.partition("@")
    if not _is_repo(repo) or (colon and not re.fullmatch(_LABEL, label)):
        raise _unreadable(text)
    if at and (not re.fullmatch(_REVISION, revision) or ".." in revision):
        raise _unreadable(text)
    return Spec(repo=repo, revision=revision or None, label=label or None)


def is_repo_id(text: str) -> bool:
    """Whether a text has the form ``OWNER/REPO`` that the Hub allows."""
    return re.fullmatch(_REPO_ID, text) is not None and "--" not in text and ".." not in text


def _is_repo(text: str) -> bool:
    return is_repo_id(text) or re.fullmatch(_ALIAS, text) is not None


def _unreadable(text: str) -> UsageError:
    return UsageError(
        f"cannot read {text!r} as a repo or quant",
        "write OWNER/REPO, OWNER/REPO:LABEL, ALIAS:LABEL or LABEL, "
        "for example bartowski/Meta-Llama-3.1-70B-Instruct-GGUF:Q4_K_M",
    )
