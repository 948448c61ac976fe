"""Checkpoints of a training: which is whole, which goes."""

import json
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers import TrainerCallback

from thinkless.errors import StageError

KEPT = 2
"""Checkpoints of a training that stay: the newest may be half written when a kill comes."""


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.rpartition("-")[2]))


class KeepsNewest(TrainerCallback):
    """Removes all checkpoints but the newest, by their steps.

    Transformers would go by the clock: set back in the middle of a training, it has each new one removed.
    """

    def on_save(self, args, state, control, **_):
        if state.is_world_process_zero:
            for old in _checkpoints(Path(args.output_dir))[:-KEPT]:
                shutil.rmtree(old, ignore_errors=True)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint in `folder`; half-written ones, left by a kill, are removed.

    Transformers writes `trainer_state.json` last. Raises StageError for a checkpoint that is
    complete but damaged: going on from it, or silently from an older one, would hide a disk fault.
    """
    checkpoints = _checkpoints(folder)
    while checkpoints:
        newest = checkpoints.pop()
        try:
            json.loads((newest / "trainer_state.json").read_text())
        except (OSError, ValueError):
            shutil.rmtree(newest, ignore_errors=True)  # every rank does
            continue
        try:
            for weights in newest.glob("*.safetensors"):
                with safe_open(weights, "pt"):
                    pass
            for state in newest.glob("*.p*t*"):  # optimizer.pt, scheduler.pt, rng_state*.pth
                zipfile.ZipFile(state).close()
        except (OSError, SafetensorError, zipfile.BadZipFile) as error:
            raise StageError(
                f"checkpoint {newest} is damaged ({error}): delete it to go on from the one before"
            ) from None
        return newest
    return None


def remove_checkpoints(folder: Path):
    (folder / "README.md").unlink(missing_ok=True)  # TRL's, of a model that is no longer there
    for checkpoint in _checkpoints(folder):
        shutil.rmtree(checkpoint, ignore_errors=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
