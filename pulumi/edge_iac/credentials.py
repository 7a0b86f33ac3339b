"""Whether the clouds of a site can be reached at all: said before anything is made, in words that help.

Only looks at the environment and at files; asking the cloud is the provider's own business.
"""

from __future__ import annotations

import configparser
from collections.abc import Mapping
from pathlib import Path

from edge_iac.site import AwsSite, AzureSite, GcpSite, Site

SKIP = "EDGE_SKIP_CREDENTIALS"
"""Variable that leaves the look-out, for simulated clouds and machines that have an identity of their own."""


def lacking(site: Site, environment: Mapping[str, str], home: Path) -> list[str]:
    """What was looked for and not found, a sentence per cloud."""
    if environment.get(SKIP) == "1":
        return []
    looks = {
        "aws": lambda said: _aws(said, environment, home),
        "gcp": lambda said: _gcp(said, environment, home),
        "azure": lambda said: _azure(said, environment, home),
    }
    found = []
    for cloud, said in site.clouds.named().items():
        if sentence := looks[cloud](said):
            found.append(f"{cloud}: {sentence}; on a machine with an identity of its own set {SKIP}=1")
    return found


def _aws(said: AwsSite, environment: Mapping[str, str], home: Path) -> str | None:
    profile = said.profile or environment.get("AWS_PROFILE")
    shared = Path(environment.get("AWS_SHARED_CREDENTIALS_FILE") or home / ".aws/credentials")
    config = Path(environment.get("AWS_CONFIG_FILE") or home / ".aws/config")
    if profile is None and {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} <= environment.keys():
        return None
    if profile is None and "AWS_WEB_IDENTITY_TOKEN_FILE" in environment:
        return None
    wanted = profile or "default"
    if wanted in _sections(shared) or {wanted, f"profile {wanted}"} & _sections(config):
        return None
    if profile is not None:
        return (
            f"no profile '{profile}' in {shared} or {config}; "
            f"make it with `aws configure sso --profile {profile}`, or change clouds.aws.profile"
        )
    return (
        f"no AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, no AWS_PROFILE, no profile 'default' in {shared} "
        f"or {config}; run `aws configure`, or name clouds.aws.profile"
    )


def _gcp(said: GcpSite, environment: Mapping[str, str], home: Path) -> str | None:
    if environment.get("GOOGLE_CREDENTIALS") or environment.get("GOOGLE_OAUTH_ACCESS_TOKEN"):
        return None
    if named := environment.get("GOOGLE_APPLICATION_CREDENTIALS"):
        if Path(named).is_file():
            return None
        return f"GOOGLE_APPLICATION_CREDENTIALS names {named}, which is not there"
    known = home / ".config/gcloud/application_default_credentials.json"
    if known.is_file():
        return None
    return (
        f"no GOOGLE_CREDENTIALS, no GOOGLE_APPLICATION_CREDENTIALS, no {known}; "
        "run `gcloud auth application-default login`"
    )


def _azure(said: AzureSite, environment: Mapping[str, str], home: Path) -> str | None:
    own = {"ARM_CLIENT_ID", "ARM_TENANT_ID"} <= environment.keys()
    if own and ({"ARM_CLIENT_SECRET", "ARM_CLIENT_CERTIFICATE_PATH", "ARM_USE_OIDC"} & environment.keys()):
        return None
    if environment.get("ARM_USE_MSI", "").lower() == "true":
        return None
    folder = Path(environment.get("AZURE_CONFIG_DIR") or home / ".azure")
    if (folder / "azureProfile.json").is_file():
        return None
    return (
        f"no ARM_CLIENT_ID, ARM_TENANT_ID and ARM_CLIENT_SECRET, no login of the Azure CLI in {folder}; "
        "run `az login`"
    )


def _sections(path: Path) -> set[str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError):
        return set()
    return set(parser.sections())
