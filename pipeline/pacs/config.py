"""The configuration of `pneumoseg listen`: one YAML file, checked before the first association."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    ValidationError,
    model_validator,
)

from pneumoseg.pipeline.core.config_files import read_yaml
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.model.catalogue import DEFAULT, find_model

CREDENTIALS: Final = "PNEUMOSEG_DICOMWEB"
"""Prefix of the environment variables with the credentials of a DICOMweb server; see `dicomweb.credentials_of`."""
_PROBLEMS: Final = {"extra_forbidden": "is no key that is known here", "missing": "is missing"}
"""Errors of pydantic by their type, in words for somebody who has written YAML."""


def _as_tuple(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _is_ae_title(text: str) -> str:
    if not text.strip() or not text.isascii() or not text.isprintable() or "\\" in text:
        raise ValueError("an AE title has 1 to 16 printable ASCII characters without a backslash")
    return text.strip()


AETitle = Annotated[str, Field(max_length=16), AfterValidator(_is_ae_title)]
Port = Annotated[int, Field(ge=1, le=65535)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_as_tuple)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]
OutputKind = Literal["seg", "sr", "sc", "gsps"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class ServerTls(_Section):
    """Certificate of the listener, and the authorities that sign the certificates of its peers.

    Attributes:
        certificate: PEM file with the certificate and its chain.
        key: PEM file with the private key.
        client_authorities: PEM file with the authorities of client certificates; without it no certificate is required.
    """

    certificate: Path
    key: Path
    client_authorities: Path | None = None


class ClientTls(_Section):
    """Authorities of a destination's certificate, and the certificate to show to it.

    Attributes:
        authorities: PEM file with the authorities that sign the certificate of the destination.
        certificate: PEM file with the client certificate.
        key: PEM file with its private key.
    """

    authorities: Path
    certificate: Path | None = None
    key: Path | None = None


class Peer(_Section):
    """A system that may open associations.

    Attributes:
        ae_title: Its AE title.
        address: Its IP address, or a network such as 10.1.2.0/24.
    """

    ae_title: AETitle
    address: IPvAnyNetwork


class DicomDestination(_Section):
    """A system that results are sent to by C-STORE.

    Attributes:
        ae_title: Its AE title.
        host: Name or address.
        port: Port of its DICOM interface.
        tls: TLS settings; None sends without encryption.
        commitment: Whether to request storage commitment where the system offers it.
    """

    protocol: Literal["dicom"]
    ae_title: AETitle
    host: str
    port: Port
    tls: ClientTls | None = None
    commitment: bool = True


class WebDestination(_Section):
    """A system that results are sent to by STOW-RS.

    Attributes:
        url: Root of its DICOMweb services, such as https://pacs.example/dicom-web.
        credentials: Prefix of the environment variables with its credentials; several destinations need several.
        authorities: PEM file with the authorities that sign its certificate; None uses those of the system.
    """

    protocol: Literal["dicomweb"]
    url: Annotated[str, Field(pattern=r"^https?://[^\s@]+$")]
    credentials: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]*$")] = CREDENTIALS
    authorities: Path | None = None


Destination = Annotated[DicomDestination | WebDestination, Field(discriminator="protocol")]


class Rule(_Section):
    """What to do with images; the first rule that matches an image decides.

    An empty condition matches all images. A condition is a pattern with ``*`` and ``?``, or a list of patterns one of
    which has to match; case is ignored.

    Attributes:
        name: Name of the rule, for the log.
        ae: AE title of the sender.
        modality: Modality.
        view: View: AP or PA, from View Position or else View Code Sequence.
        body_part: Body part, from Body Part Examined or else Anatomic Region Sequence.
        study_description: Study Description.
        run: Whether to analyse; images of a rule without are acknowledged and not kept.
        outputs: Kinds of results.
        send_to: Names of the destinations.
    """

    name: Name
    ae: Texts = ()
    modality: Texts = ()
    view: Texts = ()
    body_part: Texts = ()
    study_description: Texts = ()
    run: bool = True
    outputs: Annotated[tuple[OutputKind, ...], BeforeValidator(_as_tuple)] = ("seg", "sr", "sc")
    send_to: Texts = ()

    @model_validator(mode="after")
    def _has_results(self) -> Self:
        if self.run and not (self.outputs and self.send_to):
            raise ValueError("a rule that runs needs `outputs` and `send_to`; `run: false` needs neither")
        return self


class Analysis(_Section):
    """How to use the model: the options of `pneumoseg predict` of the same names.

    Attributes:
        model: Model folder written by `pneumoseg train`, or the name of a model of the package.
    """

    model: Path = Path(DEFAULT)
    operating_point: str | None = None
    tta: str | None = None
    calibrated: bool = False
    device: str = "auto"
    batch_size: Annotated[int, Field(ge=1)] = 1
    workers: Annotated[int, Field(ge=1)] = 1
    threads: Annotated[int, Field(ge=1)] | None = None
    any_view: bool = False
    any_modality: bool = False
    any_body_part: bool = False
    uid_root: str | None = None


class Limits(_Section):
    """Bounds on memory, disk and time.

    Attributes:
        associations: Simultaneous associations; more are rejected with a transient reason.
        object_mb: Largest object in MiB. Memory for receiving is at most twice this for each association.
        spool_gb: Largest sum of received images on disk in GiB; beyond it, images are refused as out of resources.
        free_gb: Free disk space in GiB below which images are refused.
        timeout_s: Seconds after which a silent or slow association is ended.
    """

    associations: Annotated[int, Field(ge=1, le=200)] = 20
    object_mb: Annotated[float, Field(gt=0, le=1024)] = 64
    spool_gb: Annotated[float, Field(gt=0)] = 50
    free_gb: Annotated[float, Field(ge=0)] = 2
    timeout_s: Annotated[float, Field(gt=0)] = 30


class Retry(_Section):
    """Waiting times between attempts, which double up to the longest one; attempts never end.

    Attributes:
        first_s: Seconds before the second attempt.
        longest_s: Largest number of seconds between two attempts.
        commitment_h: Hours to wait for storage commitment before a warning, after which a result counts as delivered.
    """

    first_s: Annotated[float, Field(gt=0)] = 5
    longest_s: Annotated[float, Field(gt=0)] = 600
    commitment_h: Annotated[float, Field(gt=0)] = 24


class Monitor(_Section):
    """Where ``/healthz`` and ``/metrics`` are served; the default is open to this machine only."""

    host: str = "127.0.0.1"
    port: Port = 9108


class ListenConfig(_Section):
    """The whole configuration.

    Attributes:
        ae_title: Own AE title, which peers have to call.
        host: Address to listen on; the default is all of the machine.
        port: Port to listen on.
        tls: TLS settings; None listens without encryption.
        spool: Folder for received images, results and logs, on a local disk.
        peers: Systems that may open associations: image senders, and archives that report storage commitment.
        destinations: Systems that results are sent to, by name.
        rules: What to do with images, in order.
        analysis: How to use the model.
        quiet_s: Seconds without a new image after which a study is analysed.
        retention_h: Hours for which a study that is complete, its images and its results stay in the spool.
        limits: Bounds on memory, disk and time.
        retry: Waiting times between attempts.
        monitor: Health and metrics; None serves neither.
    """

    ae_title: AETitle = "PNEUMOSEG"
    host: str = "0.0.0.0"  # noqa: S104  (a receiver is called from elsewhere; only named peers are let in)
    port: Port = 11112
    tls: ServerTls | None = None
    spool: Path
    peers: Annotated[tuple[Peer, ...], Field(min_length=1)]
    destinations: Annotated[dict[Name, Destination], Field(min_length=1)]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]
    analysis: Analysis = Analysis()
    quiet_s: Annotated[float, Field(ge=0)] = 30
    retention_h: Annotated[float, Field(ge=0)] = 24
    limits: Limits = Limits()
    retry: Retry = Retry()
    monitor: Monitor | None = Monitor()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [rule.name for rule in self.rules]
        if repeated := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"rules: the name {min(repeated)} occurs twice; each rule needs its own")
        for rule in self.rules:
            if unknown := [name for name in rule.send_to if name not in self.destinations]:
                raise ValueError(
                    f"rules.{rule.name}.send_to: {unknown[0]} is none of the destinations, "
                    f"{', '.join(self.destinations)}"
                )
        return self


def load_listen_config(path: str | Path) -> ListenConfig:
    """Read and check a configuration; relative paths in it start at the folder of the file.

    Args:
        path: YAML file.

    Raises: UsageError: If the file, a key or a value is not valid.
    """
    content = read_yaml(path)
    try:
        config = ListenConfig.model_validate(content)
    except ValidationError as error:
        # a misspelt key comes first, since the right one is then missing
        first = min(error.errors(), key=lambda each: each["type"] != "extra_forbidden")
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        what = _PROBLEMS.get(first["type"], first["msg"].removeprefix("Value error, "))
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise UsageError(f"{path}: {place}: {what}{more}") from None
    folder = Path(path).absolute().parent
    model = find_model(config.analysis.model.expanduser(), within=folder)
    located = config.model_copy(update=_located(config, folder))
    return located.model_copy(update={"analysis": located.analysis.model_copy(update={"model": model})})


def _located(section: BaseModel, folder: Path) -> Mapping[str, Any]:
    """List the values of a section whose relative paths have to be changed."""
    changed: dict[str, Any] = {}
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Path):
            changed[name] = folder / value.expanduser()
        elif isinstance(value, BaseModel):
            changed[name] = value.model_copy(update=_located(value, folder))
        elif isinstance(value, dict):
            changed[name] = {
                key: item.model_copy(update=_located(item, folder)) for key, item in value.items()
            }
    return changed
