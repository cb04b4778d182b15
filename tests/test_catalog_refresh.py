"""``quantpick catalog refresh``: every kind of change is told in a line, and written on demand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.catalogs import (
    REPO,
    Shop,
    entry,
    files,
    get,
    known,
    named,
    put,
    row,
    rows_of,
    sha256,
    tiny_llama,
)

if TYPE_CHECKING:
    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command

COMMIT = "a1" * 20
Q4, Q8 = tiny_llama("Q4_K_M"), tiny_llama("Q8_0")
ABOUT: Any = {"license": "apache-2.0", "base_model": "someone/Tiny-Llama"}


# Each kind of change


def test_entry_that_the_hub_bears_out_stays_byte_for_byte(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, files("Q4_K_M", "Q8_0"), **ABOUT)
    shop = Shop(online, known("Q8_0"), known("Q4_K_M", recommended=True))
    before = shop.text()
    done = shop("--write")
    assert done.stdout == "1 repo: 1 as catalogued, 0 changed\n"
    assert shop.text() == before


CHANGES: dict[str, tuple[list[dict[str, Any]], list[str], str]] = {
    "a new file": (
        [known("Q8_0")],
        [rf"\+ Q4_K_M  {len(Q4)} bytes  {named('Q4_K_M')}, sha256 known"],
        "1 new",
    ),
    "a file that is gone": (
        [known("Q8_0"), known("Q4_K_M"), row("Q2_K", 500_000)],
        [rf"- Q2_K  500000 bytes  {named('Q2_K')}"],
        "1 gone",
    ),
    "a size that became exact": (
        [known("Q8_0"), known("Q4_K_M", bytes=900_000, rounded_to=10_000)],
        [rf"~ Q4_K_M  size now exact: ~0.90 MB \(in steps of 0.01 MB\) -> {len(Q4)} bytes"],
        "1 now exact",
    ),
    "a rounded size that was another": (
        [known("Q8_0"), known("Q4_K_M", bytes=1_000_000, rounded_to=10_000)],
        [rf"~ Q4_K_M  size ~1.00 MB \(in steps of 0.01 MB\) -> {len(Q4)} bytes"],
        "1 of another size",
    ),
    "a file of another size and digest": (
        [known("Q8_0"), known("Q4_K_M", bytes=900_001, sha256=["0" * 64])],
        [rf"~ Q4_K_M  size 900001 bytes -> {len(Q4)} bytes", r"~ Q4_K_M  sha256 0{12} -> \w{12}"],
        "1 of another size, 1 with another or a new sha256",
    ),
    "a digest that became known": (
        [known("Q8_0"), row("Q4_K_M", len(Q4))],
        [rf"~ Q4_K_M  sha256 unknown -> {sha256(Q4)[:12]}"],
        "1 with another or a new sha256",
    ),
    "a file that was renamed": (
        [known("Q8_0"), known("Q4_K_M", paths=["old-Q4_K_M.gguf"])],
        [r"~ Q4_K_M  files \['old-Q4_K_M.gguf'\] -> \['Tiny-Llama-Q4_K_M.gguf'\]"],
        "1 renamed",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_change_is_told_in_a_line_and_written_on_demand(
    name: str, online: Command, hub: LoopbackHub
) -> None:
    rows, wanted, counted = CHANGES[name]
    hub.add_repo(REPO, files("Q8_0", "Q4_K_M"), **ABOUT)
    shop = Shop(online, *rows)
    before = shop.text()
    told = shop.lines()
    assert len(told) == len(wanted)
    assert [
        line for line, words in zip(told, wanted, strict=True) if not re.match(words, line)
    ] == []
    assert shop.text() == before
    done = shop("--write")
    assert f"1 changed; files: {counted} (written)" in done.stdout
    found = rows_of(shop.catalog)
    assert {label: found[label]["bytes"] for label in found} == {
        "Q8_0": len(Q8),
        "Q4_K_M": len(Q4),
    }
    assert found["Q4_K_M"]["sha256"] == [sha256(Q4)]
    assert (found["Q4_K_M"]["paths"], "rounded_to" in found["Q4_K_M"]) == (
        [named("Q4_K_M")],
        False,
    )
    assert shop("--write").stdout == "1 repo: 1 as catalogued, 0 changed\n"
    shop.online("catalog", "check")


def test_row_that_changed_keeps_the_cards_words_and_names_its_source(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, files("Q8_0", "Q4_K_M"), sha=COMMIT, **ABOUT)
    said = known("Q4_K_M", bytes=900_000, rounded_to=10_000, recommended=False)
    shop = Shop(online, known("Q8_0"), said)
    shop("--write")
    document = get(shop.catalog)
    changed, same = rows_of(shop.catalog)["Q4_K_M"], rows_of(shop.catalog)["Q8_0"]
    assert (changed["recommended"], changed["source"]) == (False, "listing")
    assert COMMIT in document["sources"]["listing"]
    assert (same["source"], same["seen"]) == ("card", "2025-01-31")


def test_what_was_written_is_what_list_shows(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q8_0", "Q4_K_M", "IQ4_XS"), **ABOUT)
    shop = Shop(online, known("Q8_0"))
    shop("--write")
    shown = shop.online("list", "tiny", "--json").json["files"]
    assert {one["label"]: one["file_bytes"] for one in shown} == {
        label: len(tiny_llama(label)) for label in ("Q8_0", "Q4_K_M", "IQ4_XS")
    }
    assert all(one["exact"] and one["sha256"] for one in shown)
    (listed,) = shop.online("list", "--json").json["models"]
    assert set(listed["labels"]) == {"Q8_0", "Q4_K_M", "IQ4_XS"}


def test_shape_that_became_known_tells_where_the_bytes_go(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, files("Q8_0"), **ABOUT)
    shop = Shop(online, known("Q8_0"))
    assert shop.lines() == []
    told = shop.online("catalog", "add", REPO).stdout.splitlines()
    assert f"~ {REPO}  Q8_0  where its bytes go is known" in told
    assert f"+ {REPO}  shape.architecture: llama" in told


def test_licence_that_changed_is_told(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q8_0"), license="mit")
    shop = Shop(online, known("Q8_0"))
    assert shop.lines("--write") == ["~ license: apache-2.0 -> mit"]
    assert get(shop.catalog)["license"] == "mit"


@pytest.mark.parametrize("nothing", ["   ", "x" * 100_000])
def test_licence_that_is_none_is_not_taken_over(
    nothing: str, online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, files("Q8_0"), license=nothing)
    shop = Shop(online, known("Q8_0"))
    assert shop.lines("--write") == []
    assert get(shop.catalog)["license"] == "apache-2.0"


def test_name_that_the_terminal_cannot_show_is_spelt_out(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {**files("Q8_0"), "T\u00efny-Q4_K_M.gguf": Q4}, **ABOUT)
    shop = Shop(online, known("Q8_0"))
    done = shop.online("catalog", "refresh", PYTHONIOENCODING="ascii")
    assert done.status == 0, done.stderr
    assert "T\\xefny-Q4_K_M.gguf" in done.stdout


def test_document_holds_the_same(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q8_0", "Q4_K_M"), **ABOUT)
    shop = Shop(online, known("Q8_0"))
    document = shop("--json").json
    (repo,) = document["repos"]
    assert (repo["repo_id"], repo["state"]) == (REPO, "changed")
    (new,) = [one for one in repo["changes"] if one["kind"] == "new"]
    assert (new["what"], new["now"]["bytes"], new["now"]["sha256"]) == (
        "Q4_K_M",
        len(Q4),
        [sha256(Q4)],
    )
    assert document["counts"]["repos"] == {
        "all": 1,
        "same": 0,
        "changed": 1,
        "gone": 0,
        "failed": 0,
    }
    assert document["counts"]["changes"]["new"] == 1


# What is not taken over


def test_repo_that_is_gone_keeps_its_entry(online: Command, hub: LoopbackHub) -> None:
    shop = Shop(online, known("Q8_0"))
    before = shop.text()
    done = shop("--write")
    assert done.stdout.startswith(f"- {REPO}  its entry stays, but the Hub has no repo {REPO}")
    assert "1 gone" in done.stdout
    assert shop.text() == before
    assert hub.requests("hub")


def test_half_a_split_set_is_no_reason_to_drop_the_row(online: Command, hub: LoopbackHub) -> None:
    names = [f"Tiny-Llama-Q8_0-0000{n}-of-00002.gguf" for n in (1, 2)]
    hub.add_repo(REPO, {**files("Q4_K_M"), names[0]: b"half"}, **ABOUT)
    shop = Shop(online, known("Q8_0", paths=names, sha256=["1" * 64, "2" * 64]), known("Q4_K_M"))
    before = shop.text()
    assert shop.lines("--write") == ["! Q8_0 is not whole there now: kept as it was"]
    assert shop.text() == before


def test_file_too_small_for_its_label_is_not_taken_over(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, {named("Q8_0"): Q8[:200_000]}, **ABOUT)
    shape = {
        "architecture": "llama",
        "parameters": 1_443_072,
        **dict.fromkeys(("block_count", "head_count", "head_count_kv", "key_length"), 2),
        **dict.fromkeys(("value_length", "embedding_length", "feed_forward_length"), 256),
        **dict.fromkeys(("vocab_size", "context_length"), 512),
    }
    shop = Shop(online, known("Q8_0"))
    document = get(shop.catalog)
    document = {
        **{k: v for k, v in document.items() if k not in {"sources", "files"}},
        "shape": shape,
        "sources": document["sources"],
        "files": document["files"],
    }
    put(shop.catalog, REPO, document)
    before = shop.text()
    (line,) = shop.lines("--write")
    assert line.startswith(
        "! Q8_0 is kept as it was, for what is there now breaks a rule: 1.11 bits"
    )
    assert shop.text() == before


def test_sizes_out_of_order_are_taken_over_and_said_so(online: Command, hub: LoopbackHub) -> None:
    wrong = {named("Q5_K_M"): b"x" * 300_000, named("Q4_K_M"): b"x" * 400_000}
    hub.add_repo(REPO, {**files("Q8_0"), **wrong}, **ABOUT)
    shop = Shop(online, known("Q8_0"))
    said = "Q4_K_M is larger than Q5_K_M"
    assert f"! quantpick catalog check will say: {said}" in shop.lines("--write")
    assert shop.online("catalog", "check").stdout == f"models/{REPO}.json, files: {said}\n"


def test_hostile_listing_writes_nothing_to_the_terminal_or_outside(
    online: Command, hub: LoopbackHub
) -> None:
    evil = {"../../evil-Q4_K_M.gguf": Q4, "x\x1b[31m-Q5_K_M.gguf": Q4, "C:\\x-Q6_K.gguf": Q4}
    hub.add_repo(REPO, {**files("Q8_0"), **evil}, license="\x1b]0;evil\x07")
    shop = Shop(online, known("Q8_0"))
    done = shop("--write")
    assert "\x1b" not in done.stdout + done.stderr
    assert set(rows_of(shop.catalog)) == {"Q8_0"}
    written = {path.name for path in online.cwd.rglob("*evil*")}
    assert written == set()


def test_broken_entry_is_named_and_the_others_go_on(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q8_0", "Q4_K_M"), **ABOUT)
    hub.add_repo("someone/Broken-GGUF", files("Q8_0"))
    shop = Shop(online, known("Q8_0"))
    put(shop.catalog, "someone/Broken-GGUF", entry(row("Q8_0", 0)))
    done = shop(status=5)
    assert "! someone/Broken-GGUF  broken catalog: models/someone/Broken-GGUF.json" in done.stdout
    assert f"+ {REPO}  Q4_K_M" in done.stdout
    assert "1 of 2 repos could not be compared" in done.stderr


def test_entry_nested_without_end_is_broken(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q8_0"))
    shop = Shop(online, known("Q8_0"))
    path = shop.catalog / "models" / f"{REPO}.json"
    path.write_text("[" * 100_000, "utf-8")
    done = shop(status=5)
    assert f"! {REPO}  broken catalog: models/{REPO}.json: not valid JSON" in done.stdout


def test_repo_that_is_not_catalogued_is_not_found(online: Command, hub: LoopbackHub) -> None:
    shop = Shop(online, known("Q8_0"))
    done = shop("someone/Other-GGUF", status=3)
    assert "quantpick catalog add" in done.stderr
    assert hub.requests("hub") == []
