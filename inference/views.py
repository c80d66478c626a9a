"""Try a prompt: the page's way to the gateway, for people who are logged in."""

import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from inference.api_keys.internal import gateway_headers

TIMEOUT = aiohttp.ClientTimeout(total=600, sock_connect=5)


class PromptForm(forms.Form):
    model = forms.CharField(max_length=200)
    prompt = forms.CharField(max_length=8000)


@require_POST
async def prompt(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream the gateway's answer line by line. The prompt is passed on and kept nowhere."""
    form = PromptForm(request.POST)
    if not form.is_valid():
        field, errors = next(iter(form.errors.items()))
        return JsonResponse({"error": f"{field}: {errors[0]}"}, status=400)
    body = {"model": form.cleaned_data["model"], "prompt": form.cleaned_data["prompt"], "stream": True}
    answer = StreamingHttpResponse(_lines(body), content_type="application/x-ndjson")
    answer["X-Accel-Buffering"] = "no"
    return answer


async def _lines(body: dict[str, Any]) -> AsyncIterator[bytes]:
    headers = {"x-aicleaner-client": "console", **gateway_headers()}
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as session,
            session.post(f"{settings.GATEWAY_URL}/api/generate", json=body, headers=headers) as answer,
        ):
            names = ("x-aicleaner-engine", "x-aicleaner-cache", "x-aicleaner-request-id")
            yield json.dumps({"via": {name: answer.headers.get(name) for name in names}}).encode() + b"\n"
            async for chunk in answer.content.iter_any():
                yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        yield json.dumps({"error": _no_answer(error)}).encode() + b"\n"


@require_GET
@never_cache
async def prompt_models(request: HttpRequest) -> JsonResponse:
    """Names of the models that the gateway offers for prompts."""
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
            session.get(f"{settings.GATEWAY_URL}/api/tags", headers=gateway_headers()) as answer,
        ):
            found = (await answer.json(content_type=None)).get("models") or []
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        return JsonResponse({"models": [], "error": _no_answer(error)}, status=502)
    able = [each for each in found if "embedding" not in (each.get("capabilities") or [])]
    return JsonResponse({"models": [each["name"] for each in able]})


def _no_answer(error: Exception) -> str:
    return f"the gateway does not answer: {str(error) or type(error).__name__}"
