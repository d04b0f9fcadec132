"""One training run: its parts, how they are wired together, and its state."""

import math
import time
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from ignite.handlers import EarlyStopping
from monai.handlers import ValidationHandler
from monai.losses import DiceCELoss
from monai.utils import CommonKeys as Keys
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from pneumoseg.pipeline.config import TrainConfig
from pneumoseg.pipeline.dataset.cases import Bytes, CachedCases, Sample
from pneumoseg.pipeline.dataset.loaders import make_training_loader, make_validation_loader
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.dataset.sampling import BatchPlan, DrawPlan
from pneumoseg.pipeline.devices import Precision
from pneumoseg.pipeline.inference.model_folder import make_network, place
from pneumoseg.pipeline.scoring.metrics import ChallengeMetric, MeasureCurves
from pneumoseg.pipeline.training.checkpoint import State, save_state
from pneumoseg.pipeline.training.display import TrainingDisplay
from pneumoseg.pipeline.training.engines import On, make_evaluator, make_trainer
from pneumoseg.pipeline.training.history import History, Row
from pneumoseg.transforms.chains import training_chain

FINAL_RATE = 0.01  # of the learning rate, at the end of the cosine


class TrainingRun:
    """Train on some cases and validate on others after each epoch.

    Args:
        cases: All cases of the manifest.
        pixels: Their images and labels, from the cache.
        training: Which to train on, by place in the manifest.
        validation: Which to validate on.
        config: What the run may be told.
        precision: In which the network computes, and where.
        workers: Loader processes.
    """

    def __init__(
        self,
        cases: tuple[Case, ...],
        pixels: Bytes,
        *,
        training: list[int],
        validation: list[int],
        config: TrainConfig,
        precision: Precision,
        workers: int,
    ) -> None:
        self.config = config
        self.precision = precision
        self.workers = workers
        self.plan = DrawPlan(
            positive=[cases[index].is_positive for index in training],
            positive_rate=config.data.positive_rate,
            batch_size=config.data.batch_size,
            seed=config.seed,
        )
        chain = training_chain(image_size=config.data.image_size, augmentations=config.augmentation)
        self.drawn = CachedCases(pixels, training, chain)

        torch.manual_seed(config.seed)
        self.network = place(
            make_network(config.network), precision.device, channels_last=config.channels_last
        )
        optimization = config.optimization
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=optimization.learning_rate, weight_decay=optimization.weight_decay
        )
        self.schedule = LambdaLR(self.optimizer, self._rate)
        self.scaler = precision.make_scaler()

        self.metric = ChallengeMetric()
        self.validator = make_evaluator(
            self.network,
            make_validation_loader(
                CachedCases(pixels, validation),
                batch_size=config.data.batch_size,
                pin_memory=precision.device.type == "cuda",
            ),
            precision=precision,
            postprocessing=MeasureCurves(cases),
            key_metric=("dice", self.metric["dice"]),
            metrics={"challenge": self.metric},
        )

    def _rate(self, step: int) -> float:
        warmup = round(self.config.optimization.warmup_epochs * self.plan.steps)
        if step < warmup:
            return (step + 1) / warmup
        left = max(1, self.config.optimization.epochs * self.plan.steps - warmup)
        return FINAL_RATE + (1 - FINAL_RATE) * (1 + math.cos(math.pi * (step - warmup) / left)) / 2

    def make_batches(self, first_step: int = 0) -> DataLoader[Sample]:
        """The batches of all epochs, from one step on."""
        return make_training_loader(
            self.drawn,
            BatchPlan(self.plan, epochs=self.config.optimization.epochs, first_step=first_step),
            workers=self.workers,
            pin_memory=self.precision.device.type == "cuda",
        )

    def fit(self, history: History, checkpoints: Path, *, origin: State, state: State | None = None) -> None:
        """Run all epochs; after each, validate, save, and bring the history up to date.

        Args:
            history: Gets a row for each epoch.
            checkpoints: Folder of ``last.pt`` and ``best.pt``.
            origin: What the run is of; goes into each checkpoint.
            state: Of the epoch to go on from, as a checkpoint holds it.
        """
        epochs, steps = self.config.optimization.epochs, self.plan.steps
        first_step = state["iteration"] if state else 0
        display = TrainingDisplay(epochs=epochs, steps=steps, first_step=first_step)
        epoch = _Epoch(self.config.data.batch_size)

        def after_step() -> None:
            self.schedule.step()
            epoch.add(trainer.state.output[Keys.LOSS].item())
            display.step(epoch=trainer.state.epoch, loss=epoch.loss, images_per_s=epoch.images_per_s)

        def after_epoch() -> None:
            scores = self.validator.state.metrics["challenge"]
            rate = self.optimizer.param_groups[0]["lr"]
            row = {"epoch": trainer.state.epoch, "learning_rate": rate, **epoch.numbers(), **scores}
            history.add(row)
            display.epoch(row)
            if self.validator.state.best_metric_epoch == trainer.state.epoch:
                save_state(checkpoints / "best.pt", {"network": self.network.state_dict()})
            save_state(checkpoints / "last.pt", collect_state())

        def stop_when_stale(engine: Engine) -> None:
            # a network from scratch ties with predicting nothing for a long while: patience begins after that
            if self.validator.state.best_metric > engine.state.metrics["predict_nothing"]:
                self.early_stop(engine)

        def collect_state() -> State:
            return {
                "origin": origin,
                "iteration": trainer.state.iteration,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "early_stop": dict(self.early_stop.state_dict()),
                "best": [self.validator.state.best_metric, self.validator.state.best_metric_epoch],
                "history": history.rows,
            }

        trainer = make_trainer(
            self.network,
            self.make_batches(first_step),
            loss_function=DiceCELoss(
                sigmoid=True, batch=True, lambda_dice=self.config.optimization.dice_weight
            ),
            optimizer=self.optimizer,
            precision=self.precision,
            scaler=self.scaler,
            clip_norm=self.config.optimization.clip_norm,
            seed=self.config.seed,
            epochs=epochs,
            steps=steps,
            handlers=[
                On(Events.EPOCH_STARTED, epoch.start),
                On(Events.ITERATION_COMPLETED, after_step),
                ValidationHandler(interval=1, validator=self.validator),
                On(Events.EPOCH_COMPLETED, after_epoch),
            ],
        )
        patience = self.config.optimization.patience or epochs
        self.early_stop = EarlyStopping(patience, lambda engine: engine.state.metrics["dice"], trainer)
        self.validator.add_event_handler(Events.COMPLETED, stop_when_stale)
        if state:
            self._load(state)
            trainer.load_state_dict({"iteration": first_step, "epoch_length": steps, "max_epochs": epochs})
        if first_step == epochs * steps:  # done already; Ignite would begin anew
            return
        with display:
            trainer.run()

    def _load(self, state: State) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.early_stop.load_state_dict(state["early_stop"])
        self.validator.state.best_metric, self.validator.state.best_metric_epoch = state["best"]


class _Epoch:
    """The training loss and the time of an epoch while it runs."""

    def __init__(self, batch_size: int) -> None:
        self.batch_size = batch_size
        self.start()

    def start(self) -> None:
        """Begin anew."""
        self.steps = 0
        self.total = 0.0
        self.started = time.monotonic()
        self.seconds = 0.0

    def add(self, loss: float) -> None:
        """Take in the loss of a step."""
        self.steps += 1
        self.total += loss
        self.seconds = time.monotonic() - self.started

    @property
    def loss(self) -> float:
        """Mean so far."""
        return self.total / max(self.steps, 1)

    @property
    def images_per_s(self) -> float:
        """Images trained on in a second, loading included and validation not."""
        return self.steps * self.batch_size / max(self.seconds, 1e-9)

    def numbers(self) -> Row:
        """For the row of the epoch."""
        return {"loss": self.loss, "images_per_s": self.images_per_s, "seconds": self.seconds}
