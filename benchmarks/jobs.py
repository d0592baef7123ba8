"""Trainings by several processes at once, each after those that it needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace

import torch

from benchmarks.protocol import Workbench
from benchmarks.trainings import Features, Network, Training, network_of


@dataclass(frozen=True)
class Job:
    """A training at a workbench.

    scored: whether its scores on *val* are wanted. built_on: others need its network, not only
    its result.
    """

    bench: Workbench
    training: Training
    scored: bool = True
    built_on: bool = False

    def make(self) -> None:
        """Do it."""
        if self.built_on and isinstance(self.training, Network):
            self.bench.model(self.training)
        self.bench.make(self.training, self.scored)

    def done(self) -> bool:
        """Whether there is nothing to do; features are looked for when they are needed."""
        if isinstance(self.training, Features):
            return False
        return self.bench.done(self.training, self.scored)

    def needs(self, others: Sequence[Job]) -> set[Job]:
        """Those of the others that have to be done before."""
        if isinstance(self.training, Network):
            return set()
        before = Network if isinstance(self.training, Features) else Network | Features
        return {
            job
            for job in others
            if job.bench == self.bench
            and isinstance(job.training, before)
            and network_of(job.training) == self.training.network
        }


def work_off(jobs: Iterable[Job], workers: int) -> None:
    """Do all jobs, and what they need; earlier ones first, as far as that is possible.

    With several workers a failed job holds up only those that need it.

    Raises:
        RuntimeError: says which jobs failed.
    """
    waiting = _complete(jobs)
    if workers == 1:
        for job in waiting:
            job.make()
        return
    needed = {job: job.needs(waiting) for job in waiting}
    done: set[Job] = set()
    failed: dict[Job, BaseException] = {}
    running: dict[Future[None], Job] = {}
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        while True:
            ready = [job for job in waiting if needed[job] <= done]
            for job in ready[: workers - len(running)]:
                waiting.remove(job)
                fresh = replace(job, bench=replace(job.bench))  # without what it has loaded
                running[pool.submit(fresh.make)] = job
            if not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                job, error = running.pop(future), future.exception()
                if error is None:
                    done.add(job)
                else:
                    failed[job] = error
                    print(f"failed: {job.training}: {error!r}", flush=True)
                    waiting = [other for other in waiting if job not in needed[other]]
    if failed:
        text = "; ".join(f"{job.training}: {error!r}" for job, error in failed.items())
        raise RuntimeError(f"{len(failed)} of the trainings failed: {text}")


def finished(jobs: Iterable[Job]) -> bool:
    """Whether all results are there; features are needed only where some are not."""
    return all(isinstance(job.training, Features) or job.done() for job in jobs)


def _complete(jobs: Iterable[Job]) -> list[Job]:
    """What is not done yet, each once, and the networks it stands on before it.

    A network is scored if any job wants it. Features are for decoders that are not done.
    """
    missing = [job for job in jobs if not job.done()]
    built_on = {
        (job.bench, network_of(job.training))
        for job in missing
        if not isinstance(job.training, Network | Features)
    }
    wanted: dict[tuple[Workbench, Training], bool] = {}
    for job in missing:
        if isinstance(job.training, Features) and (job.bench, job.training.network) not in built_on:
            continue
        if not isinstance(job.training, Network):
            wanted.setdefault((job.bench, job.training.network), False)
        key = (job.bench, job.training)
        wanted[key] = wanted.get(key, False) or job.scored
    return [Job(*key, scored, key in built_on) for key, scored in wanted.items()]
