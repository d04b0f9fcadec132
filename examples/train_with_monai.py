"""Train an Attention U-Net with MONAI's `Compose`, `DataLoader` and `SupervisedTrainer`.

python examples/train_with_monai.py manifest.json weights.pt
"""

import json
import sys
from pathlib import Path

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.handlers import StatsHandler, from_engine
from monai.losses import DiceCELoss
from monai.transforms import Compose, NormalizeIntensityd, RandFlipd

from pneumoseg.models import AttentionUNet
from pneumoseg.transforms import DecodeRLEd, LoadRadiographd, ToNetworkSized

manifest = Path(sys.argv[1])
cases = [case for case in json.loads(manifest.read_text())["training"] if case["fold"] != 0]
samples = [{"image": manifest.parent / case["image"], "label": case["label"]} for case in cases]
chain = Compose([
    LoadRadiographd("image"),  # a DICOM or PNG file to (1, rows, columns) in [0, 1]
    DecodeRLEd("label"),  # run lengths of the challenge to a mask of the same shape
    ToNetworkSized(("image", "label"), size=64),  # keeps the proportions and pads with zeros
    NormalizeIntensityd("image"),
    RandFlipd(("image", "label"), prob=0.5, spatial_axis=1),
])  # fmt: skip
network = AttentionUNet(features=(4, 8, 16, 32, 64))
SupervisedTrainer(
    device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    max_epochs=3,
    train_data_loader=DataLoader(Dataset(samples, chain), batch_size=4, shuffle=True),
    network=network,
    optimizer=torch.optim.AdamW(network.parameters(), lr=1e-3),
    loss_function=DiceCELoss(sigmoid=True),
    train_handlers=[StatsHandler(output_transform=from_engine("loss", first=True))],
).run()
torch.save(network.state_dict(), sys.argv[2])
