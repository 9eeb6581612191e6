"""`letsam audit`: what is wrong with the validation data of a task."""

from __future__ import annotations

from letsam.cli import options
from letsam.cli.commands import app, print_findings
from letsam.cli.guidance import EXAMPLES
from letsam.cli.terminal import print_line
from letsam.languages import check_language

__all__ = ["audit_command"]


@app.command("audit", epilog=EXAMPLES["audit"])
@options.takes(options.AuditArguments, options.DataArguments)
def audit_command(asked: options.AuditArguments, data: options.DataArguments) -> int:
    """Examine the validation data of a task. Exit status: 1 where there is an error, 0 with warnings alone.

    The training data are split as for a trial with this seed. With a folder of a trial as --out, its report gets the
    audit.
    """
    from letsam.cli.auditing_task import add_audit, audit_config, audit_of, check_same_data, save_audit

    check_language(asked.language)
    config = audit_config(asked, data)
    into = asked.out if asked.out is not None and asked.out.is_dir() else None
    task = config.load_task()
    if into is not None:
        check_same_data(into, task)
    found = audit_of(config, task)
    if into is not None:
        add_audit(found, into, config, asked.language)
    elif asked.out is not None:
        save_audit(found, asked.out)
    if not found:
        print("nothing is wrong")
    else:
        print_findings(found)
    for sentence in found.untold:
        print_line(f"note: {sentence}")
    if into is not None:
        print_line(f"report: {into / 'report.html'}")
    return int(any(finding.severity == "error" for finding in found))
