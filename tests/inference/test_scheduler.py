"""Who gets a model, and when, with real processes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from inference.engine.requests import Name
from inference.engine.scheduler import Scheduler
from inference.engine.store import Model, ModelStore


def scheduler(max_loaded: int = 1) -> Scheduler:
    return Scheduler(max_loaded=max_loaded, max_queue=8, n_parallel=1, keep_alive_s=300)


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until `condition` holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing signals it
            await asyncio.sleep(0)


def make_model(store: ModelStore, name: str, path: Path) -> Model:
    return store.save(Name(name, "latest"), store.add_file(path), {})


async def ask(
    scheduler_: Scheduler, model: Model, options: dict[str, int], log: list[str], name: str
) -> None:
    async with scheduler_.use(model, options, 300):
        log.append(name)


def test_a_model_that_is_to_be_loaded_anew_takes_no_request_that_came_later(
    tmp_path: Path, chain_models: dict[str, Path]
) -> None:
    async def run() -> None:
        model, log = make_model(ModelStore(tmp_path), "a", chain_models["tiny-script"]), list[str]()
        scheduler_ = scheduler()
        async with scheduler_.use(model, {}, 300) as loaded:
            changed = asyncio.create_task(ask(scheduler_, model, {"num_ctx": 64}, log, "changed"))
            await until(lambda: loaded.is_leaving)
            later = asyncio.create_task(ask(scheduler_, model, {}, log, "later"))
            await until(lambda: scheduler_.n_pending == 2)
            assert log == []
        await asyncio.gather(changed, later)
        assert log == ["changed", "later"]
        await scheduler_.close()

    asyncio.run(run())


def test_one_that_gives_up_waiting_leaves_the_model_to_the_others(
    tmp_path: Path, chain_models: dict[str, Path]
) -> None:
    async def run() -> None:
        store, log = ModelStore(tmp_path), list[str]()
        first = make_model(store, "a", chain_models["tiny-script"])
        second = make_model(store, "b", chain_models["tiny-repeat"])
        scheduler_ = scheduler()
        async with scheduler_.use(first, {}, 300) as loaded:
            other = asyncio.create_task(ask(scheduler_, second, {}, log, "other"))
            await until(lambda: loaded.is_leaving)
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)
            await ask(scheduler_, first, {}, log, "same")
        assert log == ["same"]
        assert [each.model.name.path for each in scheduler_.loaded.values()] == ["a"]
        await scheduler_.close()

    asyncio.run(run())


def test_names_of_one_file_share_its_process(tmp_path: Path, chain_models: dict[str, Path]) -> None:
    async def run() -> None:
        store = ModelStore(tmp_path)
        first, second = (make_model(store, name, chain_models["tiny-script"]) for name in "ab")
        scheduler_ = scheduler()
        async with scheduler_.use(first, {}, 300) as one, scheduler_.use(second, {}, 300) as two:
            assert one is two
        await scheduler_.unload(second)
        assert scheduler_.loaded == {}

    asyncio.run(run())
