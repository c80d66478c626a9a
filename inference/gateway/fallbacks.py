"""When a cloud answers: asked by its own name, before the local engine for a reason, or after that one has failed."""

import logging
from typing import Any

import aiohttp

from inference.gateway.aliases import Fallback
from inference.gateway.answers import send_error
from inference.gateway.asgi import Send
from inference.gateway.clouds import CloudFailedError, Clouds
from inference.gateway.engines import Engine
from inference.gateway.meter import Meter
from inference.gateway.routing import Routing, budget_problem
from inference.gateway.stats import Stats

log = logging.getLogger("inference.gateway")


class EngineFailedError(Exception):
    """Before anything was sent to the client, where a cloud may help out. `route`: what its answer is then said to be."""

    def __init__(self, text: str, status: int, route: str) -> None:
        super().__init__(text)
        self.status, self.route = status, route


async def refused(answer: aiohttp.ClientResponse) -> EngineFailedError:
    said = (await answer.content.read(1000)).decode(errors="replace")
    text = f"the engine at {answer.url.origin()} answered HTTP {answer.status}: {said}"
    return EngineFailedError(text, answer.status, f"fallback: the engine answered {answer.status}")


class Fallbacks:
    def __init__(self, routing: Routing, clouds: Clouds, stats: Stats) -> None:
        self.routing, self.clouds, self.stats = routing, clouds, stats

    async def ask(self, cloud: Engine, model: str, values: dict[str, Any], meter: Meter, send: Send) -> None:
        """By its own name, or by an alias of it."""
        meter.route = "cloud"
        try:
            if problem := budget_problem(cloud):
                meter.engine, meter.engine_kind, meter.engine_name = cloud.url, cloud.kind, cloud.name
                raise CloudFailedError(problem, 402)
            await self.clouds.answer(cloud, model, values, meter, send)
        except CloudFailedError as error:
            meter.error = str(error)
            await send_error(send, meter, error.status, meter.error)

    async def went_up(
        self,
        fallback: Fallback,
        model: str,
        engine: Engine | None,
        values: dict[str, Any],
        meter: Meter,
        send: Send,
    ) -> bool:
        """Whether the request is answered: by the alias's cloud, which was asked before the local engine; or by its error, where
        no local engine has the model."""
        n_waiting = self.stats.n_in_flight - self.stats.n_answering - 1
        why = self.routing.why_cloud(fallback, model, engine, n_waiting)
        meter.route = "local"
        if not why:
            return False
        cloud, problem = self.routing.cloud_of(fallback)
        if cloud is None:
            meter.route = f"local: {problem}"
            return False
        name, alias, ignored = meter.model, meter.alias, meter.ignored
        meter.alias, meter.route = alias or name, why
        try:
            await self.clouds.answer(cloud, fallback.model, values, meter, send)
        except CloudFailedError as error:
            log.warning("%s for %s: %s", why, meter.path, error)
            if engine is None:
                meter.error = f"no engine that answers has {name}; and {error}"
                await send_error(send, meter, error.status, meter.error)
                return True
            meter.alias, meter.model, meter.ignored = alias, name, ignored
            meter.route, meter.cloud_failed = f"local: {cloud.name} failed", (str(error), error.status)
            return False
        return True

    async def help_out(
        self,
        fallback: Fallback | None,
        failed: EngineFailedError,
        values: dict[str, Any],
        meter: Meter,
        send: Send,
    ) -> None:
        """The local engine has failed before it said anything: the alias's cloud answers, if it may."""
        cloud, problem = (None, "") if fallback is None else self.routing.cloud_of(fallback)
        text, status = str(failed), failed.status
        if meter.cloud_failed is not None:
            said, status = meter.cloud_failed
            text += f"; and {said}"
        elif cloud is not None and fallback is not None:
            meter.alias, meter.route = meter.alias or meter.model, failed.route
            try:
                await self.clouds.answer(cloud, fallback.model, values, meter, send)
            except CloudFailedError as error:
                text, status = f"{text}; and {error}", error.status
            else:
                return
        elif problem:
            text += f"; and {problem}"
        meter.error = text
        await send_error(send, meter, status, text)
