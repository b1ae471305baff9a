"""The API: routes, start and stop. `uvicorn serving.app:create_app --factory` runs it.

GET  /                        the page
POST /v1/recommendations      one slate
POST /v1/events               what users did; 202 when it is on the disk
GET  /v1/items/{id}/similar   items like one item
GET  /v1/users                users with a history, for the page
GET  /v1/users/{id}           what is known about one user now
GET  /healthz /readyz /metrics
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Header, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from infra.logging import configure
from infra.settings import Settings
from models.manifest import is_trained
from monitoring.metrics import Metrics
from serving.deadline import Deadline
from serving.gate import Gate
from serving.moment import moment
from serving.people import people, sample_users
from serving.person import person
from serving.recommend import Asked, body
from serving.refusals import Refusal, install
from serving.runtime import Runtime
from serving.schemas import (
    MAX_K,
    AcceptedOut,
    Id,
    PersonOut,
    PostedEvents,
    ProblemsOut,
    RecommendationIn,
    SlateOut,
)
from serving.show import item, items
from serving.similar import similar
from serving.stopwatch import server_timing

STATIC = Path(__file__).with_name("static")
DEADLINE_MAX_MS = 1000
MAX_PEOPLE = 100


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application; it answers /healthz at once and loads bundle and store behind that."""
    configure()
    settings = settings or Settings()
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        runtime = app.state.runtime = Runtime.of(settings, metrics)
        watching = asyncio.create_task(runtime.watch())
        yield
        watching.cancel()
        await asyncio.to_thread(runtime.close)

    # FastAPI's own /docs page loads scripts from elsewhere; /openapi.json says the same.
    app = FastAPI(title="Shortlist", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.add_middleware(Gate, metrics=metrics, host=settings.host)
    install(app)
    app.include_router(api, responses={"4XX": {"model": ProblemsOut}})
    app.include_router(operations)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


async def _runtime(request: Request) -> Runtime:
    runtime: Runtime = request.app.state.runtime
    return runtime


Parts = Annotated[Runtime, Depends(_runtime)]
SaidNow = Annotated[str | None, Header(alias="X-Simulated-Now")]
SaidDeadline = Annotated[int | None, Header(alias="X-Deadline-Ms", ge=1, le=DEADLINE_MAX_MS)]

api = APIRouter(prefix="/v1")
operations = APIRouter(include_in_schema=False)


@api.post("/recommendations", response_model=SlateOut)
async def recommendations(
    wanted: RecommendationIn,
    parts: Parts,
    simulated_now: SaidNow = None,
    deadline_ms: SaidDeadline = None,
) -> Response:
    """One slate for one user, with the rung it came from and where the time went."""
    deadline = Deadline(deadline_ms or parts.settings.deadline_ms)
    bundle = parts.bundle()
    now = moment(parts.clock, simulated_now)
    context = wanted.context.known()
    asked = Asked(wanted.user_id, wanted.k, context, now, deadline, look=wanted.arm)
    answer = await parts.recommender.answer(bundle, asked)
    parts.outbox.put(answer)
    # A ready response: checking our own output against SlateOut again is a test's work.
    return JSONResponse(body(answer), headers={"Server-Timing": server_timing(answer.timings_ms)})


@api.post("/events", status_code=202, response_model=AcceptedOut)
async def events(posted: PostedEvents, parts: Parts, simulated_now: SaidNow = None) -> Any:
    """One event, or {"events": [...]}; 202 means that they are on the disk."""
    now = moment(parts.clock, simulated_now)
    return {"accepted": await parts.events.accept(posted, now, parts.current.bundle)}


@api.get("/items/{item_id:path}/similar")
async def similar_items(
    item_id: str, parts: Parts, k: Annotated[int, Query(ge=1, le=MAX_K)] = 10
) -> Any:
    """The items nearest to one item."""
    bundle = parts.bundle()
    item_ix = bundle.catalogue.index.get(item_id)
    if item_ix is None:
        raise Refusal(404, "item_id", f"not among the {len(bundle.titles)} items of the bundle")
    like = {**item(bundle, item_ix)}
    found = items(bundle, similar(bundle, item_ix, k))
    return {
        "bundle": bundle.id,
        "item": like,
        "items": [{**row, "reason": f"Like {like['title']}"} for row in found],
    }


@api.get("/users")
async def users(
    parts: Parts,
    simulated_now: SaidNow = None,
    limit: Annotated[int, Query(ge=1, le=MAX_PEOPLE)] = 30,
) -> Any:
    """Users with a history, and what they like."""
    bundle = parts.bundle()
    now = moment(parts.clock, simulated_now)
    return {
        "dataset": bundle.info.name,
        "bundle": bundle.id,
        "as_of": bundle.manifest["as_of"],
        "positive_types": bundle.info.positive_types,
        "users": await people(bundle, parts.reader, now, sample_users(parts.sample_users, limit)),
    }


@api.get("/users/{user_id:path}", response_model=PersonOut, responses={503: {"model": ProblemsOut}})
async def one_user(user_id: Id, parts: Parts, simulated_now: SaidNow = None) -> Any:
    """What is known about one user now; of an unknown one every view is missing."""
    return await person(parts.bundle(), parts.reader, user_id, moment(parts.clock, simulated_now))


@operations.get("/")
async def page() -> FileResponse:
    """The page."""
    return FileResponse(STATIC / "index.html")


@operations.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process runs. Nothing else is asked: a restart would not mend a missing bundle."""
    return {"status": "ok"}


@operations.get("/readyz")
async def readyz(parts: Parts) -> Response:
    """200 once a bundle answers; what is missing is named.

    `trained` is false for the popular list that a new shop answers from.
    """
    bundle, store = parts.current.bundle, parts.reader.store
    state = {
        "ready": parts.ready,
        "mode": parts.settings.mode,
        "bundle": bundle.id if bundle else None,
        "trained": bundle is not None and is_trained(bundle.manifest),
        "features": store is not None,
        "reasons": [parts.current.reason] * (bundle is None) + [parts.reader.reason] * (not store),
    }
    return JSONResponse(state, 200 if parts.ready else 503)


@operations.get("/metrics")
async def prometheus(parts: Parts) -> Response:
    """Prometheus' text format."""
    return Response(parts.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
