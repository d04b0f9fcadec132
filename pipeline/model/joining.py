"""The description of an ensemble whose members come from several models."""

from collections.abc import Sequence

from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.dataset.manifest import Manifest
from pneumoseg.pipeline.model.description import ModelDescription, image_digest
from pneumoseg.pipeline.model.weights import layers_of


def join_models(descriptions: Sequence[ModelDescription], manifest: Manifest) -> ModelDescription:
    """Describe the ensemble of several models, which were trained on the same manifest.

    Operating points, validation and paths of weights are those of the single models, and have to be replaced.

    Args:
        descriptions: Descriptions of the models, at least one.
        manifest: Manifest that they were trained on.

    Returns: Description with all members, each with the images that only others have seen.

    Raises: UsageError: If networks, preprocessing or manifests differ, or one has held no image out.
    """
    first = descriptions[0]
    if any(member.held_out_fold is None for each in descriptions for member in each.members):
        raise UsageError(
            "one of the models was trained on all images: none is left on which an ensemble with it could be tuned"
        )
    for other in descriptions[1:]:
        for what, one, another in (
            ("networks", layers_of(first.network), layers_of(other.network)),
            ("preprocessing", first.preprocessing, other.preprocessing),
            ("manifests", first.trained_on.manifest_sha256, other.trained_on.manifest_sha256),
        ):
            if one != another:
                raise UsageError(
                    f"the models differ in their {what}; an ensemble needs one configuration of the network, one "
                    "input size and one manifest"
                )
    seen_by = [(member, each.seen_digests([member])) for each in descriptions for member in each.members]
    seen = frozenset().union(*(digests for _, digests in seen_by))
    fold_of = {image_digest(case.sha256): case.fold for case in manifest.training}
    held_out_seen = {
        digest
        for member, digests in seen_by
        for digest in digests
        if fold_of.get(digest) == member.held_out_fold
    }
    folds = {member.held_out_fold for member, _ in seen_by}  # a single one is held out by the whole ensemble
    cases = [case for case in manifest.training if folds != {case.fold}]
    return first.model_copy(
        update={
            "encoder_origin": next(
                (each.encoder_origin for each in descriptions if each.encoder_origin), None
            ),
            "members": tuple(
                member.model_copy(update={"unseen_digests": tuple(sorted(seen - digests))})
                for member, digests in seen_by
            ),
            "trained_on": first.trained_on.model_copy(
                update={
                    "cases": len(cases),
                    "positive": sum(case.is_positive for case in cases),
                    "image_digests": tuple(sorted(seen)),
                    "initial_images": max(each.trained_on.initial_images for each in descriptions),
                    "held_out_seen": len(held_out_seen),
                    "epoch_chosen": any(each.trained_on.epoch_chosen for each in descriptions),
                }
            ),
        }
    )
