"""The two documents that describe all the rest: one for programs, one for people. Neither needs an API key."""

from __future__ import annotations

import asyncio
from functools import cache

from inboxd.api import openapi, reference
from inboxd.api.answers import HTML, Page
from inboxd.api.route import Route
from inboxd.api.wire import codec
from inboxd.services import Services

CONTROLLER = "Reference"


def described(routes: tuple[Route, ...]) -> tuple[Route, ...]:
    """The rows, and after them those of the documents that describe them and themselves."""

    async def get_open_api(services: Services) -> bytes:  # noqa: ARG001
        """All operations as an OpenAPI 3.1 document."""
        return await asyncio.to_thread(_json, everything)

    async def get_reference(services: Services) -> Page:  # noqa: ARG001
        """All operations as a page to read."""
        return await asyncio.to_thread(_page, everything)

    everything = (
        *routes,
        Route("getOpenApi", "GET", "/openapi.json", get_open_api, is_open=True, controller=CONTROLLER),
        Route("getReference", "GET", "/docs", get_reference, content_type=HTML, is_open=True, controller=CONTROLLER),
    )
    return everything


@cache
def _json(routes: tuple[Route, ...]) -> bytes:
    return codec.write(openapi.document(routes))


@cache
def _page(routes: tuple[Route, ...]) -> Page:
    return reference.page(openapi.document(routes))
