"""The operator's door, in a process of its own: `uvicorn serving.admin:create_app --factory`.

GET  /healthz           open to all
GET  /admin/status      what is current, what was before, what is published
POST /admin/rollback    back to the bundle before
POST /admin/promote     {"bundle": id}: on the operator's word

It touches the bundles folder and nothing else. The API's processes watch the same folder and follow
within a second; they know no operator, and nothing that reaches them can change a model.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel, ConfigDict, StringConstraints
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.routing import Mount, Route
from starlette.types import Scope

from features.errors import ContractError
from infra.admin_token import ensure, is_token, token_file
from infra.logging import configure
from infra.settings import Settings
from infra.workspace import Workspace
from models import versions
from models.manifest import read_manifest
from monitoring.metrics import Metrics
from serving.gate import Gate
from serving.refusals import Refusal, install

UNJUDGED = "published and whole; the gate was not asked: this is the operator's word"


def create_app(settings: Settings | None = None) -> Starlette:
    """The application; makes the token if there is none yet.

    Interview: How do you make sure that no admin route is ever open by mistake?
        Ask for the token in one place that every request must pass to reach the router at all, so
        that a new route, a misspelt path and a 404 are behind it too. A check per route is
        forgotten on the next route; a check by path prefix is walked around with `//admin` or an
        encoded slash, because the check and the router read the path differently.
        Trade-off: whatever is to be open (here the health check) needs an app of its own beside
        the door, and nobody without the token can tell a wrong path from a right one.
        Shown by: tests/serving/test_admin.py::test_nothing_but_the_health_check_answers_without_the_token
    """
    configure()
    settings = settings or Settings()
    path = token_file(settings)
    ensure(path)
    admin = FastAPI(title="Shortlist admin", docs_url=None, redoc_url=None)
    admin.state.bundles = Workspace.of(settings).bundles
    admin.state.moving = threading.Lock()
    install(admin)
    admin.include_router(routes)
    health = FastAPI(openapi_url=None)
    health.get("/healthz")(_healthz)
    checks: dict[str, Any] = {"metrics": Metrics(), "host": settings.host}
    return Starlette(
        routes=[
            Route("/healthz", Gate(health, **checks), methods=["GET"]),
            Mount("/", Gate(admin, **checks, admit=_holder_of(path))),
        ]
    )


def _holder_of(path: Path) -> Callable[[Scope], None]:
    """Lets in who carries the token that is in the file now."""

    def admit(scope: Scope) -> None:
        kind, _, said = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not is_token(path, said.strip().encode("latin-1")):
            structlog.get_logger().warning("admin refused", caller=_caller(scope))
            raise Refusal(
                401, "authorization", "expected: Bearer, and the token of `shortlist token`"
            )

    return admit


async def _healthz() -> dict[str, str]:
    """The process runs."""
    return {"status": "ok"}


def _bundles(request: Request) -> Path:
    root: Path = request.app.state.bundles
    return root


Bundles = Annotated[Path, Depends(_bundles)]
routes = APIRouter(prefix="/admin")


class PromoteIn(BaseModel):
    """Which published bundle is to answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


@routes.get("/status")
def status(bundles: Bundles) -> dict[str, Any]:
    """The pointer, and every published bundle, newest data first."""
    known = [_described(bundles, bundle_id) for bundle_id in versions.published(bundles)]
    known.sort(key=lambda bundle: bundle.get("as_of", ""), reverse=True)
    return {
        "current": versions.current(bundles),
        "previous": versions.previous(bundles),
        "published": known,
    }


@routes.post("/rollback")
def rollback(request: Request, bundles: Bundles) -> dict[str, Any]:
    """Point back to the bundle before; twice is forth again."""
    return _moved(request, "rollback", lambda: versions.rollback(bundles))


@routes.post("/promote")
def promote(wanted: PromoteIn, request: Request, bundles: Bundles) -> dict[str, Any]:
    """Point at a published bundle. Whether it is any good is not asked: `shortlist promote` does."""

    def point() -> str:
        try:
            versions.version_path(bundles, wanted.bundle)
        except ContractError:
            raise Refusal(404, "bundle", "not published; GET /admin/status lists what is") from None
        versions.point_to(bundles, wanted.bundle)
        return wanted.bundle

    return _moved(request, "promote", point) | {"note": UNJUDGED}


def _moved(request: Request, action: str, move: Callable[[], str]) -> dict[str, Any]:
    """Move the pointer, and leave a line that says who moved it from where to where."""
    root: Path = request.app.state.bundles
    with request.app.state.moving:  # it is read and then written
        left = versions.current(root)
        told = structlog.get_logger().bind(action=action, caller=_caller(request.scope), left=left)
        try:
            now = move()
        except (ContractError, Refusal) as error:
            told.error("admin", outcome="refused", reason=str(error))
            if isinstance(error, Refusal):
                raise
            raise Refusal(409, "bundle", str(error)) from error
        told.info("admin", outcome="done", bundle=now)
    return {"bundle": now, "left": left}


def _described(root: Path, bundle_id: str) -> dict[str, Any]:
    try:
        manifest = read_manifest(versions.version_path(root, bundle_id))
    except ContractError as error:
        return {"bundle": bundle_id, "damaged": str(error)}
    told = ("as_of", "trained_until", "items", "absent", "metrics")
    return {"bundle": bundle_id} | {name: manifest.get(name) for name in told}


def _caller(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else "unknown"
