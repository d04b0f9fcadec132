"""Receive images by C-STORE from named peers, and answer C-ECHO; an image is acknowledged once it is on disk."""

import logging
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from threading import Thread
from typing import Final

from pydantic import IPvAnyNetwork
from pydicom import uid
from pydicom.dataset import Dataset
from pynetdicom import AE, _config, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from pneumoseg.pipeline.core.errors import JobError
from pneumoseg.pipeline.pacs.audit import Audit
from pneumoseg.pipeline.pacs.config import ListenConfig, Rule, ServerTls
from pneumoseg.pipeline.pacs.dicomweb import DUPLICATE
from pneumoseg.pipeline.pacs.guard import PDU_BYTES, GuardedServer
from pneumoseg.pipeline.pacs.metrics import Metrics
from pneumoseg.pipeline.pacs.rules import ImageFacts, find_rule, read_image_facts
from pneumoseg.pipeline.pacs.spool import OtherContentError, Spool, SpoolFullError
from pneumoseg.pipeline.results.dicom.source import SOP_CLASSES
from pneumoseg.transforms.reader.reasons import RadiographError

TRANSFER_SYNTAXES: Final = (
    uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian, uid.JPEGLSLossless, uid.JPEGLosslessSV1, uid.JPEGLossless,
    uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.HTJ2KLosslessRPCL, uid.RLELossless, uid.DeflatedExplicitVRLittleEndian,
    uid.ExplicitVRBigEndian, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000,
    uid.HTJ2K,
)  # fmt: skip
"""Transfer syntaxes that are accepted: those that the reader decodes."""

SUCCESS: Final = 0x0000
NO_SUCH_TRANSACTION: Final = 0x0112
NO_ROOM: Final = 0xA700
OTHER_CLASS: Final = 0xA900
NOT_UNDERSTOOD: Final = 0xC000
"""Status of a response to C-STORE or N-EVENT-REPORT (PS3.4 table B.2-1 and PS3.7 annex C)."""

_MIB: Final = 2**20
_COMMAND_BYTES: Final = 2**14  # of the command that comes with an object
_NAMED: Final = 5  # SOP classes in a line of the log; some peers offer a hundred
_POLL_S: Final = 0.1  # between looks whether to end
_ENDING_S: Final = 5.0  # for associations to end by themselves when the listener ends
_REJECTION: Final = (0x01, 0x01, 0x03)  # permanent, by the service user, calling AE title not recognised

CommitmentReport = Callable[[evt.Event], tuple[int, Dataset | None]]
"""Take an N-EVENT-REPORT about storage commitment; returns the status of the response, and no data set."""


class RefusedError(Exception):
    """An image is refused.

    Args:
        status: Status of the response.
        kind: Kind of the refusal, of `metrics.REFUSALS`.
        why: Reason, without identifiers.
    """

    def __init__(self, status: int, kind: str, why: str) -> None:
        super().__init__(why)
        self.status = status
        self.kind = kind


class Receiver:
    """The service class provider of the listener.

    Args:
        config: Configuration of the listener.
        spool: Spool for the images.
        audit: Audit log.
        metrics: Metrics.
        on_commitment: Takes reports of storage commitment.
    """

    def __init__(
        self,
        config: ListenConfig,
        spool: Spool,
        audit: Audit,
        metrics: Metrics,
        on_commitment: CommitmentReport,
    ) -> None:
        self.config = config
        self.spool = spool
        self.audit = audit
        self.metrics = metrics
        self._on_commitment = on_commitment
        self._object_bytes = int(config.limits.object_mb * _MIB)
        self._server: GuardedServer | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Accept associations while the context lasts.

        Raises: JobError: If the port cannot be used, or a certificate cannot be read.
        """
        config = self.config
        silence_pynetdicom()
        entity = AE(ae_title=config.ae_title)
        entity.maximum_pdu_size = PDU_BYTES
        entity.maximum_associations = config.limits.associations
        entity.require_called_aet = True
        entity.require_calling_aet = sorted({peer.ae_title for peer in config.peers})
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = config.limits.timeout_s
        entity.add_supported_context(Verification)
        entity.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
        for sop_class in SOP_CLASSES:
            entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
        tls = None if config.tls is None else server_context(config.tls)
        try:
            server = entity.make_server(
                (config.host, config.port),
                evt_handlers=[
                    (evt.EVT_REQUESTED, self._check_peer),
                    (evt.EVT_REJECTED, self._note_rejection),
                    (evt.EVT_ACCEPTED, self._note_contexts),
                    (evt.EVT_C_ECHO, lambda _: SUCCESS),
                    (evt.EVT_C_STORE, self._store),
                    (evt.EVT_N_EVENT_REPORT, self._on_commitment),
                ],
                server_class=GuardedServer,
                may_connect=self._may_connect,
                refuse=self._refuse_connection,
                object_bytes=self._object_bytes + _COMMAND_BYTES,
                timeout_s=config.limits.timeout_s,
                tls=tls,
            )
        except OSError as error:
            raise JobError(
                f"{config.host}:{config.port} cannot be listened on ({error.strerror}); name another port or host"
            ) from None
        assert isinstance(server, GuardedServer)  # noqa: S101  (it was asked for)
        self._server = server
        entity._servers.append(server)  # its shutdown removes it from there
        thread = Thread(target=server.serve_forever, args=(_POLL_S,), name="receiver", daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            self._end_associations(server)

    @property
    def associations(self) -> int:
        """Number of open associations."""
        return len(self._server.active_associations) if self._server else 0

    @staticmethod
    def _end_associations(server: GuardedServer) -> None:
        end = time.monotonic() + _ENDING_S
        while server.active_associations and time.monotonic() < end:
            time.sleep(0.02)
        for association in server.active_associations:
            association.abort()

    def _may_connect(self, address: str) -> bool:
        return any(_is_in(address, peer.address) for peer in self.config.peers)

    def _check_peer(self, event: evt.Event) -> None:
        """Reject an association whose AE title is not that of its address."""
        association = event.assoc
        request = association.requestor.primitive
        title = str(getattr(request, "calling_ae_title", None) or "").strip()
        address = association.requestor.address
        if not any(peer.ae_title == title and _is_in(address, peer.address) for peer in self.config.peers):
            association.acse.send_reject(*_REJECTION)
            association.kill()
            self._refuse("peer", "the AE title is none of this address", ae=title, address=address)

    def _note_rejection(self, event: evt.Event) -> None:
        requestor = event.assoc.requestor
        self._refuse(
            "connection",
            "the association was rejected: the called AE title, or the number of associations",
            ae=requestor.ae_title,
            address=requestor.address,
        )

    def _note_contexts(self, event: evt.Event) -> None:
        """Note the SOP classes that a peer cannot send on an association: it gets no other answer about them."""
        contexts = event.assoc.accepted_contexts, event.assoc.rejected_contexts
        accepted, rejected = ({str(context.abstract_syntax) for context in each} for each in contexts)
        if lacking := sorted(rejected - accepted):
            more = f" and {len(lacking) - _NAMED} more" if len(lacking) > _NAMED else ""
            self._refuse(
                "context",
                f"SOP class, or its transfer syntaxes, not accepted: {', '.join(lacking[:_NAMED])}{more}",
                ae=event.assoc.requestor.ae_title,
                address=event.assoc.requestor.address,
            )

    def _refuse_connection(self, why: str, address: str) -> None:
        self._refuse("object" if "object" in why else "connection", why, address=address)

    def _refuse(self, kind: str, why: str, **facts: str) -> None:
        self.metrics.refused.labels(kind).inc()
        self.audit.write("refused", kind=kind, why=why, **facts)

    def _store(self, event: evt.Event) -> int:
        """Store an image in the spool, unless it is refused or no rule wants it; returns the status."""
        ae = event.assoc.requestor.ae_title.strip()
        try:
            content, facts = self._read(event)
            named = {"study": str(facts.study_uid), "instance": str(facts.sop_instance_uid)}
            rule = find_rule(self.config.rules, facts, ae=ae)
            kept = self._keep(content, facts, rule, ae) if rule and rule.run else "not selected"
        except RefusedError as error:
            instance = str(_request(event).AffectedSOPInstanceUID or "")
            self._refuse(error.kind, str(error), ae=ae, instance=instance)
            return error.status
        self.metrics.received.labels(ae, kept).inc()
        self.audit.write(
            "received", result=kept, ae=ae, rule=rule.name if rule else "", bytes=len(content), **named
        )
        return SUCCESS

    def _read(self, event: evt.Event) -> tuple[bytes, ImageFacts]:
        """Check the header of an image.

        Raises: RefusedError: If it cannot be read, or its UIDs are not those of the command.
        """
        try:
            content = event.encoded_dataset()
            facts = read_image_facts(content, max_bytes=self._object_bytes)
        except (RadiographError, ValueError, AttributeError, KeyError, RecursionError) as error:
            why = error.reason.value if isinstance(error, RadiographError) else type(error).__name__
            raise RefusedError(NOT_UNDERSTOOD, "content", f"the header cannot be read ({why})") from None
        if not (facts.study_uid and facts.series_uid and facts.sop_instance_uid):  # no result could name it
            raise RefusedError(NOT_UNDERSTOOD, "content", "a UID is missing or invalid")
        request = _request(event)
        if (facts.sop_class_uid, facts.sop_instance_uid) != (
            request.AffectedSOPClassUID,
            request.AffectedSOPInstanceUID,
        ):
            raise RefusedError(OTHER_CLASS, "content", "the data set has other UIDs than the command")
        return content, facts

    def _keep(self, content: bytes, facts: ImageFacts, rule: Rule, ae: str) -> str:
        """Put an image into the spool; returns what has become of it.

        Raises: RefusedError: If that is not possible.
        """
        try:
            return self.spool.store(content, facts, rule, ae=ae)
        except SpoolFullError as error:
            raise RefusedError(NO_ROOM, "room", f"{error} is reached") from None
        except OtherContentError:
            raise RefusedError(DUPLICATE, "duplicate", "the study has another image with this UID") from None
        except (OSError, JobError) as error:
            cause = error.strerror if isinstance(error, OSError) else None
            why = f"the image cannot be written ({cause or type(error).__name__})"
            raise RefusedError(NO_ROOM, "room", why) from None


def _request(event: evt.Event) -> C_STORE:
    assert isinstance(event.request, C_STORE)  # noqa: S101  (the event is of no other request)
    return event.request


def _is_in(address: str, network: IPvAnyNetwork) -> bool:
    """Check whether an address is in a network; an IPv4 address may be written as IPv6."""
    given = ip_address(address.partition("%")[0])
    return (getattr(given, "ipv4_mapped", None) or given) in network


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """Make the TLS context of the listener: TLS 1.2 or later, and client certificates where authorities are named.

    Args:
        tls: Certificate and authorities.

    Raises: JobError: If a file cannot be read.
    Source: DICOM PS3.15 B.12 (BCP 195 RFC 9325 TLS Profile).
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(tls.certificate, tls.key)
        if tls.client_authorities is not None:
            context.load_verify_locations(tls.client_authorities)
            context.verify_mode = ssl.CERT_REQUIRED
    except OSError as error:
        raise JobError(
            f"tls: a certificate or key cannot be used ({error.strerror or error}); PEM files that belong together fit"
        ) from None
    return context


def silence_pynetdicom() -> None:
    """Keep pynetdicom's log records, which quote identifiers, out of standard error."""
    _config.LOG_HANDLER_LEVEL = "none"
    logger = logging.getLogger("pynetdicom")
    logger.propagate = False
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
