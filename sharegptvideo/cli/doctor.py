"""`sharegptvideo doctor`: what is installed, what is missing, how to mend it."""

from __future__ import annotations

import typer

from sharegptvideo.cli._common import JsonOption, print_json

__all__ = ["doctor"]


def doctor(json: JsonOption = False) -> None:
    """Check the installation: cores, packages, video reading, GPU, endpoint, cache, disk.

    Exits with 1 if something is missing that the package cannot do without.

    Example: [bold]sharegptvideo doctor --json[/bold]
    """
    from sharegptvideo.checkup import core_figures, examine

    findings = examine()
    healthy = all(finding.ok for finding in findings if finding.needed)
    if json:
        print_json(
            {
                "ok": healthy,
                "cores": core_figures(),
                "findings": [finding.as_dict() for finding in findings],
            }
        )
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            word, colour = ("ok     ", "green") if finding.ok else ("absent ", "yellow")
            if finding.needed and not finding.ok:
                word, colour = "MISSING", "red"
            typer.echo(f"{typer.style(word, fg=colour)}  {finding.name:<{width}}  {finding.found}")
            if not finding.ok and finding.mend:
                typer.echo(f"{'':<{width + 9}}  mend: {finding.mend}")
    if not healthy:
        raise typer.Exit(1)
