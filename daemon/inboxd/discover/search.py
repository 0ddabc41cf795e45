"""Every source asked at the same time; the first in their order that knows something is believed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final
from urllib.parse import quote

from inboxd import logs, net, providers
from inboxd.discover import autoconfig, knock
from inboxd.discover.found import Endpoint, Found, Nothing, Offer, Source, Vain
from inboxd.discover.hosts import addresses, domain_of
from inboxd.discover.names import Names
from inboxd.discover.web import Web, open_web
from inboxd.errors import NotFound
from inboxd.outward import Lookup
from inboxd.providers import LoginName, Provider, Server, Wanted
from inboxd.sections import DiscoverySettings

_BASE_LABELS: Final = (3, 2)  # of a mail exchanger's name: which of them is a provider's is not told by the name
_log = logs.logger("discover")
Step = Callable[[], Awaitable[Offer]]


async def discover(address: str, settings: DiscoverySettings, lookup: Lookup = net.resolve) -> Found:
    """The settings for a mail address; Invalid when it is none, NotFound, with all reasons, when no source has any.

    Only the domain leaves the machine, but for the domain's own autoconfig server, which is told the address. It ends
    within `settings.total_seconds`.
    """
    domain = domain_of(address)
    known = providers.by_domain(domain)
    if known is not None:
        return _found(address, domain, [_row(known, Source.TABLE, known.title, address)], [])
    started = asyncio.get_running_loop().time()
    async with open_web(settings, lookup) as web:
        search = _Search(address, domain, settings, web, lookup)
        offers, vain = await search.ask_all()
    if not any(offer.imap for offer in offers):
        left = settings.total_seconds - (asyncio.get_running_loop().time() - started)
        seconds = max(0.0, min(settings.step_seconds, left))
        last = await _attempt(Source.GUESS, lambda: search.guess(seconds), None)
        offers, vain = ([*offers, last], vain) if isinstance(last, Offer) else (offers, [*vain, last])
    if not offers:
        reasons = "; ".join(f"{one.source.value}: {one.words}" for one in vain)
        raise NotFound(f"no settings were found for {domain} ({reasons})")
    _log.info("settings_found", domain=domain, source=offers[0].source.value)
    return _found(address, domain, offers, vain)


class _Search:
    """One search, its steps as methods: each returns an offer or raises Nothing."""

    def __init__(self, address: str, domain: str, settings: DiscoverySettings, web: Web, lookup: Lookup) -> None:
        self._address = address
        self._domain = domain
        self._settings = settings
        self._web = web
        self._lookup = lookup
        self._names = Names(settings)

    async def ask_all(self) -> tuple[list[Offer], list[Vain]]:
        """The offers in the order of the sources, and the sources without one; none behind a full offer is awaited."""
        steps = self._steps()
        async with asyncio.TaskGroup() as group:
            seconds = min(self._settings.step_seconds, self._settings.total_seconds)
            tasks = [group.create_task(_attempt(source, step, seconds)) for source, step in steps.items()]
            known: list[Offer] = []
            for task in tasks:
                outcome = await task
                known += [outcome] if isinstance(outcome, Offer) else []
                if any(offer.imap for offer in known) and any(offer.smtp for offer in known):
                    break
            outcomes = [task.result() for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
        return [o for o in outcomes if isinstance(o, Offer)], [o for o in outcomes if isinstance(o, Vain)]

    def _steps(self) -> dict[Source, Step]:
        query = quote(self._address, safe="")
        own = f"https://autoconfig.{self._domain}/mail/config-v1.1.xml?emailaddress={query}"
        well_known = f"https://{self._domain}/.well-known/autoconfig/mail/config-v1.1.xml"
        steps: dict[Source, Step] = {
            Source.AUTOCONFIG: lambda: self._document(Source.AUTOCONFIG, own),
            Source.WELL_KNOWN: lambda: self._document(Source.WELL_KNOWN, well_known),
            Source.ISPDB: lambda: self._document(Source.ISPDB, self._settings.ispdb + self._domain),
            Source.SRV: self._srv,
            Source.MX: self._mx,
        }
        if not self._settings.ispdb:
            del steps[Source.ISPDB]
        return steps

    async def guess(self, seconds: float) -> Offer:
        """The hosts people expect, where a server answers."""
        pair = await knock.guess(
            self._domain, self._address, self._lookup, seconds, allow_private=self._settings.allow_private
        )
        return Offer(Source.GUESS, self._domain, *pair)

    async def _document(self, source: Source, url: str) -> Offer:
        pair = autoconfig.read(await self._web.get(url), self._address, self._domain)
        return await self._checked(Offer(source, url.partition("?")[0], *pair))

    async def _srv(self) -> Offer:
        pair = await self._names.servers(self._domain, self._address)
        return await self._checked(Offer(Source.SRV, self._domain, *pair))

    async def _mx(self) -> Offer:
        """By the domain's mail exchangers: the table, then ISPDB for the domain they are in. A hint, hence the last."""
        host = (await self._names.exchangers(self._domain))[0]
        provider = providers.by_exchanger(host)
        if provider is not None:
            return _row(provider, Source.MX, host, self._address)
        labels = host.split(".")
        bases = [".".join(labels[-count:]) for count in _BASE_LABELS if len(labels) >= count]
        for base in bases if self._settings.ispdb else ():
            try:
                offer = await self._document(Source.MX, self._settings.ispdb + base)
            except Nothing:
                continue
            return replace(offer, where=host)
        raise Nothing(f"the mail exchanger {host} is of no known provider")

    async def _checked(self, offer: Offer) -> Offer:
        """The offer; Nothing when one of its servers is nowhere, or where nothing is to be sent to."""
        for server in (offer.imap, offer.smtp):
            if server is not None:
                await addresses(server.host, server.port, self._lookup, allow_private=self._settings.allow_private)
        return offer


async def _attempt(source: Source, step: Step, seconds: float | None) -> Offer | Vain:
    """What a source says within its time."""
    try:
        async with asyncio.timeout(seconds):
            return await step()
    except TimeoutError:
        return Vain(source, f"no answer within {seconds or 0:g} s")
    except Nothing as error:
        return Vain(source, str(error))


def _row(provider: Provider, source: Source, where: str, address: str) -> Offer:
    """A row of the table as an offer."""

    def endpoint(server: Server) -> Endpoint:
        # Where others' domains are served, the whole address tells one user from another.
        login = server.login if source is Source.TABLE else LoginName.ADDRESS
        password = provider.wanted is not Wanted.OAUTH2
        return Endpoint(
            server.host, server.port, server.tls, login.of(address), password=password, oauth2=provider.oauth2
        )

    return Offer(source, where, endpoint(provider.imap), endpoint(provider.smtp), provider)


def _found(address: str, domain: str, offers: list[Offer], vain: list[Vain]) -> Found:
    believed = first = next((offer for offer in offers if offer.imap), offers[0])
    notes: list[str] = []
    if first.smtp is None and (other := next((offer for offer in offers if offer.smtp), None)) is not None:
        first = replace(first, smtp=other.smtp)
        notes.append(f"the SMTP server comes from another source: {other.source.value}")
    server = first.imap or first.smtp
    provider = first.provider or (providers.by_host(server.host) if server is not None else None)
    pair = (first.imap, first.smtp)
    others = [offer for offer in offers if offer is not believed and (offer.imap, offer.smtp) != pair]
    return Found(address, first, provider, (*notes, *_warnings(first, domain)), tuple(others), tuple(vain))


def _warnings(offer: Offer, domain: str) -> Iterable[str]:
    """What a person should know before the secret goes there."""
    if offer.source is Source.SRV:
        hosts = {server.host for server in (offer.imap, offer.smtp) if server is not None}
        for host in sorted(host for host in hosts if _is_foreign(host, domain)):
            # RFC 6186 §6: an unsigned answer may have been changed on its way.
            yield f"DNS alone names {host}, which is outside {domain}: use it only if it is your provider's"
    if offer.source is Source.MX:
        yield f"concluded from the mail exchanger {offer.where}, which may only filter or forward"
    if offer.source is Source.GUESS:
        yield "guessed: a mail server with a valid certificate answers there"
    if offer.imap is None:
        yield "there is no IMAP server: mail can be sent, not fetched"
    if offer.smtp is None:
        yield "there is no SMTP server: mail can be fetched, not sent"


def _is_foreign(host: str, domain: str) -> bool:
    return host != domain and not host.endswith(f".{domain}") and providers.by_host(host) is None
