"""Score a submission, and list the positives that it gets most wrong.

python examples/score_submission.py submission.csv stage_2_train.csv
"""

import sys

from pneumoseg.pipeline import challenge_dice, score_submission
from pneumoseg.transforms import decode_rle, read_labels

SHAPE = (1024, 1024)  # (rows, columns) of the challenge's images

submission, truth = sys.argv[1:]
result = score_submission(submission, truth)  # raises with all faults where the submission is not valid
score = result.score
print(
    f"Dice {score.dice:.4f} over {score.images} images; predicting nothing scores {score.predict_nothing:.4f}"
)
print(f"{score.found} of {score.positives} positives found, {score.predicted_positive} predicted positive")

predicted, true = read_labels(submission).images, read_labels(truth).images
positives = [name for name, label in true.items() if label.texts and name in predicted]
masks = {name: [decode_rle(labels[name].texts, SHAPE) for labels in (predicted, true)] for name in positives}
worst = sorted(positives, key=lambda name: float(challenge_dice(*masks[name])))
for name in worst[:5]:
    print(f"{challenge_dice(*masks[name]):.3f}  {name}")
