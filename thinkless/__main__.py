"""The command line: ``thinkless train --profile h100x4``; ``python -m thinkless`` is the same."""

import argparse
import gc
import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return the exit code: 0, or 1 after a line on standard error.

    Heavy imports wait until a command needs them, because worker processes import this module again.
    """
    # imports make a million objects that stay; looking for garbage among them takes a seventh of a start
    gc.set_threshold(100_000)
    options = parser().parse_args(arguments)
    if getattr(options, "owned", False):
        end_with_owner()
    from thinkless.errors import UserError

    try:
        options.run(options)
    except UserError as error:
        return _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        return _fail(f"cannot use {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        return _fail("interrupted; what was finished is kept, and the same command goes on")
    return 0


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 1


def parser() -> argparse.ArgumentParser:
    """The parser of every command; `run` of its result carries out the command that was given."""
    parser = argparse.ArgumentParser(
        prog="thinkless",
        description="Teach a language model when to think: run the method, use its models, make the book.",
        epilog="A profile (laptop, gpu, h100x4, ...) holds every setting of a run; --overrides changes some. "
        "Finished stages are kept in runs/ and not done again, so any command can be killed and repeated.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Any, help: str, *options: Any) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=help, description=f"{help[0].upper()}{help[1:]}.")
        added.set_defaults(run=run)
        for add in options:
            add(added)
        return added

    stage = command("stage", _stage, "run one stage, after the stages it needs", _run_options)
    stage.add_argument("name", help="such as base, distill, sft, rl-degrpo-0 or eval-rl-degrpo-0")
    stage.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)  # one of several processes
    stage.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)  # see end_with_owner
    command("train", _train, "run every stage of a profile, in order", _run_options)
    plan = command("plan", _plan, "say what a run takes: tokens, hours, memory, disk", _run_options)
    plan.set_defaults(profile="h100x4")  # the laptop world takes minutes and needs no plan
    plan.add_argument(
        "--gpu", help="h100, a100, rtx4090, ...; by default rtx4090 for one process, h100 for several"
    )
    plan.add_argument("--price", type=float, default=3.0, help="dollars per GPU and hour (default 3)")
    plan.add_argument(
        "--assume", type=json.loads, default={}, help="JSON, such as '{\"think_mean\": 9000}', in tokens"
    )
    chat = command("chat", _chat, "talk to a hybrid model; /help lists what you can change")
    chat.add_argument("model", help="a model folder, or a name on the hub")
    chat.add_argument(
        "--max-tokens", type=int, help="longest answer (default: that of its training, or 8192)"
    )
    chat.add_argument("--temperature", type=float, default=0.6)
    chat.add_argument("--top-p", type=float, default=0.95)
    chat.add_argument("--tolerance", type=float, default=0.0, help="nats added to the logit of <think>")
    export = command("export", _export, "copy a stage's model, with a card, to a folder", _run_options)
    export.add_argument("name", help="the stage, such as rl-degrpo-0")
    export.add_argument("folder", type=Path, help="where the model goes; must not exist yet")
    export.add_argument("--push-to-hub", metavar="USER/NAME", help="and to this repository of the hub")
    sweep = command("sweep", _sweep, "run a plan's grids of runs and record what they find")
    sweep.add_argument("--plan", default="evidence", help="evidence, arithmetic, pocket, or a YAML file")
    sweep.add_argument("--only", default="*", help="variants that match this pattern, such as 'alpha*'")
    sweep.add_argument("--runs-dir", type=Path, help="by default evidence/ of the book's runs")
    sweep.add_argument("--results", type=Path, help="where records go; by default where the plan says")
    sweep.add_argument("--workers", type=int, default=os.cpu_count(), help="processes, one core each")
    sweep.add_argument("--record-only", action="store_true", help="record what is finished, train nothing")
    asked = command("evaluate", _evaluate, "ask a finished model a benchmark, and record it", _run_options)
    asked.add_argument("name", help="the stage of the model, such as sft or rl-degrpo-0")
    asked.add_argument("benchmark", help="gsm8k, math_500, ...")
    asked.add_argument("--path", type=Path, help="its file or folder, instead of the hub")
    asked.add_argument("--limit", type=int, help="its first so many questions")
    asked.add_argument("--results", type=Path, help="where the record goes (default: results/PROFILE)")
    bench = command("bench", _bench, "say how fast a finished pipeline was, and record it", _run_options)
    bench.add_argument("--results", type=Path, help="where the record goes (default: results/ of the book)")

    book = command("book", None, "run the chapters and build the book")
    steps = book.add_subparsers(required=True, metavar="STEP", dest="step")
    run = steps.add_parser("run", help="execute the chapters that are not up to date")
    run.set_defaults(run=_book_run)
    _run_options(run)
    run.add_argument("--only", help="start of a chapter's file name, such as 06")
    run.add_argument("--timeout", type=int, help="seconds that one cell may take")
    build = steps.add_parser("build", help="build the HTML from executed chapters")
    build.set_defaults(run=_book_build)
    pdf = steps.add_parser("pdf", help="print executed chapters into one file, with Chromium or Chrome")
    pdf.set_defaults(run=_book_file)
    epub = steps.add_parser("epub", help="bind executed chapters for electronic readers, likewise")
    epub.set_defaults(run=_book_file)
    for step in (run, build, pdf, epub):
        step.add_argument("--root", type=Path, default=Path(), help="the book's folder (default: this one)")
    for step in (run, build):
        step.add_argument("--strict", action="store_true", help="fail if an expectation was missed")
    return parser


def _run_options(parser: argparse.ArgumentParser):
    """The four parameters that every chapter and every stage takes."""
    parser.add_argument("--profile", default="laptop", help="a profile's name or a YAML file")
    parser.add_argument("--seed", type=int, default=0, help="where all randomness starts (default 0)")
    parser.add_argument(
        "--runs-dir", default="", help="where stages keep their results (default: runs/ of this book)"
    )
    parser.add_argument(
        "--overrides", type=json.loads, default={}, help="JSON, such as '{\"rl.alpha\": 0.5}'"
    )


def _runner(options: argparse.Namespace):
    from thinkless.pipeline import pipeline

    return pipeline(options.profile, options.seed, options.overrides, options.runs_dir)


def _stage(options: argparse.Namespace):
    runner = _runner(options)
    if options.rank:
        runner.compute(options.name)
    else:
        print(runner.run(options.name))


def _train(options: argparse.Namespace):
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("thinkless").setLevel(logging.INFO)  # trainings say how far they are
    runner = _runner(options)
    for name in runner.stages:
        print(f"{name:<20} {runner.run(name)}", flush=True)


def _plan(options: argparse.Namespace):
    from thinkless.planning.plan import as_text, make_plan

    runner = _runner(options)
    plan = make_plan(
        runner.profile,
        list(runner.stages.values()),
        gpu=options.gpu,
        price=options.price,
        assumptions=options.assume,
    )
    print(as_text(plan))


def _chat(options: argparse.Namespace):
    from thinkless.generation.chat import open_chat, talk

    names = ("max_tokens", "temperature", "top_p", "tolerance")
    talk(open_chat(options.model, **{name: getattr(options, name) for name in names}))


def _export(options: argparse.Namespace):
    from thinkless.runs.export import export, push_model

    print(export(_runner(options), options.name, options.folder))
    if options.push_to_hub:
        print(push_model(options.folder, options.push_to_hub))


def _sweep(options: argparse.Namespace):
    from thinkless.book.sweep import sweep
    from thinkless.runs.parameters import runs_folder

    sweep(
        options.plan,
        options.runs_dir or runs_folder() / "evidence",
        options.results,
        only=options.only,
        workers=options.workers,
        record_only=options.record_only,
    )


def _bench(options: argparse.Namespace):
    from thinkless.book.bench import bench
    from thinkless.runs.provenance import RESULTS

    bench(_runner(options), options.results or RESULTS)


def _evaluate(options: argparse.Namespace):
    from thinkless.book.benchmarks import benchmark
    from thinkless.runs.provenance import RESULTS

    runner = _runner(options)
    folder = options.results or RESULTS / runner.profile.name
    which = {name: getattr(options, name) for name in ("overrides", "path", "limit")}
    print(benchmark(runner, options.name, options.benchmark, folder, **which))


def _book_run(options: argparse.Namespace):
    from thinkless.book import chapters

    names = ("profile", "seed", "overrides", "runs_dir")
    parameters = {name: getattr(options, name) for name in names}
    root = options.root.resolve()
    if options.runs_dir and not Path(options.runs_dir).is_absolute():  # from here; the chapters work in root
        parameters["runs_dir"] = os.path.relpath(options.runs_dir, root)
    chapters.run(root, parameters, options.only, timeout=options.timeout)
    chapters.report_missed(root, strict=options.strict)


def _book_build(options: argparse.Namespace):
    from thinkless.book import chapters

    root = options.root.resolve()
    print(f"open {chapters.build(root)}")
    chapters.report_missed(root, strict=options.strict)


def _book_file(options: argparse.Namespace):
    from thinkless.book import formats

    bind = formats.pdf if options.step == "pdf" else formats.epub
    print(f"open {bind(options.root.resolve())}")


def end_with_owner():
    """End this process when the process at the other end of its standard input ends.

    A run that was killed must not leave workers behind that go on writing.
    """

    def watch():
        while os.read(0, 1024):  # not sys.stdin, whose lock Python would miss when it shuts down
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
