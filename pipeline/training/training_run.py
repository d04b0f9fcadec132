"""Assemble the parts of a training run, and validate its weights."""

from collections.abc import Iterable, Mapping, Sequence

import ignite.distributed as idist
import torch
from ignite.engine import Events
from torch import Tensor, nn

from pneumoseg.models import AttentionUNet
from pneumoseg.pipeline.core.config import TrainConfig
from pneumoseg.pipeline.core.devices import Precision, broadcast_buffers, synchronise_norm
from pneumoseg.pipeline.core.errors import UsageError
from pneumoseg.pipeline.core.interruption import Interruption
from pneumoseg.pipeline.dataset.cases import Bytes, CachedCases, PhasedCases
from pneumoseg.pipeline.dataset.loaders import (
    AugmentedBatches,
    make_training_loader,
    make_validation_loader,
)
from pneumoseg.pipeline.dataset.manifest import Case
from pneumoseg.pipeline.dataset.sampling import BatchPlan, DrawPlan
from pneumoseg.pipeline.inference.predictor import Predictor
from pneumoseg.pipeline.model.weights import make_network, place
from pneumoseg.pipeline.scoring.case_curves import CaseCurves
from pneumoseg.pipeline.scoring.metrics import ChallengeMetric, MeasureCurves
from pneumoseg.pipeline.training.averaging import EpochAverage, RunningAverage, average_weights
from pneumoseg.pipeline.training.best_epochs import BestEpochs
from pneumoseg.pipeline.training.engines import make_evaluator, use_predictor
from pneumoseg.pipeline.training.initial import StartingWeights
from pneumoseg.pipeline.training.losses import TrainingLoss
from pneumoseg.pipeline.training.optimizer import make_optimizer
from pneumoseg.pipeline.training.phases import phase_of, plan_phases
from pneumoseg.pipeline.training.schedules import Schedule
from pneumoseg.pipeline.training.step import TrainingStep
from pneumoseg.pipeline.training.validation_loss import ValidationLoss
from pneumoseg.transforms.augmenter import Augmenter

Weights = dict[str, Tensor]


class TrainingRun:
    """Parts of a training run, which `fit` trains, and the validation of weights after it.

    Args:
        cases: All cases of the manifest.
        caches: Images and labels of the cases, (cases, 2, size, size) in uint8, for the image size of each phase.
        training: Indices of the cases to train on.
        validation: Indices of the held-out cases; without any, nothing is validated.
        config: Configuration of the run.
        precision: Number format and device of the network.
        workers: Number of loader processes; 0 loads in this one.
        weights: Initial weights of the network or of its encoder; those that it has none of are initialised.
    """

    def __init__(
        self,
        cases: tuple[Case, ...],
        caches: Mapping[int, Bytes],
        *,
        training: list[int],
        validation: list[int],
        config: TrainConfig,
        precision: Precision,
        workers: int,
        weights: StartingWeights,
    ) -> None:
        self.config = config
        self.precision = precision
        self.workers = workers
        self.validates = bool(validation)
        self.rank, self.processes = idist.get_rank(), idist.get_world_size()

        self.phases = plan_phases(config)
        self.epochs = self.phases[-1].last_epoch
        positive = [cases[index].is_positive for index in training]
        final_rate = config.data.final_positive_rate
        self.plan = DrawPlan(
            positive=positive,
            positive_rate=config.data.positive_rate,
            final_positive_rate=sum(positive) / len(positive) if final_rate == "prior" else final_rate,
            epochs=self.epochs,
            batch_size=config.data.batch_size,
            seed=config.seed,
        )
        self.sampled_cases = PhasedCases(
            [
                CachedCases(
                    caches[phase.image_size],
                    cases,
                    training,
                    Augmenter(config.augmentation, image_size=phase.image_size, crop=phase.crop),
                )
                for phase in self.phases
            ]
        )

        torch.manual_seed(config.seed)
        self.network = place(
            make_network(config.network), precision.device, channels_last=config.channels_last
        )
        if weights.network is not None:
            self.network.load_state_dict(weights.network)
        elif self.network.encoder is not None and weights.encoder is not None:
            self.network.encoder.load_state_dict(weights.encoder)

        self.network = synchronise_norm(self.network, precision.device)
        optimization = config.optimization
        if self.network.encoder is not None:
            self.network.encoder.norm_frozen = optimization.freeze_norm
        self.optimizer = make_optimizer(optimization, self.network)
        self.schedule = Schedule(optimization, self.optimizer, steps=self.plan.steps, epochs=self.epochs)
        self.scaler = precision.make_scaler()
        self.running_average = (
            None if optimization.ema is None else RunningAverage(self.network, optimization.ema)
        )
        self.epoch_average = (
            EpochAverage(
                self.evaluated,
                share_epochs=optimization.average_share * optimization.epochs,
                last_epoch=self.epochs,
            )
            if optimization.average == "swa"
            else None
        )
        self.interruption = Interruption()
        self.step = TrainingStep(
            precision,
            self.scaler,
            clip_norm=optimization.clip_norm,
            on_bad_step=optimization.on_bad_step,
            seed=config.seed,
            names=[case.id for case in cases],
            interruption=self.interruption,
        )

        mine = validation[self.rank :: self.processes]
        # as many images as this process trains on at once; as many batches in all phases
        shares = self.processes * max(phase.accumulate for phase in self.phases)
        self.validation_loaders = [
            make_validation_loader(
                CachedCases(caches[phase.image_size], cases, mine),
                batch_size=config.data.batch_size // shares,
                pin_memory=precision.device.type == "cuda",
            )
            for phase in self.phases
        ]
        self.loss_function = TrainingLoss(
            optimization.loss,
            deep_weight=optimization.deep_weight,
            image_weight=optimization.image_weight,
        )
        self.metric = ChallengeMetric()
        self.predictor = Predictor([self.evaluated], precision=precision)
        """Predictor that is validated; at the end of the run, the model's."""
        self.validator = make_evaluator(
            self.predictor,
            self.validation_loaders[0],
            postprocessing=MeasureCurves(cases),
            key_metric=("dice", self.metric["dice"]),
            metrics={
                "challenge": self.metric,
                "validation_loss": ValidationLoss(self.loss_function, image_head=config.network.image_head),
            },
        )
        self.validator.add_event_handler(Events.STARTED, self._broadcast_buffers)

    @property
    def evaluated(self) -> AttentionUNet:
        """The network that is validated and kept: the running average, where there is one."""
        return self.network if self.running_average is None else self.running_average.module

    @property
    def encoder_parameters(self) -> tuple[nn.Parameter, ...]:
        """The parameters of an encoder that can be pretrained; empty without one."""
        return () if self.network.encoder is None else tuple(self.network.encoder.parameters())

    def _broadcast_buffers(self) -> None:
        # in the same order in all processes
        broadcast_buffers(*dict.fromkeys((self.network, self.evaluated)))

    def make_batches(self, first_step: int = 0) -> AugmentedBatches:
        """Make the loader of this process's share of all batches.

        Args:
            first_step: Number of steps that are done.
        """
        return make_training_loader(
            self.sampled_cases,
            BatchPlan(
                self.plan,
                phases=[phase_of(self.phases, epoch) for epoch in range(1, self.epochs + 1)],
                first_step=first_step,
                shard=(self.rank, self.processes),
            ),
            workers=self.workers,
            device=self.precision.device,
        )

    def validate(self, weights: Mapping[str, Tensor] | None = None) -> float:
        """Validate at the final resolution.

        Args:
            weights: State dict to load first; None keeps the present weights.

        Returns: Challenge score at the in-sample operating point.
        """
        if weights is not None:
            self.evaluated.load_state_dict(weights)
        self.validator.data_loader = self.validation_loaders[-1]
        self.validator.run()
        return float(self.validator.state.metrics["dice"])

    def use_ensemble(self, members: Iterable[Mapping[str, Tensor]]) -> None:
        """Make an ensemble the model of the run.

        Args:
            members: State dict of each member.
        """
        self._use(Predictor([self._network_with(each) for each in members], precision=self.precision))

    def validate_model(self, tta: Sequence[str] = ()) -> list[CaseCurves]:
        """Validate the model that the run ends with, at the final resolution.

        Args:
            tta: Test-time augmentations (TTA), which the model has from now on.

        Returns: Threshold curves of the validation cases.
        """
        self._use(Predictor(self.predictor.networks, precision=self.precision, tta=tta))
        self.validate()
        return self.metric.everywhere()

    def _use(self, predictor: Predictor) -> None:
        self.predictor = predictor
        use_predictor(self.validator, predictor)

    def _network_with(self, weights: Mapping[str, Tensor]) -> AttentionUNet:
        config = self.config
        network = place(
            make_network(config.network), self.precision.device, channels_last=config.channels_last
        )
        network.load_state_dict(weights)
        return network.eval()

    def averaged(self, best: BestEpochs) -> Weights | None:
        """Average the weights of several epochs as the configuration asks for.

        Args:
            best: Best epochs, for the average of these.

        Returns: State dict; None if no average is requested, or there is only one epoch.
        """
        if self.epoch_average is not None and self.epoch_average.count > 1:
            return dict(self.epoch_average.module.state_dict())
        if self.config.optimization.average == "top" and len(best.entries) > 1:
            return average_weights(best.load(entry) for entry in best.entries)
        return None


def check_shares(config: TrainConfig, processes: int, validation: int) -> None:
    """Check that the processes of a run can share its batches and its held-out cases.

    Args:
        config: Configuration of the run.
        processes: Number of processes.
        validation: Number of held-out cases.

    Raises: UsageError: If they cannot be divided among them.
    """
    batch = config.data.batch_size
    for phase in plan_phases(config):
        if batch % (processes * phase.accumulate):
            raise UsageError(
                f"a batch of {batch} images cannot be shared evenly by {processes} processes in {phase.accumulate} "
                f"parts each; a multiple of {processes * phase.accumulate} as data.batch_size would fit"
            )
    if 0 < validation < processes:
        raise UsageError(f"{validation} images to validate on cannot be shared by {processes} processes")
