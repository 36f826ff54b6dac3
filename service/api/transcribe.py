"""`POST /transcribe`: a file in, its words out, at the depth asked for."""

import asyncio
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from service.api.entrance import caller_of
from service.api.examples import BODY, RESPONSES
from service.api.formats import Format, headers_of, render
from service.api.models import choice_for_model
from service.api.races import unless, until_gone
from service.api.tiers import Privileges
from service.api.uploads import UploadLimits, read_upload
from service.engine.base import AUTO
from service.metrics import Metrics
from service.scheduling.admission import UploadMemory
from service.scheduling.clock import Clock
from service.scheduling.depth import parse_choice
from service.scheduling.files import Transcriber
from service.scheduling.hotwords import expect_support, parse_hotwords
from service.scheduling.transcripts import Transcript

ENDPOINT = "transcribe"


class TranscribeQuery(BaseModel):
    """The query of `POST /transcribe`; unknown parameters are refused."""

    model_config = ConfigDict(extra="forbid")

    drop: str = Field(
        AUTO,
        description="Share of the encoder's depth to give up: a number in [0, 1), honoured exactly "
        "or refused, or `auto`, which leaves it to the server.",
        examples=["auto", "0", "0.5", "0.75"],
    )
    max_drop: str | None = Field(
        None,
        description="The largest drop the caller accepts: a number in [0, 1).",
        examples=["0.5"],
    )
    policy: str = Field(
        "ladder",
        description="How a budget becomes a plan; `GET /v1/models` lists the names.",
        examples=["ladder", "skip"],
    )
    hotwords: str = Field(
        "",
        description="Words or names that may come, between commas: at most 100 of 64 characters. "
        "Where the decoder nearly writes one, it does.",
        examples=["Kovalenko,Grafana"],
    )
    format: Format = Field("json", description="Form of the answer.")
    model: str | None = Field(
        None,
        description="The model served or an alias of it; an alias sets the drop where `drop` does "
        "not.",
        examples=["moonshine-base-elastic-drop50"],
    )


@dataclass(frozen=True, slots=True)
class TranscribeRoute:
    """What the route works with."""

    transcriber: Transcriber
    privileges: Privileges
    memory: UploadMemory
    limits: UploadLimits
    metrics: Metrics
    clock: Clock

    async def answer(self, request: Request, query: TranscribeQuery) -> Response:
        """Read the upload, transcribe it, and write the answer."""
        transcriber, admission = self.transcriber, self.transcriber.admission
        with admission.enter(), self.memory.lease() as lease:
            asked = parse_choice(query.drop, query.max_drop, query.policy)
            choice = choice_for_model(query.model, asked, transcriber.info)
            hotwords = parse_hotwords(query.hotwords)
            expect_support(hotwords, transcriber.info)
            # A depth that is not on offer is refused before the upload, not after it.
            self.privileges.check_depth(caller_of(request.scope), choice)
            started_s = self.clock()
            source = await unless(
                read_upload(request.headers, request.stream(), lease, self.limits),
                admission.until_cut_off(),
            )
            upload_s = self.clock() - started_s
            transcript = await unless(
                transcriber.transcribe(source, choice, endpoint=ENDPOINT, hotwords=hotwords),
                until_gone(request),
                admission.until_cut_off(),
            )
            # Hours of words take a while to write, so that is no work for the event loop either.
            rendered = await asyncio.to_thread(render, transcript, query.format, upload_s=upload_s)
            self._book(transcript, self.clock() - started_s)
            headers = headers_of(transcript, upload_s=upload_s)
        return Response(rendered.body, media_type=rendered.media_type, headers=headers)

    def _book(self, transcript: Transcript, took_s: float) -> None:
        depth = self.transcriber.info.depth_label(transcript.plan)
        self.metrics.requests.duration.labels(ENDPOINT, depth).observe(took_s)


def transcribe_router(route: TranscribeRoute) -> APIRouter:
    """Make the route."""
    router = APIRouter(tags=["transcription"])
    extra: dict[str, Any] = {"requestBody": BODY}  # Any: OpenAPI's JSON

    @router.post(
        "/transcribe",
        summary="Transcribe a recording",
        response_class=Response,
        responses=RESPONSES,
        openapi_extra=extra,
    )
    async def transcribe(request: Request, query: Annotated[TranscribeQuery, Query()]) -> Response:
        """Transcribe wav, flac, mp3, ogg, opus, webm or m4a of any rate.

        Send the file as the multipart part `file`, or as the body itself. The answer's headers say
        which depth was used and what it cost.
        """
        return await route.answer(request, query)

    return router
