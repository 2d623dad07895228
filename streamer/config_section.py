"""What every part of the file is made of: frozen sections, and secrets that stand elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

from schemas.errors import ConfigurationError
from streamer.config_fields import Beside


class Section(BaseModel):
    """A part of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(Section):
    """Where a secret is; never the secret itself, so that no file, log or error can show it."""

    env: str | None = None
    file: Beside | None = None

    @model_validator(mode="before")
    @classmethod
    def _reference_only(cls, value: object) -> object:
        if not isinstance(value, dict) or len(value) != 1:
            raise ValueError("must be {env: NAME} or {file: PATH}: a secret does not stand in this file")
        return value

    def read(self, environment: Mapping[str, str]) -> str:
        """The secret. `environment` comes from the composition root. `ConfigurationError` when it is not there."""
        if self.env is not None:
            if self.env not in environment:
                raise ConfigurationError(f"the environment has no {self.env}")
            return environment[self.env]
        try:
            return Path(self.file or "").read_text(encoding="utf-8").strip()
        except OSError as error:
            raise ConfigurationError(f"secret file {self.file}: {error.strerror}") from error
