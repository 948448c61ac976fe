"""The command line: ``python -m thinkless stage rl-degrpo-0 --profile laptop --seed 1``."""

import argparse
import json
import os
import shlex
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from thinkless.stages import Runner


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code. Heavy imports wait until a command needs them, since
    worker processes import this module again."""
    parser = argparse.ArgumentParser(prog="python -m thinkless")
    commands = parser.add_subparsers(dest="command", required=True)
    stage = commands.add_parser("stage", help="make sure that one stage, and all it needs, is done")
    stage.add_argument("name")
    add_run_options(stage)
    stage.add_argument("--rank", action="store_true", help=argparse.SUPPRESS)  # one of several processes
    stage.add_argument("--owned", action="store_true", help=argparse.SUPPRESS)  # see end_with_owner
    train = commands.add_parser("train", help="every stage of a profile, in order; kill it and call it again")
    add_run_options(train)
    plan = commands.add_parser("plan", help="what a run would take: tokens, hours, dollars, memory, disk")
    add_run_options(plan)
    add_plan_options(plan)
    chat = commands.add_parser("chat", help="talk to a hybrid model; /help lists what you can change")
    add_chat_options(chat)
    export = commands.add_parser("export", help="a stage's model with a card, in a folder or on the hub")
    export.add_argument("name", help="the stage, such as rl-degrpo-0")
    export.add_argument("folder", type=Path, help="where the model goes; must not exist yet")
    export.add_argument("--push-to-hub", metavar="USER/NAME", help="and to this repository of the hub")
    add_run_options(export)
    options = parser.parse_args(arguments)

    if options.command == "stage" and options.owned:
        end_with_owner()
    from thinkless.pipeline import pipeline
    from thinkless.planning.hardware import PlanError
    from thinkless.profiles import ProfileError
    from thinkless.stages import StageError, fail

    try:
        if options.command == "chat":
            return run_chat(options)
        runner = pipeline(options.profile, options.seed, options.overrides, options.runs_dir)
        if options.command == "plan":
            print_plan(runner, options)
        elif options.command == "train":
            for name in runner.stages:
                print(f"{name:<20} {runner.run(name)}", flush=True)
        elif options.command == "export":
            print_export(runner, options)
        elif options.rank:
            runner.compute(options.name)
        else:
            print(runner.run(options.name))
    except (PlanError, ProfileError, StageError) as error:
        return fail(error)
    return 0


def end_with_owner():
    """End this process when the process at the other end of its standard input does: a run that was
    killed must not leave workers behind that go on writing."""

    def watch():
        while os.read(0, 1024):  # not sys.stdin, whose lock Python would miss when it shuts down
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def add_run_options(parser: argparse.ArgumentParser):
    """The four parameters that every chapter and every stage takes."""
    parser.add_argument("--profile", default="laptop", help="a profile's name or a YAML file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs-dir", default="runs")
    parser.add_argument(
        "--overrides", type=json.loads, default={}, help="JSON, such as '{\"rl.alpha\": 0.5}'"
    )


def add_plan_options(parser: argparse.ArgumentParser):
    """What a plan takes for granted."""
    parser.add_argument("--gpu", help="h100, a100, rtx4090, ...; by default what the profile is made for")
    parser.add_argument("--price", type=float, default=3.0, help="dollars per GPU and hour")
    parser.add_argument(
        "--assume", type=json.loads, default={}, help="JSON, such as '{\"think_mean\": 9000}', in tokens"
    )


def add_chat_options(parser: argparse.ArgumentParser):
    """The model to talk to, and how it starts to answer."""
    parser.add_argument("model", help="a model folder, or a name on the hub")
    parser.add_argument("--max-tokens", type=int, default=8192)
    parser.add_argument("--temperature", type=float, default=0.6)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--tolerance", type=float, default=0.0, help="nats added to the logit of <think>")


def run_chat(options: argparse.Namespace) -> int:
    """A conversation until the user ends it."""
    from thinkless.chat import open_chat, talk

    names = ("max_tokens", "temperature", "top_p", "tolerance")
    talk(open_chat(options.model, **{name: getattr(options, name) for name in names}))
    return 0


def print_export(runner: "Runner", options: argparse.Namespace):
    """Export a model, and say where it is."""
    from thinkless.export import export, push_model

    print(export(runner, options.name, options.folder))
    if options.push_to_hub:
        print(push_model(options.folder, options.push_to_hub))


def print_plan(runner: "Runner", options: argparse.Namespace):
    """The plan of all of the runner's stages, as text."""
    from thinkless.planning.plan import make_plan
    from thinkless.planning.text import as_text

    given = {"--seed": options.seed, "--runs-dir": options.runs_dir, "--overrides": options.overrides}
    usual = {"--seed": 0, "--runs-dir": "runs", "--overrides": {}}
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in given.items()}
    again = [f"{name} {shlex.quote(texts[name])}" for name in given if given[name] != usual[name]]
    plan = make_plan(
        runner.profile,
        list(runner.stages.values()),
        gpu=options.gpu,
        price=options.price,
        assumptions=options.assume,
        options=" ".join(again),
    )
    print(as_text(plan))


if __name__ == "__main__":
    sys.exit(main())
