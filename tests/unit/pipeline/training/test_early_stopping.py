from ignite.engine import Engine, Events

from pneumoseg.pipeline.training.early_stopping import EarlyStopping


def test_patience_counts_epochs_that_rank_no_higher() -> None:
    for dices_and_aucs, stopped_after in [
        ([(0.6, 0.5), (0.6, 0.5), (0.6, 0.5)], 3),  # nothing gets better after the first epoch
        ([(0.6, 0.5), (0.6, 0.6), (0.6, 0.7), (0.6, 0.7), (0.6, 0.7)], 5),  # where Dice ties, AUC decides
        ([(0.5, 0.5)], None),  # patience does not begin at predicting nothing
        ([(0.5, 0.5), (0.5, 0.5), (0.6, 0.4), (0.59, 0.9), (0.59, 0.9)], 5),
        ([(0.6, 0.5), (0.7, 0.5), (0.65, 0.5), (0.8, 0.5), (0.5, 0.5), (0.5, 0.5)], 6),
    ]:
        assert epochs_of(EarlyStopping(2, first_epoch=1, last_epoch=8), dices_and_aucs) == stopped_after


def test_patience_begins_with_the_final_resolution() -> None:
    assert epochs_of(EarlyStopping(2, first_epoch=4, last_epoch=8), [(0.6, 0.5)]) == 6


def test_patience_starts_again_only_in_a_run_that_has_become_longer() -> None:
    stopped = EarlyStopping(2, first_epoch=1, last_epoch=8)
    epochs_of(stopped, [(0.6, 0.5)])
    for last_epoch, is_stopped in ((8, True), (9, False)):
        resumed = EarlyStopping(2, first_epoch=1, last_epoch=last_epoch)
        resumed.load_state_dict(stopped.state_dict())
        assert resumed.stopped is is_stopped
        assert (resumed.best is None) is not is_stopped


def epochs_of(early_stopping: EarlyStopping, dices_and_aucs: list[tuple[float, float]]) -> int | None:
    """Number of epochs after which a run with these scores, then the last ones, is ended; None after all 8."""
    engine = Engine(lambda _, __: None)

    def score() -> None:
        dice, auc = dices_and_aucs[min(engine.state.epoch, len(dices_and_aucs)) - 1]
        engine.state.metrics.update(dice=dice, auc=auc, dice_positive_fixed=0.0, predict_nothing=0.5)

    engine.add_event_handler(Events.EPOCH_COMPLETED, score)
    early_stopping.attach(engine)
    engine.run([0], max_epochs=8)
    return engine.state.epoch if early_stopping.stopped else None
