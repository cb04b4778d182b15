"""``quantpick catalog``: the commands that keep the catalog true."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from quantpick.cli.options import Json, Retries, read_policy
from quantpick.errors import UsageError

app = typer.Typer(
    help="Keep the catalog true: add repos, compare, check.\n\nChanges are "
    "printed, and written with --write alone; --json prints one document.",
    rich_markup_mode=None,
)

Write = Annotated[
    bool, typer.Option("--write", help="Write it into the catalog; without, nothing is written.")
]
Aliases = Annotated[
    list[str] | None,
    typer.Option("--alias", metavar="NAME", help="Give the repo a short name; repeat for more."),
]


@app.command()
def add(
    spec: Annotated[str, typer.Argument(metavar="REPO[@REV]")],
    *,
    write: Write = False,
    alias: Aliases = None,
    retries: Retries = 4,
    as_json: Json = False,
) -> None:
    """Show the entry of a repo as the Hub lists it now, held against the one that is there.

    Sizes are exact, and the model's figures are read from the header of one file.
    """
    from quantpick.api.curate import propose_repo
    from quantpick.cli.catalog_output import finish

    check_flags(alias, write=write)
    proposal = propose_repo(spec, policy=read_policy(1, retries))
    finish(proposal, alias or [], write=write, as_json=as_json)


@app.command("import")
def import_card(
    card: Annotated[Path, typer.Argument(metavar="CARD.md")],
    *,
    repo: Annotated[
        str, typer.Option("--repo", metavar="OWNER/REPO", help="The repo that the card is of.")
    ],
    write: Write = False,
    alias: Aliases = None,
    as_json: Json = False,
) -> None:
    """Show the entry of a repo with what the table of its published model card says.

    Its sizes are rounded, so those that are known better stay. The Hub is not asked.
    """
    from quantpick.api.curate import propose_card
    from quantpick.cli.catalog_output import finish

    check_flags(alias, write=write)
    finish(propose_card(card, repo), alias or [], write=write, as_json=as_json)


@app.command()
def refresh(
    repos: Annotated[list[str] | None, typer.Argument(metavar="[REPO]...")] = None,
    *,
    write: Write = False,
    connections: Annotated[
        int, typer.Option("--connections", metavar="N", min=1, max=64, help="Repos asked at once.")
    ] = 8,
    retries: Retries = 4,
    as_json: Json = False,
) -> None:
    """Compare the catalogued repos, or the named ones, with the Hub: one line a change.

    What a run has found when it is stopped is kept for a day, and the same command goes on there.
    """
    from quantpick.api import refresh as use_case
    from quantpick.cli.catalog_output import print_refresh

    repo_ids = use_case.catalogued(repos or [])
    policy = read_policy(connections, retries)
    with closing(use_case.refresh(repo_ids, write=write, policy=policy)) as found:
        print_refresh(found, len(repo_ids), write=write, as_json=as_json)


@app.command()
def check(
    *,
    stats: Annotated[
        bool, typer.Option("--stats", help="Also count what is there and what is known of it.")
    ] = False,
    write_index: Annotated[
        bool, typer.Option("--write-index", help="Make the index of the catalog anew first.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check every row of the catalog in use, and print each fault with its file and row."""
    from quantpick.api import audit
    from quantpick.cli.catalog_output import print_check
    from quantpick.domain.catalog_stats import Tally

    if write_index:
        audit.make_index()
    tally = Tally()
    print_check(list(audit.check_catalog(tally)), tally, stats=stats, as_json=as_json)


def check_flags(aliases: list[str] | None, *, write: bool) -> None:
    """Raise UsageError for a short name that would be lost."""
    if aliases and not write:
        raise UsageError("--alias is for what is written", "add --write, or leave it out")
