"""training.fsdp=true: weights spread over the processes of a run, by torch's own fully_shard (FSDP2).

Of N processes each keeps an Nth of the weights, of their gradients and of the optimizer's state, and gathers a block when it
runs. All of it stays in float32 and autocast does the rest, as under DDP, so that numbers do not depend on how weights lie.
What is written is whole: rank 0 has a copy of the model on its CPU while that is needed, and saves it as any other model.
All ranks have to call these at the same point.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.distributed.tensor import DTensor, distribute_tensor

from lmtune.errors import ConfigError, first_line
from lmtune.modeling import stored
from lmtune.modeling.behaviour import TOKENS, choose_ids, trying
from lmtune.modeling.layers import RUNS_IN_STEP, below_adapter, find_blocks, runs_in_step
from lmtune.modeling.loss import find_fuses, install_again
from lmtune.modeling.out_of_memory import is_out_of_memory
from lmtune.storage import Record
from lmtune.training.distributed import LOST, agree, do_first, is_first

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from transformers import PreTrainedModel

    from lmtune.training.setup import Parts

SKELETON = "skeleton"
"""Attribute of a sharded model: the model as it was before, without values in its weights."""


def shard_model(model: PreTrainedModel, device: torch.device) -> None:
    """Spread the weights of rank 0 over all processes, in place: block by block, and what stands around the blocks.

    model: on the other ranks it need not have values. device: that of this process. Raises ConfigError for a model without a list
    of blocks.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    place = find_blocks(model)
    if place is None:
        raise ConfigError(
            f"training.fsdp=true: expected a decoder made of a list of blocks, each of which is spread by itself; found none in "
            f"{type(model).__name__}. Leave it out."
        )
    root = below_adapter(model)
    skeleton = _take_values(model)
    whole = replace_weights(model, lambda _, weight: weight) if is_first() else None
    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    for part in (*model.get_submodule(place[0].removesuffix(".")).children(), root):
        _give_room(part, device)
        fully_shard(part, mesh=mesh)
    setattr(root, SKELETON, (skeleton,))  # in a tuple, in which torch does not look for modules
    setattr(root, RUNS_IN_STEP, True)
    spread_model(model, whole)
    _check_runs(root)
    _sharded(model).reshard()


def _check_runs(root: PreTrainedModel) -> None:
    """Raise ConfigError where a model does not run so; torch takes what runs first for the whole, and an evaluation runs parts."""
    try:
        with trying(root):
            root(input_ids=choose_ids(root, TOKENS), use_cache=False)
    except (RuntimeError, ValueError, TypeError, NotImplementedError) as fault:
        if is_out_of_memory(fault) or LOST.search(str(fault)):
            raise
        raise ConfigError(
            f"training.fsdp=true: expected a model that runs with its weights spread, found that {type(root).__name__} does not "
            f"({first_line(fault)}). Leave it out."
        ) from fault


def build_first(build: Callable[[], Parts]) -> Parts:
    """Build on rank 0; the others get the model on the meta device, until shard_model gives them their shards."""
    built = do_first(build)
    sent = agree(lambda: pickle.dumps(_strip(cast("Parts", built))))
    if built is not None:
        return built
    parts, fuses = cast("tuple[Parts, bool | None]", pickle.loads(sent))
    install_again(parts.model, fuses)
    return parts


def _strip(parts: Parts) -> tuple[Parts, bool | None]:
    """(parts, find_fuses): with the model on the meta device and without its own forward method, which cannot be pickled."""
    skeleton = _take_values(parts.model)
    vars(skeleton).pop("forward", None)
    return parts._replace(model=skeleton), find_fuses(parts.model)


def _take_values(model: PreTrainedModel) -> PreTrainedModel:
    return replace_weights(model, lambda _, weight: torch.empty_like(weight, device="meta"))


def replace_weights(model: PreTrainedModel, make: Callable[[str, torch.Tensor], torch.Tensor]) -> PreTrainedModel:
    """A copy of a model with other weights, by name. Ties, buffers and patches stay, and its settings are the same objects."""
    memo: dict[int, Any] = {
        id(weight): torch.nn.Parameter(make(name, weight.detach()), weight.requires_grad)
        for name, weight in model.named_parameters()
    }
    shared = [model.config, getattr(model, "generation_config", None)]
    return copy.deepcopy(model, memo | {id(each): each for each in shared if each is not None})


@contextmanager
def lending(model: PreTrainedModel) -> Iterator[None]:
    """In here, the weights around the blocks of a sharded model are whole, so that its parts can be called by themselves."""
    if not runs_in_step(model):
        yield
        return
    _sharded(model).unshard()
    try:
        yield
    finally:
        _sharded(model).reshard()


def gather_model(model: PreTrainedModel) -> PreTrainedModel | None:
    """A whole copy of a sharded model on the CPU of rank 0, None on all others."""
    _sharded(model).reshard()  # after a pass without gradients, what is around the blocks is still whole
    weights: dict[str, torch.Tensor] = {}
    for name, weight in model.named_parameters():
        gathered = cast(DTensor, weight.detach()).full_tensor()
        if is_first():
            weights[name] = gathered.to("cpu", copy=True)
    (skeleton,) = getattr(below_adapter(model), SKELETON)
    return replace_weights(skeleton, lambda name, _: weights[name]) if is_first() else None


def spread_model(model: PreTrainedModel, whole: PreTrainedModel | None) -> None:
    """Give a sharded model the weights of a whole one, which rank 0 has.

    Where an adapter is on the sharded one and merged in the other, it does nothing from then on.
    """
    merged = agree(lambda: type(whole) is not type(getattr(below_adapter(model), SKELETON)[0]))
    held = {} if whole is None else dict(below_adapter(whole).named_parameters())
    for name, weight in below_adapter(model).named_parameters():
        if merged and ".lora_" in name:
            continue
        part = cast(DTensor, weight.detach())
        own = name.replace(".base_layer.", ".") if merged else name
        source = held[own].detach() if is_first() else torch.empty(part.shape, dtype=part.dtype)
        part.copy_(_distribute(source, part, from_first=True))
    if merged:
        cast(Any, model).base_model.disable_adapter_layers()


def restore(model: PreTrainedModel, folder: Path) -> None:
    """As stored.restore does, from the disk of rank 0."""
    whole = gather_model(model)
    do_first(lambda: stored.restore(cast("PreTrainedModel", whole), folder))
    spread_model(model, whole)


def gather_optimizer(optimizer: torch.optim.Optimizer) -> Record:
    """The state of the optimizer as state_dict() gives it in one process: on rank 0 whole and on the CPU, nothing on others."""
    given = optimizer.state_dict()
    state = {
        number: {name: _gather(value) for name, value in sorted(values.items())}
        for number, values in sorted(given["state"].items())
    }
    return {**given, "state": state}


def load_optimizer(optimizer: torch.optim.Optimizer, file: Path) -> None:
    """Give the optimizer a saved state, of which each process takes its parts; other values are a scalar for a weight."""
    given = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    state = {
        number: {name: _take_part(value, weights[number]) for name, value in values.items()}
        for number, values in given["state"].items()
    }
    optimizer.load_state_dict({**given, "state": state})


def _give_room(part: torch.nn.Module, device: torch.device) -> None:
    """Allocate the weights that are on the meta device; tied ones once."""
    made: dict[torch.Tensor, torch.nn.Parameter] = {}
    for module in part.modules():
        for name, weight in module.named_parameters(recurse=False, remove_duplicate=False):
            if weight.device.type == "meta":
                if weight not in made:
                    made[weight] = torch.nn.Parameter(torch.empty_like(weight, device=device), weight.requires_grad)
                setattr(module, name, made[weight])


def _gather(value: object) -> object:
    if not isinstance(value, DTensor):
        return value
    whole = value.full_tensor()
    return whole.to("cpu", copy=True) if is_first() else None


def _take_part(value: object, weight: DTensor) -> object:
    if not torch.is_tensor(value) or value.ndim == 0:
        return value
    return _distribute(value, weight, from_first=False).clone()  # what was read is a view of the file


def _distribute(whole: torch.Tensor, like: DTensor, *, from_first: bool) -> DTensor:
    """The parts of a whole tensor, lying as those of `like`. from_first: of that of rank 0; else each process has it."""
    return distribute_tensor(
        whole.to(like.device), like.device_mesh, like.placements, src_data_rank=0 if from_first else None
    )


def _sharded(model: PreTrainedModel) -> FSDPModule:
    return cast("FSDPModule", below_adapter(model))
