"""What the workers of one training do together: they meet, and agree from step to step.

Each has a share of every step's examples, and torch's `DistributedDataParallel` gives all of them
the mean of their gradients. They are processes of one host, which talk over its loopback interface
by ports that the kernel chose; a file is where they find each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

__all__ = ["Place", "any_worker", "leave_out_repeats", "wait_for_all"]

#: A worker that ends is noticed at once, one that hangs after this time.
_MOST_WAIT = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Place:
    """A worker's number among all `of` a training; worker 0 is the job's own process.

    Attributes:
        meeting: the file by which they find each other, not there before.
    """

    rank: int
    of: int
    meeting: Path

    @contextmanager
    def in_group(self) -> Iterator[None]:
        """Be one of the group in the block, in which the Trainer finds it; blocks until all are.

        After an error the group is left as it is on GPUs, where leaving would wait for the others.
        """
        import torch
        import torch.distributed as group
        from accelerate.state import AcceleratorState  # type: ignore[import-untyped]

        on_gpu = torch.cuda.is_available()
        variables = self._variables(torch.get_num_threads())
        if not on_gpu:
            variables["ACCELERATE_TORCH_DEVICE"] = "cpu"  # by number, it could load no checkpoint
        with _environment(variables):
            group.init_process_group(
                "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
                init_method=self.meeting.absolute().as_uri(),
                rank=self.rank,
                world_size=self.of,
                timeout=_MOST_WAIT,
            )
            failed = True
            try:
                yield
                failed = False
            finally:
                AcceleratorState._reset_state(reset_partial_state=True)
                if not (failed and on_gpu):
                    group.destroy_process_group()

    def _variables(self, threads: int) -> dict[str, str]:
        """Return what accelerate asks for, though the group is there, and what keeps it here."""
        return {
            **{name: str(self.rank) for name in ("RANK", "LOCAL_RANK")},
            **{name: str(self.of) for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE")},
            **{f"{library}_SOCKET_IFNAME": "lo" for library in ("GLOO", "NCCL")},
            "OMP_NUM_THREADS": str(threads),  # it would choose another number
            "MASTER_PORT": "0",  # it would set one, which nobody uses
        }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def any_worker(is_true: bool) -> bool:
    """Return whether it is true for any worker; all of them have to ask."""
    import torch
    import torch.distributed as group

    if not group.is_initialized():
        return is_true
    flag = torch.tensor(int(is_true))
    group.all_reduce(flag, group.ReduceOp.MAX)
    return bool(flag)


def wait_for_all() -> None:
    """Return once every worker has called this."""
    any_worker(False)


def leave_out_repeats(accelerator: Any, batch: Any) -> bool:
    """Have no repeated example count in a data loader's newest batch; return whether there are any.

    Where the last examples are too few for all workers, accelerate fills up with the first ones.
    """
    state, labels = accelerator.gradient_state, batch["labels"]
    left = state.remainder if state.end_of_dataloader else 0
    if accelerator.num_processes == 1 or left <= 0:
        return False
    size = state.active_dataloader.total_batch_size // accelerator.num_processes
    if len(labels) == size:  # else they are packed into fewer rows, of which none is known
        labels[max(left - accelerator.process_index * size, 0) :] = -100
    return True
