"""The command line: ``sextant``, and the same as ``python -m pipelines``."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pipelines.errors import EXIT_INTERRUPTED, SextantError, UsageError

if TYPE_CHECKING:
    from pipelines.project import Project


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code.

    0 done; 1 a stage failed; 2 bad spec or usage; 3 a contract or the drift gate stopped the run;
    130 interrupted.
    """
    options = _parser().parse_args(arguments)
    try:
        code: int = options.command(options)
        return code
    except SextantError as error:
        print(error, file=sys.stderr)
        if error.next_command:
            print(f"\nNext: {error.next_command}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("\nInterrupted. Finished stages are kept; the same command goes on.", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # the reader of our output went away, as `head` does
        sys.stderr.close()
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sextant",
        description="A recommender pipeline declared in YAML and run as a DAG.",
        epilog="PIPELINE is a name under configs/pipelines/ or a path; without one, `demo`.",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    def command(name: str, function: Any, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(command=function)
        return added

    def pipeline(added: argparse.ArgumentParser, *, at: bool = False) -> argparse.ArgumentParser:
        added.add_argument("pipeline", nargs="?", default="demo", metavar="PIPELINE")
        _settings(added)
        if at:
            added.add_argument(
                "--at", metavar="T", help="end of the interval, such as 2026-02-02T00:00Z"
            )
        return added

    lint = command("lint", _lint, "explain every mistake of every spec and contract")
    lint.add_argument("pipelines", nargs="*", metavar="PIPELINE")
    lint.add_argument("--json", action="store_true", help="print the problems as JSON")

    plan = pipeline(command("plan", _plan, "show what would run, and why; runs nothing"), at=True)
    plan.add_argument("--select", metavar="SEL", help="`features+`, `+gate`, `train_gnn`, ...")
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")

    run = pipeline(
        command("run", _run, "run the whole DAG, or a selection, for one interval"), at=True
    )
    run.add_argument("--select", metavar="SEL", help="`features+`, `+gate`, `train_gnn`, ...")
    run.add_argument("--json", action="store_true", help="print the summary as JSON")

    stage = command("stage", _stage, "run one stage, whether or not it is up to date")
    stage.add_argument("pipeline", metavar="PIPELINE")
    stage.add_argument("stage", metavar="STAGE")
    stage.add_argument("--at", metavar="T", help="end of the interval")
    stage.add_argument("--json", action="store_true", help="print the record as JSON")
    _settings(stage)

    backfill = pipeline(command("backfill", _backfill, "run missing intervals, oldest first"))
    backfill.add_argument("--from", dest="start", required=True, metavar="T1")
    backfill.add_argument("--to", dest="end", required=True, metavar="T2")

    graph = pipeline(command("graph", _graph, "draw the DAG"))
    graph.add_argument("--format", choices=("text", "mermaid", "dot"), default="text")

    recommend = pipeline(
        command("recommend", _recommend, "show the published candidates of a user")
    )
    recommend.add_argument("user", metavar="USER")
    recommend.add_argument("--k", type=int, default=10)
    recommend.add_argument("--json", action="store_true")

    report = pipeline(command("report", _report, "runs so far: metrics, verdicts, drift, cost"))
    report.add_argument("--json", action="store_true")

    probe = pipeline(
        command("probe", _probe, "find columns that know the future, in sources and features"),
        at=True,
    )
    probe.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="TABLE.COLUMN",
        help="pass over a column, such as items.price; repeatable",
    )
    probe.add_argument("--json", action="store_true", help="print what was found as JSON")

    describe = command("describe", _describe, "options of a stage, model, source or contract rule")
    describe.add_argument("name", nargs="?", metavar="NAME")

    command("schema", _schema, "print the JSON Schema of the spec")

    render = command("render", _render, "write what is made from specs and definitions")
    render.add_argument("target", choices=("dvc", "features"), help="dvc.yaml, or docs/features.md")

    up = command("up", _up, "start Airflow, MLflow and Evidently on this machine")
    for name, port in (("airflow", 8080), ("mlflow", 5000), ("evidently", 8000)):
        up.add_argument(f"--{name}-port", type=int, metavar="PORT", help=f"else {port}")
    up.add_argument("--workers", type=int, metavar="N", help="warm processes for stages; else 2")
    up.add_argument("--env", metavar="NAME", help="environment of the stages; else local")
    command("down", _down, "end what `up` started")
    airflow = command("airflow", _airflow, "Airflow's own command line, on the Airflow of `up`")
    airflow.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...")
    pool = command("pool", _pool, "keep warm processes that run stages; `up` starts it")
    pool.add_argument("--workers", type=int, default=2, metavar="N")
    pool.add_argument("--worker", metavar="SOCKET", help="be one of them")
    return parser


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--env", default="local", metavar="NAME", help="configs/environments/NAME.yaml"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a value of the spec, such as candidates.k=20; repeatable",
    )


def _project(options: argparse.Namespace) -> Project:
    from pipelines.project import Project

    return Project.load(options.pipeline, env=options.env, sets=options.sets)


def _lint(options: argparse.Namespace) -> int:
    from pipelines.errors import SpecError
    from pipelines.lint import lint
    from pipelines.project import find_root

    problems = lint(options.pipelines, root=find_root())
    if options.json:
        print(json.dumps([problem.__dict__ for problem in problems], indent=2, default=str))
    elif problems:
        raise SpecError(problems)
    else:
        print("No problems found.")
    return SpecError.exit_code if problems else 0


def _plan(options: argparse.Namespace) -> int:
    from pipelines.graph import select
    from pipelines.runner import Runner
    from pipelines.targets.text import plan_text

    project = _project(options)
    with Runner(project, _progress) as runner:
        interval = runner.interval(options.at)
        decisions = runner.planner(interval).plan(select(project.steps, options.select))
        versions = {
            table: runner.lake.version(table)
            for table in dict.fromkeys(t for d in decisions for t in d.step.reads)
        }
    if options.json:
        print(
            json.dumps(
                {
                    "pipeline": project.pipeline.pipeline,
                    "interval_end": interval.end_text,
                    "tables": versions,
                    "steps": [
                        {"step": d.step.name, "runs": d.runs, "reason": d.reason} for d in decisions
                    ],
                },
                indent=2,
            )
        )
    else:
        print(plan_text(project, interval, decisions, versions))
    return 0


def _run(options: argparse.Namespace) -> int:
    from pipelines.graph import select
    from pipelines.runner import Runner
    from pipelines.summary import summarise, summary_text

    project = _project(options)
    with Runner(project, _progress) as runner:
        steps = select(project.steps, options.select)
        interval = runner.interval(options.at)
        _progress(f"{project.pipeline.pipeline}: interval {interval}")
        outcome = runner.run(steps, interval)
        summary = summarise(project, runner, interval, outcome)
    print(json.dumps(summary, indent=2, default=str) if options.json else summary_text(summary))
    for error in outcome.failures.values():
        raise error
    return 0


def _stage(options: argparse.Namespace) -> int:
    from pipelines.graph import select
    from pipelines.plan import Decision
    from pipelines.runner import Runner

    project = _project(options)
    chosen = select(project.steps, options.stage.strip("+"))
    if len(chosen) != 1:
        raise UsageError(
            f"`{options.stage}` is a group of stages. Write one of them: "
            f"{', '.join(step.name for step in chosen)}"
        )
    try:
        with Runner(project, _progress) as runner:
            interval = runner.interval(options.at)
            done = runner.run_stage(chosen[0], interval)
    except SextantError as error:
        if options.json:
            print(json.dumps({"status": "failed", "message": str(error)}))
        raise
    if options.json:
        found = {"stage": chosen[0].name, "interval_end": interval.end_text}
        if isinstance(done, Decision):
            found |= {"status": "not due", "message": done.reason}
        else:
            facts = ("status", "message", "rows_in", "rows_out", "seconds", "detail")
            found |= {name: getattr(done, name) for name in facts}
        print(json.dumps(found, default=str))
    return 0


def _backfill(options: argparse.Namespace) -> int:
    from pipelines.intervals import intervals_between, parse_moment
    from pipelines.runner import Runner

    project = _project(options)
    intervals = intervals_between(
        parse_moment(options.start, "--from"),
        parse_moment(options.end, "--to"),
        project.pipeline.schedule.every,
    )
    failures: list[SextantError] = []
    with Runner(project, _progress) as runner:
        for number, interval in enumerate(intervals, start=1):
            _progress(
                f"{project.pipeline.pipeline}: interval {number} of {len(intervals)}, {interval}"
            )
            failures += runner.run(project.steps, interval).failures.values()
    for error in failures:
        raise error
    print(
        f"{len(intervals)} intervals are complete, up to {intervals[-1].end_text}.\n"
        f"Next: {project.command('report', None)}"
    )
    return 0


def _graph(options: argparse.Namespace) -> int:
    from pipelines.targets.text import graph_text

    print(graph_text(_project(options).steps, options.format))
    return 0


def _recommend(options: argparse.Namespace) -> int:
    from pipelines.summary import recommendations, recommendations_text

    project = _project(options)
    rows = recommendations(project, options.user, options.k)
    print(
        json.dumps(rows, indent=2, default=str)
        if options.json
        else recommendations_text(options.user, rows)
    )
    return 0


def _report(options: argparse.Namespace) -> int:
    from pipelines.summary import report, report_text

    project = _project(options)
    found = report(project)
    print(json.dumps(found, indent=2, default=str) if options.json else report_text(found))
    return 0


def _probe(options: argparse.Namespace) -> int:
    from pipelines.errors import ContractError
    from pipelines.probe import probe
    from pipelines.probe_report import probe_json, probe_text
    from pipelines.runner import Runner

    project = _project(options)
    with Runner(project, _progress) as runner:
        result = probe(project, runner, runner.interval(options.at), allowed=options.allow)
    print(
        json.dumps(probe_json(project, result), indent=2)
        if options.json
        else probe_text(project, result)
    )
    return ContractError.exit_code if result.findings else 0


def _describe(options: argparse.Namespace) -> int:
    from pipelines.describe import describe
    from pipelines.project import find_root

    print(describe(options.name, root=find_root()))
    return 0


def _schema(_: argparse.Namespace) -> int:
    from pipelines.describe import schema_text

    print(schema_text(), end="")
    return 0


def _render(options: argparse.Namespace) -> int:
    from pipelines.project import find_root

    root = find_root()
    if options.target == "dvc":
        from pipelines.targets.dvc import render

        target, text = root / "dvc.yaml", render(root)
    else:
        from pipelines.targets import features

        target, text = root / "docs" / "features.md", features.render()
    target.parent.mkdir(exist_ok=True)
    target.write_text(text)
    print(f"Wrote {os.path.relpath(target)}.")
    return 0


def _up(options: argparse.Namespace) -> int:
    from pipelines.project import find_root
    from pipelines.services import Services

    names = ("airflow", "mlflow", "evidently")
    given = {name: getattr(options, f"{name}_port") for name in names}
    ports = {name: port for name, port in given.items() if port is not None}
    services = Services.wanted(find_root(), options.env, ports, options.workers)
    print(services.up(_progress))
    return 0


def _down(_: argparse.Namespace) -> int:
    from pipelines.project import find_root
    from pipelines.services import Services

    ended = Services(find_root()).down(_progress)
    print("Everything has ended." if ended else "Nothing was running.")
    return 0


def _airflow(options: argparse.Namespace) -> int:
    from pipelines.project import find_root
    from pipelines.services import Services

    return Services.last(find_root()).airflow(options.arguments)


def _pool(options: argparse.Namespace) -> int:
    from pipelines.pool import keep_workers, work

    if options.worker is None:
        keep_workers(options.workers)
    else:
        work(options.worker, main)
    return 0


def _progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
