"""POST alerts to Alertmanager replicas, each on its own. No logic: what and when is streamer/core/notifying.py.

Addresses come from the configuration only. Nothing of an alert, not its links nor its runbook, is ever fetched, and a
redirect is not followed.
"""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import aiohttp
import msgspec

from streamer.core.notifying import Post
from streamer.sinks.errors import SinkError, SinkRefused, SinkUnreachable, SinkUnwell

if TYPE_CHECKING:
    from streamer import config

_BAD_CONTENT = frozenset({400, 413, 422})
#: How much of an error's text is kept, and of a status read.
_SAID, _STATUS = 300, 1_000_000


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to get in: nothing, basic authentication, or a bearer token; and TLS where the default does not do.

    timeout_ms: for the whole of one POST.
    """

    timeout_ms: int = 10_000
    username: str = ""
    password: str = ""
    bearer_token: str = ""
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: str | None = None
    check_hostname: bool = True

    def __repr__(self) -> str:
        """Without secrets."""
        return f"Access(timeout_ms={self.timeout_ms}, username={self.username!r})"


class Status(NamedTuple):
    """What a replica says of itself. at: its clock, s since the epoch, as far as HTTP tells; None where it does not."""

    version: str
    at: float | None


class AlertmanagerSink:
    """Client of any number of Alertmanager replicas; `async with AlertmanagerSink(access) as sink`."""

    def __init__(self, access: Access | None = None) -> None:
        self._access = access or Access()
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> AlertmanagerSink:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, post: Post) -> None:
        """POST to `post.replica`. Raises `SinkError`, whose `retriable` goes to `Notifier.done`."""
        address = f"{post.replica.rstrip('/')}/api/v2/alerts"
        session = self._open()
        try:
            async with session.post(address, data=msgspec.json.encode(post.alerts), allow_redirects=False) as answer:
                if answer.status == 200:
                    return
                said = (await answer.content.read(_SAID)).decode(errors="replace").strip()
                raise _unwanted(post.replica, answer.status, said)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SinkUnreachable(f"{post.replica}: {type(error).__name__}: {error}".rstrip(": ")) from error

    async def status(self, replica: str) -> Status:
        """Who answers at a replica; `SinkError` when nobody does, or not to us. Nothing is sent."""
        address = f"{replica.rstrip('/')}/api/v2/status"
        try:
            async with self._open().get(address, allow_redirects=False) as answer:
                said = await answer.content.read(_STATUS)
                if answer.status != 200:
                    raise _unwanted(replica, answer.status, said[:_SAID].decode(errors="replace").strip())
                told = answer.headers.get("Date")
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise SinkUnreachable(f"{replica}: {type(error).__name__}: {error}".rstrip(": ")) from error
        try:
            version = msgspec.json.decode(said, type=_Said).versionInfo.version
            at = None if told is None else parsedate_to_datetime(told).timestamp()
        except (msgspec.DecodeError, ValueError) as error:
            raise SinkUnwell(f"{replica}: answers, but not as Alertmanager does: {error}") from error
        return Status(version, at)

    async def close(self) -> None:
        """Close connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            access = self._access
            headers = {"Content-Type": "application/json", "User-Agent": "tripline"}
            if access.bearer_token:
                headers["Authorization"] = f"Bearer {access.bearer_token}"
            elif access.username:
                pair = f"{access.username}:{access.password}".encode()
                headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
            self._session = aiohttp.ClientSession(
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=access.timeout_ms / 1000),
                connector=aiohttp.TCPConnector(ssl=_tls(access)),
                # No cookies are kept, and proxies of the environment are not used.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session


def connect(settings: config.Alertmanager, environment: Mapping[str, str]) -> AlertmanagerSink:
    """Sink as configured. Secrets are read here, from `environment` or their files (`ConfigurationError`)."""
    basic, token = settings.basic_auth, settings.bearer_token
    access = Access(
        timeout_ms=settings.timeout,
        username=basic.username if basic else "",
        password=basic.password.read(environment) if basic else "",
        bearer_token=token.read(environment) if token else "",
    )
    if (tls := settings.tls) is not None:
        access = replace(
            access,
            ca_file=tls.ca_file,
            certificate_file=tls.certificate_file,
            key_file=tls.key_file,
            key_password=tls.key_password.read(environment) if tls.key_password else None,
            check_hostname=tls.check_hostname,
        )
    return AlertmanagerSink(access)


def _tls(access: Access) -> ssl.SSLContext:
    """TLS with the system's authorities or `ca_file`; always verified, the name unless told otherwise."""
    context = ssl.create_default_context(cafile=access.ca_file)
    context.check_hostname = access.check_hostname
    if access.certificate_file:
        context.load_cert_chain(access.certificate_file, access.key_file, access.key_password)
    return context


def _unwanted(replica: str, status: int, said: str) -> SinkError:
    kind = SinkRefused if status in _BAD_CONTENT else SinkUnwell
    return kind(f"{replica}: HTTP {status}: {said}".rstrip(": "))


class _Version(msgspec.Struct):
    version: str


class _Said(msgspec.Struct):
    versionInfo: _Version
