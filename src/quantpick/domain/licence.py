"""The licence of a model's weights: its notice, in the words the licence asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from quantpick.domain.plan import Plan


class Licence(NamedTuple):
    """``licence_id`` is the Hub's (None where the repo states none).

    ``notice`` is the line the licence asks to keep, ``duty`` what passing copies on asks for and
    ``limits`` what it does not allow.
    """

    licence_id: str | None
    name: str
    notice: str | None = None
    duty: str | None = None
    limits: str | None = None


#: What stands where the repo states no licence, or one that is not known here.
_NOT_STATED = "Nothing says what is allowed: read the card of the base model before you use it."
_UNKNOWN = "This licence is not known here: read its text before you use the model or pass it on."


def notice_name(repo_id: str) -> str:
    """Return the name of the notice file for a repo's models, unique to the repo."""
    return f"NOTICE-{repo_id.replace('/', '--')}.txt"


def notice_text(plan: Plan, base_model: str | None, licence: Licence) -> str:
    """Return the notice written beside a model: where it came from and on what terms."""
    lines = [
        f"Model files from {plan.repo_id} on the Hugging Face Hub, commit {plan.revision}.",
        f"Base model: {base_model or 'not stated'}.",
        f"Licence: {licence.name}"
        + (f" ({licence.licence_id})." if licence.licence_id else " by the repo."),
    ]
    unknown = _UNKNOWN if licence.licence_id else _NOT_STATED
    duties = [licence.notice, licence.duty or unknown, licence.limits]
    return "\n".join([*lines, *(text for text in duties if text)]) + "\n"
