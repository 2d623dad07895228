"""The parts of the file that say what a worker is connected with: Kafka, Alertmanager, the metrics page."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from streamer.config_fields import Beside, Duration, Flag, Int, Name, Server, Url, many
from streamer.config_section import Secret, Section


class Tls(Section):
    """TLS to a server. Without `ca_file` the system's authorities are trusted."""

    ca_file: Beside | None = None
    certificate_file: Beside | None = None
    key_file: Beside | None = None
    key_password: Secret | None = None
    check_hostname: Flag = True


class Sasl(Section):
    """SASL to Kafka."""

    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str
    password: Secret


class Inputs(Section):
    """Names of the input topics; `null` where there is none."""

    predictions: str | None = "predictions"
    features: str | None = "features"
    outcomes: str | None = "outcomes"


class Kafka(Section):
    """The broker, and what our topics are called there."""

    bootstrap_servers: Annotated[
        list[Server], Field(min_length=1), BeforeValidator(many, json_schema_input_type=list[Server] | Server)
    ]
    app: Name = Field(default="tripline", description="Prefix of groups, transactional ids and changelogs.")
    topic_prefix: str = Field(default="", description="Put before every topic but the inputs.")
    inputs: Inputs = Inputs()
    profiles_partitions: Annotated[Int, Field(ge=1, le=256)] = Field(default=8, description="Fixed at creation.")
    linger: Duration = Field(default=100, description="How long a batch waits for more events.")
    broker_timeout: Annotated[Duration, Field(ge=1_000)] = Field(
        default=60_000, description="How long a worker waits for a broker that is away."
    )
    session_timeout: Annotated[Duration, Field(ge=1_000)] = Field(
        default=10_000, description="How long the others wait for a worker that is away before they take its tasks."
    )
    tls: Tls | None = None
    sasl: Sasl | None = None


class BasicAuth(Section):
    """HTTP basic authentication."""

    username: str
    password: Secret


class Alertmanager(Section):
    """Every replica is addressed on its own."""

    urls: list[Url] = Field(min_length=1)
    basic_auth: BasicAuth | None = None
    bearer_token: Secret | None = None
    tls: Tls | None = None
    timeout: Duration = 10_000
    resend: Duration = Field(default=60_000, description="How often a firing incident is sent again.")

    @model_validator(mode="after")
    def _one_way_in(self) -> Alertmanager:
        if self.basic_auth and self.bearer_token:
            raise ValueError("basic_auth and bearer_token exclude each other")
        return self


class Metrics(Section):
    """Where `/metrics`, `/healthz` and `/readyz` listen."""

    host: str = "127.0.0.1"
    port: Annotated[Int, Field(ge=0, le=65535)] = 9464
    bearer_token: Secret | None = Field(default=None, description="What a client of /metrics must show.")
