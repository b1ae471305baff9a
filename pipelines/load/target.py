"""Whom the load is put on: whether that is allowed, who uses it, and what it spends on it."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from features.errors import ContractError, RecommenderError

KNOWN_MAX = 100
"""As many users as GET /v1/users gives at once."""

PROBES = 4
"""Behind a balancer, two replicas would hardly answer this many questions as one."""

OWN_HOST = "--i-own-this-host"


def origin(url: str, own_host: bool) -> str:
    """The address without its path, if load may be put on it.

    Args:
        url: http://host:port of the API.
        own_host: private addresses are allowed too; public ones never are.

    Raises:
        ContractError: no http address, an unknown host, or a host that may not be loaded.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ContractError(f"url {url!r}: expected an address such as http://127.0.0.1:8000")
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ContractError(f"url {url!r}: no such host ({error})") from error
    for address in {ip_address(str(entry[4][0]).partition("%")[0]) for entry in found}:
        if not _allowed(address, own_host):
            remedy = "run it inside that network" if own_host else f"if it is yours, say {OWN_HOST}"
            raise ContractError(
                f"{parts.hostname} is {address}: a load test of a stranger's host is an attack; "
                f"this one goes to loopback, and with {OWN_HOST} to private addresses; {remedy}"
            )
    return f"{parts.scheme}://{parts.netloc}"


def _allowed(address: IPv4Address | IPv6Address, own_host: bool) -> bool:
    """Link-local is left out: there, clouds keep the address that hands out credentials."""
    return address.is_loopback or (own_host and address.is_private and not address.is_link_local)


async def known_users(session: aiohttp.ClientSession) -> list[str]:
    """Ids of users with a history.

    Raises:
        RecommenderError: the API does not answer, or not with users.
    """
    try:
        async with session.get("/v1/users", params={"limit": KNOWN_MAX}) as answer:
            answer.raise_for_status()
            return [str(user["user_id"]) for user in (await answer.json())["users"]]
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
        kind = f"status {error.status}" if isinstance(error, aiohttp.ClientResponseError) else error
        raise RecommenderError(
            f"GET /v1/users gave no users ({kind}); is the API up and ready? see its /readyz"
        ) from error


@dataclass(frozen=True, slots=True)
class Process:
    """What /metrics says of the process that answers."""

    started_s: float
    cpu_s: float


async def processes(session: aiohttp.ClientSession) -> list[Process] | str:
    """One reading per probe, in order; or why there is none."""
    found = []
    for _ in range(PROBES):
        try:
            async with session.get("/metrics") as answer:
                if answer.status != 200:
                    return f"/metrics is not to be had here (status {answer.status})"
                found.append(_process(await answer.text()))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"/metrics is not to be had here ({type(error).__name__})"
        except (ValueError, KeyError):
            return "/metrics says nothing of the process (only Linux does)"
    return found


def cpu_ms_per_request(
    before: list[Process] | str, after: list[Process] | str, requests: int
) -> tuple[float | None, str | None]:
    """CPU time of the API's process by request, or None and why."""
    if isinstance(before, str) or isinstance(after, str):
        return None, before if isinstance(before, str) else str(after)
    if len({one.started_s for one in [*before, *after]}) > 1:
        return None, "several processes answer, or one was started anew: whose time would it be?"
    if requests == 0:
        return None, "no request was answered"
    return round((after[0].cpu_s - before[-1].cpu_s) * 1000 / requests, 3), None


def _process(text: str) -> Process:
    samples = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("process_")
    }
    return Process(samples["process_start_time_seconds"], samples["process_cpu_seconds_total"])
