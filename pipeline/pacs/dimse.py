"""Send results by C-STORE, and request storage commitment."""

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    Verification,
)

from pneumoseg.pipeline.pacs.config import ClientTls, DicomDestination
from pneumoseg.pipeline.pacs.dicomweb import DUPLICATE, ArchiveError, UnreachableError
from pneumoseg.pipeline.pacs.receiver import SUCCESS, CommitmentReport, silence_pynetdicom
from pneumoseg.transforms.reader.elements import quiet_libraries

_TIMEOUT_S: Final = 30.0
_UNCOMPRESSED: Final = [ExplicitVRLittleEndian, ImplicitVRLittleEndian]
_COMMIT: Final = 1  # action type (PS3.4 J.3.2)
_PROMPT_REPORT_S: Final = 1.0  # for archives that report on the same association
_OUT_OF_RESOURCES: Final = 0xA7

Identity = tuple[str, str]
"""SOPClassUID and SOPInstanceUID."""


def send(
    destination: DicomDestination,
    paths: Mapping[str, Path],
    *,
    ae_title: str,
) -> Iterator[tuple[str, ArchiveError | None]]:
    """Send files by C-STORE on one association.

    A file is sent as it is where the destination accepts its transfer syntax; else a compressed one is decompressed,
    without loss and under the same UID.

    Args:
        destination: Receiver.
        paths: Path of each file, by its name.
        ae_title: Own AE title.

    Yields: The name of each file as soon as it is answered, with the error or None.
    Raises: ArchiveError: If there is no association.
    """
    with quiet_libraries():
        datasets = {name: dcmread(path) for name, path in paths.items()}
    entity = _entity(ae_title)
    proposed = {(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID) for dataset in datasets.values()}
    for sop_class in sorted({sop_class for sop_class, _ in proposed}):
        entity.add_requested_context(sop_class, _UNCOMPRESSED)
    contexts = entity.requested_contexts + [
        build_context(sop_class, syntax)
        for sop_class, syntax in sorted(proposed)
        if syntax not in _UNCOMPRESSED
    ]
    entity.requested_contexts = contexts
    association = _associate(entity, destination)
    try:
        for name, dataset in datasets.items():
            yield name, _send_one(association, dataset)
    finally:
        _close(association)


def _send_one(association: Association, dataset: FileDataset) -> ArchiveError | None:
    if not association.is_established:
        return UnreachableError("the association ended")
    accepted = {
        context.transfer_syntax[0]
        for context in association.accepted_contexts
        if context.abstract_syntax == dataset.SOPClassUID
    }
    if not accepted:
        return ArchiveError("the destination does not accept this kind of result", is_transient=False)
    try:
        with quiet_libraries():
            syntax = dataset.file_meta.TransferSyntaxUID
            if syntax not in accepted and syntax.is_compressed:
                dataset.decompress(generate_instance_uid=False)
            status = association.send_c_store(dataset)
    except (ValueError, AttributeError, RuntimeError) as error:
        return ArchiveError(f"the result cannot be sent ({type(error).__name__})", is_transient=False)
    if "Status" not in status:
        return UnreachableError("the destination has not answered")
    code = int(status.Status)
    if code in {SUCCESS, DUPLICATE} or code >> 12 == 0xB:  # a warning: stored all the same
        return None
    return ArchiveError(
        f"the destination refused the result (status 0x{code:04X})",
        is_transient=code >> 8 == _OUT_OF_RESOURCES,
    )


def request_commitments(
    destination: DicomDestination,
    requests: Mapping[str, Sequence[Identity]],
    *,
    ae_title: str,
    on_report: CommitmentReport,
) -> bool:
    """Request storage commitment, for all requests on one association.

    Args:
        destination: Receiver of the instances.
        requests: Identities of the instances of each request, by its Transaction UID, which its report names.
        ae_title: Own AE title.
        on_report: Takes a report that comes on the same association; others come to the receiver.

    Returns: Whether the destination offers storage commitment.
    Raises: ArchiveError: If there is no association.
    Source: DICOM PS3.4 J.3.2.
    """
    entity = _entity(ae_title)
    entity.add_requested_context(StorageCommitmentPushModel)
    # else an archive without commitment would refuse the association
    entity.add_requested_context(Verification)
    association = _associate(entity, destination, handlers=[(evt.EVT_N_EVENT_REPORT, on_report)])
    try:
        offered = {context.abstract_syntax for context in association.accepted_contexts}
        if StorageCommitmentPushModel not in offered:
            return False
        for transaction_uid, instances in requests.items():
            if not association.is_established:
                raise UnreachableError("the association ended")
            information = Dataset()
            information.TransactionUID = transaction_uid
            information.ReferencedSOPSequence = [_reference(*instance) for instance in instances]
            # a request that is not accepted gets no report, and is repeated
            association.send_n_action(
                information, _COMMIT, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
            )
        time.sleep(_PROMPT_REPORT_S)
    finally:
        _close(association)
    return True


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = UID(sop_class), UID(sop_instance)
    return item


def _entity(ae_title: str) -> AE:
    silence_pynetdicom()
    entity = AE(ae_title=ae_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
    entity.connection_timeout = _TIMEOUT_S
    return entity


def _associate(
    entity: AE, destination: DicomDestination, *, handlers: Sequence[evt.EventHandlerType] = ()
) -> Association:
    tls = None if destination.tls is None else (client_context(destination.tls), destination.host)
    try:
        association = entity.associate(
            destination.host,
            destination.port,
            ae_title=destination.ae_title,
            evt_handlers=list(handlers),
            tls_args=tls,
        )
    except OSError as error:  # as of a name that cannot be resolved
        raise UnreachableError(f"the destination cannot be reached ({type(error).__name__})") from None
    if association.is_established:
        return association
    _close(association)
    if association.is_rejected:
        raise UnreachableError("the destination rejected the association; does it know this AE title?")
    if association.rejected_contexts and not association.accepted_contexts:
        raise ArchiveError("the destination accepts none of the SOP classes", is_transient=False)
    raise UnreachableError("the destination cannot be reached, or ended the association")


def _close(association: Association) -> None:
    """Release an association, and close its connection, which pynetdicom leaves open after some failures."""
    if association.is_established:
        association.release()
    connection = None if association.dul.socket is None else association.dul.socket.socket
    if connection is not None:
        connection.close()


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """Make the TLS context of a destination: TLS 1.2 or later, and a certificate for its host name.

    Args:
        tls: Authorities, and the certificate to show.

    Raises: ArchiveError: If a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=tls.authorities)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if tls.certificate is not None:
            context.load_cert_chain(tls.certificate, tls.key)
    except OSError as error:
        raise UnreachableError(
            f"a certificate or key cannot be used ({error.strerror or type(error).__name__})"
        ) from None
    return context
