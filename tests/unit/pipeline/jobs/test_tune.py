import re
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tests.conftest import Collection, bright_pixel_network, job_options, write_model

from pneumoseg.pipeline.core.errors import JobError, UsageError
from pneumoseg.pipeline.dataset.manifest import manifest_sha256
from pneumoseg.pipeline.inference.model import load_model
from pneumoseg.pipeline.jobs.trained_model import describe_training
from pneumoseg.pipeline.jobs.tune import TuneReport, tune_model
from pneumoseg.pipeline.model.card import save_description
from pneumoseg.pipeline.model.description import TunedPoint, image_digest, read_description
from pneumoseg.pipeline.model.weights import save_weights

BAD_POINT = TunedPoint(threshold=0.0, min_area_fraction=0.9)  # nothing is predicted positive


@pytest.fixture
def model(collection: Collection, tmp_path: Path) -> Path:
    """A model of the collection whose operating point does not fit it."""
    return write_model(
        tmp_path / "model",
        bright_pixel_network(),
        point=BAD_POINT,
        manifest_sha256=manifest_sha256(collection.manifest),
    )


def tune(model: Path, collection: Collection, **options: object) -> TuneReport:
    runtime = job_options()["runtime"]
    return tune_model(
        model,
        collection.manifest_path,
        model.parent / "tuned",
        runtime=runtime,
        **options,  # type: ignore[arg-type]
    )


def test_the_held_out_cases_decide_the_operating_point(model: Path, collection: Collection) -> None:
    report = tune(model, collection)
    assert report.scores is not None
    held_out = [case for case in collection.manifest.training if case.fold == 0]
    assert (report.scores.score.images, report.scores.score.dice) == (len(held_out), 1.0)
    description = read_description(report.model)
    assert description.operating_point != BAD_POINT
    assert description.validation["dice"] == 1.0
    assert description.trained_on == read_description(model).trained_on


def test_only_the_chosen_members_are_kept(model: Path, collection: Collection) -> None:
    description = read_description(model)
    (member,) = description.members
    twice = description.model_copy(update={"members": (member, member)})
    (model / "model.json").write_text(twice.model_dump_json())
    assert tune(model, collection, members=[1]).members == 1


def test_weights_of_one_run_are_averaged_into_one_network(model: Path, collection: Collection) -> None:
    first = read_description(model).members[0]
    networks = [bright_pixel_network(), bright_pixel_network()]
    with torch.no_grad():
        for parameter in networks[1].parameters():
            parameter.mul_(3)
    members = tuple(
        save_weights(model, network, fold=0, epoch=epoch).model_copy(
            update={"unseen_digests": first.unseen_digests}
        )
        for epoch, network in enumerate(networks)
    )
    save_description(model, read_description(model).model_copy(update={"members": members}))
    tuned = tune(model, collection, average=True).model
    (averaged,) = load_model(tuned, torch.device("cpu")).networks
    for name, value in networks[0].named_parameters():
        torch.testing.assert_close(averaged.get_parameter(name), 2 * value)


def test_a_mean_of_networks_has_seen_what_any_of_them_has_seen(model: Path, collection: Collection) -> None:
    description = read_description(model)
    (member,) = description.members
    digests = description.trained_on.image_digests
    unseen = [digests[:1], digests[:3]]
    members = tuple(member.model_copy(update={"unseen_digests": each}) for each in unseen)
    save_description(model, description.model_copy(update={"members": members}))
    averaged = read_description(tune(model, collection, average=True).model)
    assert averaged.seen_digests() == frozenset(digests[1:])


def test_networks_of_several_folds_are_not_averaged(model: Path, collection: Collection) -> None:
    description = read_description(model)
    members = tuple(description.members[0].model_copy(update={"held_out_fold": fold}) for fold in (0, 1))
    save_description(model, description.model_copy(update={"members": members}))
    with pytest.raises(UsageError, match="hold out the folds 0, 1"):
        tune(model, collection, average=True)


def test_members_are_chosen_before_they_are_averaged(model: Path, collection: Collection) -> None:
    first = read_description(model).members[0]
    networks = [bright_pixel_network() for _ in range(3)]
    with torch.no_grad():
        for parameter in networks[2].parameters():
            parameter.mul_(3)
    members = tuple(
        save_weights(model, network, fold=fold, epoch=epoch).model_copy(
            update={"unseen_digests": first.unseen_digests}
        )
        for epoch, (network, fold) in enumerate(zip(networks, (0, 1, 0), strict=True))
    )
    save_description(model, read_description(model).model_copy(update={"members": members}))
    tuned = tune(model, collection, members=[0, 2], average=True).model
    (averaged,) = load_model(tuned, torch.device("cpu")).networks
    for name, value in networks[0].named_parameters():
        torch.testing.assert_close(averaged.get_parameter(name), 2 * value)


def test_members_are_counted_over_all_models_and_a_model_without_one_leaves_no_trace(
    collection: Collection, tmp_path: Path
) -> None:
    models = [held_out(tmp_path / f"fold{fold}", collection, fold) for fold in (0, 1, 2)]
    description = read_description(tune(models[0], collection, added=models[1:], members=[1]).model)
    assert [member.held_out_fold for member in description.members] == [1]
    assert description.trained_on == read_description(models[1]).trained_on


def test_models_of_two_folds_become_one_ensemble_and_each_scores_what_it_held_out(
    model: Path, collection: Collection, tmp_path: Path
) -> None:
    training = collection.manifest.training
    digests = [image_digest(case.sha256) for case in training]
    folds = [case.fold for case in training]
    models = [held_out(tmp_path / f"fold{fold}", collection, fold) for fold in (0, 1)]
    report = tune(models[0], collection, added=models[1:])
    assert report.scores is not None
    description = read_description(report.model)
    assert report.members == 2
    assert report.scores.score.images == sum(fold in (0, 1) for fold in folds)
    assert (description.trained_on.cases, description.seen_digests()) == (len(training), frozenset(digests))
    for member in description.members:
        own = {digest for digest, fold in zip(digests, folds, strict=True) if fold == member.held_out_fold}
        assert own <= set(member.unseen_digests)


def test_two_models_of_one_fold_keep_weights_of_their_own(collection: Collection, tmp_path: Path) -> None:
    models = [held_out(tmp_path / name, collection, 0) for name in ("one", "two")]
    tuned = tune(models[0], collection, added=models[1:]).model
    description = read_description(tuned)
    assert len({member.weights for member in description.members}) == 2
    assert len(load_model(tuned, torch.device("cpu")).networks) == 2
    held = sum(case.fold == 0 for case in collection.manifest.training)
    assert description.trained_on.cases == len(collection.manifest.training) - held


def test_a_held_out_image_that_several_models_have_seen_counts_once(
    collection: Collection, tmp_path: Path
) -> None:
    training = collection.manifest.training
    held = [image_digest(case.sha256) for case in training if case.fold == 0]
    models = [held_out(tmp_path / name, collection, 0, seen=held[:2]) for name in ("one", "two")]
    description = read_description(tune(models[0], collection, added=models[1:]).model)
    assert description.trained_on.held_out_seen == 2


def test_models_of_another_input_size_do_not_join(
    model: Path, collection: Collection, tmp_path: Path
) -> None:
    other = held_out(tmp_path / "other", collection, 1)
    description = read_description(other)
    larger = description.preprocessing.model_copy(update={"image_size": 64})
    save_description(other, description.model_copy(update={"preprocessing": larger}))
    with pytest.raises(UsageError, match="differ in their preprocessing"):
        tune(model, collection, added=[other])


def held_out(folder: Path, collection: Collection, fold: int | None, *, seen: Sequence[str] = ()) -> Path:
    """A model that was trained on all folds but one, or on all, from weights that had seen some images."""
    model = write_model(
        folder / "model",
        bright_pixel_network(),
        point=BAD_POINT,
        manifest_sha256=manifest_sha256(collection.manifest),
    )
    training = [index for index, case in enumerate(collection.manifest.training) if case.fold != fold]
    description = read_description(model)
    member = save_weights(model, bright_pixel_network(), fold=fold)
    save_description(
        model,
        description.model_copy(
            update={
                "members": (member,),
                "trained_on": describe_training(collection.manifest, training, seen=seen),
            }
        ),
    )
    return model


@pytest.mark.parametrize("members", [[], [1], [0, 0]])
def test_members_that_are_not_there_are_refused(
    model: Path, collection: Collection, members: list[int]
) -> None:
    with pytest.raises(UsageError, match="there are the members 0 to 0, each once"):
        tune(model, collection, members=members)


def test_another_augmentation_is_tuned_and_recorded(model: Path, collection: Collection) -> None:
    assert read_description(tune(model, collection, tta=("flip",)).model).tta == ("flip",)


def test_a_model_that_held_nothing_out_keeps_the_precision_of_its_cross_validation(
    collection: Collection, tmp_path: Path
) -> None:
    model = held_out(tmp_path, collection, None)
    description = read_description(model).model_copy(update={"precision": "fp16"})
    save_description(model, description)  # no CPU computes in it
    report = tune(model, collection, half=True)
    assert read_description(report.model).precision == "fp16"


def test_half_precision_rounds_kernels_and_nothing_else(model: Path, collection: Collection) -> None:
    tuned = tune(model, collection, half=True).model
    before, after = (
        load_model(folder, torch.device("cpu")).networks[0].state_dict() for folder in (model, tuned)
    )
    for name, value in before.items():
        expected = value.half().float() if value.ndim > 1 else value
        assert torch.equal(after[name], expected), name
    sizes = [sum(path.stat().st_size for path in (folder / "weights").iterdir()) for folder in (model, tuned)]
    assert sizes[1] < 0.75 * sizes[0]


def test_cases_of_another_manifest_are_refused(
    collection: Collection, model_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(str(model_folder))}: was trained on another manifest"):
        tune_model(model_folder, collection.manifest_path, tmp_path / "tuned")


def test_the_model_itself_is_not_overwritten(model: Path, collection: Collection) -> None:
    with pytest.raises(JobError):
        tune_model(model, collection.manifest_path, model, overwrite=True)
    assert read_description(model).operating_point == BAD_POINT


def test_one_network_of_an_ensemble_was_trained_on_fewer_images_than_all_of_them(
    collection: Collection, tmp_path: Path
) -> None:
    models = [held_out(tmp_path / f"fold{fold}", collection, fold) for fold in (0, 1, 2)]
    ensemble = tune(models[0], collection, added=models[1:]).model
    assert read_description(ensemble).trained_on.cases == len(collection.manifest.training)
    single = tune_model(
        ensemble, collection.manifest_path, tmp_path / "single", members=[1], runtime=job_options()["runtime"]
    ).model
    trained_on = read_description(single).trained_on
    seen = [case for case in collection.manifest.training if case.fold != 1]
    assert (trained_on.cases, trained_on.positive) == (len(seen), sum(case.is_positive for case in seen))
    assert set(trained_on.image_digests) == {image_digest(case.sha256) for case in seen}
