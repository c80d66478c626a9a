"""A student in training as a file, and back: everything that decides how it goes on."""

import pickle
from collections.abc import Callable
from dataclasses import asdict

import torch

from inference.distillation.kept import Keeper
from inference.distillation.training import Point, Training


def save(keeper: Keeper, name: str, training: Training) -> None:
    """Raises OSError."""
    state = {
        "done": training.done,
        "points": [asdict(each) for each in training.points],
        "weights": {key: each.detach() for key, each in training.student.weights.items()},
        "optimizer": training.optimizer.state_dict(),
    }
    try:
        keeper.write(f"{name}.pt", lambda out: torch.save(state, out))
    except RuntimeError as error:  # a full disk, told by way of PyTorch's packing
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise OSError(f"the checkpoint can't be saved: {str(error).splitlines()[0]}") from error


def load(keeper: Keeper, name: str, training: Training) -> int:
    """Brings `training` to where it was; returns the steps that are done. 0 without a checkpoint, or for one that can't be
    read: it begins anew. Nothing in the file is run (weights_only)."""
    try:
        state = torch.load(keeper.folder / f"{name}.pt", weights_only=True)
        weights = state["weights"]
        if {key: each.shape for key, each in weights.items()} != {
            key: each.shape for key, each in training.student.weights.items()
        }:
            return 0
        points = [Point(**each) for each in state["points"]]
        training.optimizer.load_state_dict(state["optimizer"])
    except (OSError, pickle.UnpicklingError, RuntimeError, ValueError, KeyError, TypeError, EOFError):
        return 0
    with torch.no_grad():
        for key, each in weights.items():
            training.student.weights[key].copy_(each)
    training.done, training.points = state["done"], points
    return training.done


def saving(keeper: Keeper, name: str, before: int) -> Callable[[Training], None]:
    """`before`: steps that are done of the students before this one."""

    def save_it(training: Training) -> None:
        save(keeper, name, training)
        keeper.note(before + training.done)

    return save_it
