"""The only reader of the environment: one frozen `Settings`, variables named TUNESMITH_NAME."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

PREFIX = "TUNESMITH_"


class SettingsError(Exception):
    """A setting is missing or malformed; the message names each variable."""


class Settings(BaseModel):
    """Everything a process of ours may be told. Field `x_y` is read from `TUNESMITH_X_Y`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    database_url: SecretStr = Field(description="postgresql://… of Postgres 14 or newer")
    redis_url: SecretStr = Field(description="redis://… or redis+socket://… used as Celery's broker")
    artifacts_url: str = Field(description="file:///folder or s3://bucket/prefix: where bytes live")
    bases_dir: Path = Field(description="folder that holds one folder for each base model")
    scratch_dir: Path = Field(description="folder for work in progress; may be lost at any time")
    scratch_min_free_bytes: int = Field(
        default=500 * 1000 * 1000,
        ge=0,
        description="with less room than this on the disk of the scratch folder a worker claims no job",
    )
    server_url: str | None = Field(default=None, description="private address of the serving engine")
    server_token: SecretStr | None = Field(default=None, description="bearer token of the serving engine")
    organization: str = Field(default="tunesmith", pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    max_file_bytes: int = Field(default=512 * 1024 * 1024, gt=0)
    max_body_bytes: int = Field(default=8 * 1024 * 1024, gt=0, description="of JSON requests")
    lease_seconds: int = Field(default=30, ge=5)
    heartbeat_seconds: float = Field(default=2.0, gt=0)
    tick_seconds: float = Field(default=2.0, gt=0, description="period of the control role")
    max_attempts: int = Field(default=3, ge=1, description="crashed attempts before a job fails")
    max_losses: int = Field(default=10, ge=1, description="workers lost under a job before it fails")
    preempt_after_seconds: float = Field(
        default=300.0, ge=0, description="a job runs so long before it makes way for a higher claim, and between times"
    )
    seats_per_worker: int = Field(
        default=4, ge=1, le=64, description="jobs that ride together on one GPU, if they are small and of one base"
    )
    seat_max_seconds: float = Field(
        default=900.0, ge=0, description="a job that is expected to take longer alone rides alone"
    )
    engine_threads: int | None = Field(default=None, ge=1, description="CPU threads; default: one for each core")
    engine_dtype: Literal["bfloat16", "float32"] | None = Field(
        default=None, description="of the base; default: bfloat16 where the device computes in it"
    )
    webhook_allowed_hosts: str = Field(
        default="", description="host or host:port, separated by commas: webhooks may go there though private or http"
    )
    webhook_disable_after_days: float = Field(default=5.0, gt=0, description="without one success")
    public_url: str | None = Field(
        default=None, pattern=r"^https?://[^/\s?#]+$", description="how browsers reach the API; needed for log-ins"
    )
    oidc_issuer: str | None = Field(
        default=None, pattern=r"^https?://[^\s?#]+$", description="OpenID provider whose people may log in"
    )
    oidc_client_id: str | None = Field(default=None, description="of this installation at the provider")
    oidc_client_secret: SecretStr | None = Field(default=None, description="none for a public client")
    oidc_scopes: str = Field(default="openid email profile", pattern=r"^(.* )?openid( .*)?$")
    oidc_verified_claim: str = Field(
        default="email_verified", min_length=1, description="claim that is true where the email address is verified"
    )
    oidc_groups_claim: str = Field(default="groups", min_length=1)
    oidc_roles: str = Field(
        default="",
        pattern=r"^([^=,]+=[a-z0-9][a-z0-9-]*:(viewer|trainer|admin|operator)(,|$))*$",
        description="what groups give: group=team:role, separated by commas; nothing: members are invited one by one",
    )
    session_hours: float = Field(default=12.0, gt=0, le=24 * 30, description="until a person must log in again")
    currency: str = Field(default="usd", pattern=r"^[a-z]{3}$", description="of all prices and costs")
    device_watts: str = Field(
        default="cpu=65,cuda=350",
        pattern=r"^([^=,]+=[0-9]+(\.[0-9]+)?(,|$))*$",
        description="by kind of device, separated by commas: what one draws under load, for estimates of energy",
    )
    database_pool_size: int = Field(default=10, ge=1)
    shared_look_seconds: float = Field(
        default=1.0,
        ge=0,
        description="for so long the requests of a process share a look at the whole pool: the queue before a job, "
        "the workers and earlier jobs that an estimate rests on",
    )
    s3_endpoint_url: str | None = None

    @model_validator(mode="after")
    def _log_in_is_whole(self) -> Self:
        if self.oidc_issuer is None:
            return self
        if self.oidc_client_id is None or self.public_url is None:
            raise ValueError("TUNESMITH_OIDC_ISSUER needs TUNESMITH_OIDC_CLIENT_ID and TUNESMITH_PUBLIC_URL beside it")
        host = re.split(r"[:/]", self.oidc_issuer.partition("://")[2])[0]
        if not self.oidc_issuer.startswith("https://") and host not in {"localhost", "127.0.0.1"}:
            raise ValueError("TUNESMITH_OIDC_ISSUER must begin with https://")
        return self


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings from the environment; unknown TUNESMITH_ variables are refused by name."""
    source = os.environ if environment is None else environment
    values = {
        name.removeprefix(PREFIX).lower(): value
        for name, value in source.items()
        if name.startswith(PREFIX) and name.removeprefix(PREFIX).lower() not in NOT_SETTINGS
    }
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{PREFIX}{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            if fault["loc"]
            else fault["msg"]
            for fault in error.errors()
        )
        raise SettingsError(f"The settings are incomplete or wrong. {faults}") from error


# Read by the command line on the client's side, not by the service.
NOT_SETTINGS = frozenset({"base_url", "api_key", "data_dir", "test_cache", "test_smollm2"})


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables that make another process read the same settings."""
    result: dict[str, str] = {}
    for name, value in settings:
        if value is None:
            continue
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        result[f"{PREFIX}{name.upper()}"] = text
    return result
