"""Before the clock runs: does the engine answer, does the model take images, how many words make the wanted prompt."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from time import perf_counter

from benchmarks.load.exchange import Client, Exchange
from benchmarks.load.plan import Plan
from benchmarks.load.result import Status
from benchmarks.workloads.prompts import Prompt, in_order, read_set, synthetic, with_nonces, words

CALIBRATE_WORDS = (16, 80)


class NotReadyError(Exception):
    """The engine can't be measured; the text is one sentence that says why."""


@dataclass
class Prompts:
    source: Iterator[Prompt]
    notes: list[str] = field(default_factory=list)


async def prepare(client: Client, plan: Plan) -> Prompts:
    """The prompts to send, after at least one real answer of one token: the model is loaded then.

    Raises NotReadyError."""
    if plan.workload is None:
        prompts = await _of_length(client, plan)
    else:
        prompts = await _of_set(client, plan, plan.workload)
    if plan.nonce:
        prompts.source = with_nonces(prompts.source)
        prompts.notes.append("Each prompt starts with a number of its own, so that no prefix cache helps.")
    return prompts


async def _of_set(client: Client, plan: Plan, name: str) -> Prompts:
    prompts = read_set(name)
    first = next((each for each in prompts if each.images), prompts[0])
    probe = await _probe(client, first)
    if first.images and probe.status is Status.HTTP and probe.http_status in {400, 415, 422, 500, 501}:
        prompts = [each.without_images() for each in prompts]
        probe = await _probe(client, first.without_images())
        _check(plan, probe)
        note = "The model takes no images: each scene was described in words instead."
        return Prompts(in_order(prompts, plan.seed), [note])
    _check(plan, probe)
    return Prompts(in_order(prompts, plan.seed))


async def _of_length(client: Client, plan: Plan) -> Prompts:
    """Tokens of a prompt grow with its words along a line; two prompts of known length tell which."""
    assert plan.prompt_tokens is not None
    few, many = CALIBRATE_WORDS
    counts = []
    for n_words in CALIBRATE_WORDS:
        text = words(n_words, f"calibrate {plan.seed} {n_words}")
        source = iter([Prompt("calibrate", text)])
        probe = await _probe(client, next(with_nonces(source) if plan.nonce else source))
        _check(plan, probe)
        counts.append(probe.answer.n_prompt)
    if counts[0] is None or counts[1] is None or counts[1] <= counts[0]:
        raise NotReadyError(
            "The engine does not tell how many tokens a prompt has, so none of a given length can be made;"
            " choose a workload instead."
        )
    per_word = (counts[1] - counts[0]) / (many - few)
    least = counts[0] - per_word * few
    n_words = round((plan.prompt_tokens - least) / per_word)
    notes = []
    if n_words < 1:
        n_words = 1
        notes.append(
            f"A prompt of one word already has about {least + per_word:.0f} tokens with this model's template:"
            f" {plan.prompt_tokens} is not possible."
        )
    probe = await _probe(client, next(synthetic(n_words, plan.seed)))
    _check(plan, probe)
    return Prompts(synthetic(n_words, plan.seed), notes)


async def _probe(client: Client, prompt: Prompt) -> Exchange:
    exchange = Exchange("probe", 0, perf_counter())
    await client.send(exchange, prompt, 1)
    return exchange


def _check(plan: Plan, probe: Exchange) -> None:
    if probe.status is Status.OK:
        return
    why = f"{plan.url} can't be measured with model {plan.model}: {probe.error}"
    if probe.status is Status.CONNECTION:
        why = f"{plan.url} can't be reached: {probe.error}"
    raise NotReadyError(why.rstrip(".") + ".")
