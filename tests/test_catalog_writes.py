"""What ``quantpick catalog add`` and ``import`` write: beside the entry, and over what is known."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from tests.support.catalogs import REPO, Shop, files, known, named, row, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.hub.loopback import LoopbackHub
    from tests.support.command import Command, Result

OTHER = "someone/Other-GGUF"


def card(online: Command, *rows: str) -> Path:
    path = online.cwd / "card.md"
    path.write_text("\n".join(["| Filename | Size |", "|-|-|", *rows]), "utf-8")
    return path


def succeeds(result: Result) -> Result:
    assert result.status == 0, result.stdout + result.stderr
    return result


def test_index_that_a_killed_run_left_behind_is_made_anew(
    online: Command, hub: LoopbackHub
) -> None:
    hub.add_repo(REPO, files("Q8_0", "Q4_K_M"))
    shop = Shop(online, known("Q8_0"))
    succeeds(shop.online("catalog", "check", "--write-index"))
    before = (shop.catalog / "index.json").read_text("utf-8")
    for _ in range(2):
        succeeds(shop.online("catalog", "add", REPO, "--write"))
        succeeds(shop.online("catalog", "check"))
        (shop.catalog / "index.json").write_text(before, "utf-8")


def test_repo_without_an_entry_gets_no_short_name(online: Command) -> None:
    shop = Shop(online, known("Q8_0"))
    unread = str(card(online, "| x-Q4_K_M.gguf | big |"))
    done = shop.online("catalog", "import", unread, "--repo", OTHER, "--write", "--alias", "short")
    assert done.status == 3
    assert f"nothing of {OTHER} to catalogue" in done.stderr
    succeeds(shop.online("catalog", "check"))


def test_runs_at_the_same_time_lose_nothing_of_each_other(online: Command) -> None:
    shop = Shop(online, known("Q8_0"))
    succeeds(shop.online("catalog", "check", "--write-index"))
    given = str(card(online, "| x-Q4_K_M.gguf | 4GB |"))
    names = [f"name-{number}" for number in range(6)]
    with ThreadPoolExecutor(len(names)) as pool:
        lines = [
            ("catalog", "import", given, "--repo", f"o/{name}", "--write", "--alias", name)
            for name in names
        ]
        for done in pool.map(lambda line: shop.online(*line), lines):
            succeeds(done)
    aliases = (shop.catalog / "aliases.json").read_text("utf-8")
    assert [name for name in names if f'"{name}"' not in aliases] == []
    succeeds(shop.online("catalog", "check"))
    assert list(shop.catalog.glob(".*")) == []


def test_finer_size_of_the_same_file_takes_neither_its_digest_nor_its_words(
    online: Command,
) -> None:
    q8, q4 = "1" * 64, "2" * 64
    shop = Shop(
        online,
        row("Q8_0", 8_500_000_000, rounded_to=10**8, sha256=[q8], recommended=False),
        row("Q4_K_M", 4_000_000_000, rounded_to=10**8, sha256=[q4]),
    )
    finer = card(online, f"| {named('Q8_0')} | 8.54GB |", f"| {named('Q4_K_M')} | 4.92GB |")
    done = succeeds(shop.online("catalog", "import", str(finer), "--repo", REPO, "--write"))
    found = rows_of(shop.catalog)
    assert found["Q8_0"]["bytes"] == 8_540_000_000
    assert (found["Q8_0"]["sha256"], found["Q8_0"]["recommended"]) == ([q8], False)
    # Another size than the known one allows: another file, of which no digest is known.
    assert "sha256" not in found["Q4_K_M"]
    assert "now exact" not in done.stdout


def test_short_name_is_told_where_nothing_else_is_new(online: Command, hub: LoopbackHub) -> None:
    hub.add_repo(REPO, files("Q8_0"))
    shop = Shop(online, known("Q8_0"))
    succeeds(shop.online("catalog", "add", REPO, "--write"))
    done = succeeds(shop.online("catalog", "add", REPO, "--write", "--alias", "tiny"))
    assert done.stdout.splitlines() == [f"{REPO}: nothing new", "short for it: tiny"]
    assert '"tiny"' in (shop.catalog / "aliases.json").read_text("utf-8")
