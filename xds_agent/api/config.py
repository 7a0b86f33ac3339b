"""serve.yml: what `xds-agent serve` needs to know, validated whole, one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

Port = Annotated[int, Field(ge=0, le=65535)]


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"{path} must be an absolute path")
    return path


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class ConfigError(Exception):
    """serve.yml cannot be used; the words name the file, the key and the fix."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listen(_Strict):
    """Address and port; port 0 takes any free one."""

    address: str = "0.0.0.0"
    port: Port


class Tls(_Strict):
    """This host's certificate (leaf and issuing CA), key, the trusted authorities and their CRLs."""

    certificate: AbsolutePath
    key: AbsolutePath
    ca: AbsolutePath
    crl: AbsolutePath | None = None


class IssuingCa(_Strict):
    certificate: AbsolutePath
    key: AbsolutePath


class Socket(_Strict):
    """One Unix socket; whoever is in `group` may speak for `tenants`."""

    path: AbsolutePath
    group: str | None = None
    tenants: Literal["all"] | list[str] = "all"


class ShadowConfig(_Strict):
    """Envoys on which every change is tried before any proxy sees it."""

    envoy: AbsolutePath
    # The one that `envoy` took the place of, for as long as proxies run it; need not be there.
    before: AbsolutePath | None = None
    directory: AbsolutePath = Path("/run/marchproxy/shadow")


class Peer(_Strict):
    """Another control host of the site: the name its certificate proves, and where it listens."""

    name: str
    address: str = Field(pattern=r"^\S+:\d+$")


class ServeConfig(_Strict):
    """All of serve.yml."""

    name: str
    trust_domain: str = "marchproxy.internal"
    grpc: Listen = Listen(port=18000)
    http: Listen = Listen(port=8000)
    tls: Tls
    state_dir: AbsolutePath = Path("/var/lib/marchproxy/serve")
    database: str = ""
    issuing_ca: IssuingCa | None = None
    shadow: ShadowConfig | None = None
    peers: list[Peer] = []
    sockets: list[Socket] = [Socket(path=Path("/run/marchproxy/control.sock"), group="marchproxy")]

    @model_validator(mode="after")
    def _several_share_a_database(self) -> ServeConfig:
        others = [peer.name for peer in self.peers if peer.name != self.name]
        if others and not self.database_url.startswith("postgresql"):
            raise ValueError(
                f"{', '.join(others)} cannot share a database that is a file here: with more than one "
                "control host set database: postgresql://... (role variable xds_agent_database)"
            )
        return self

    @property
    def database_url(self) -> str:
        return self.database or f"sqlite:///{self.state_dir}/control.db"

    @property
    def key_file(self) -> Path:
        return self.state_dir / "secret.key"


def load_config(path: Path) -> ServeConfig:
    """Read serve.yml. Raises ConfigError with every problem in it."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; roles/xds_agent writes this file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values, not {type(content).__name__}")
    try:
        return ServeConfig.model_validate(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in one['loc'])}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors()
        ]
        raise ConfigError(f"{path}: " + "; ".join(problems)) from error
