#!/bin/sh
# The SIIM-ACR Pneumothorax Segmentation challenge in four commands, from its download to the upload:
#
#     sh examples/kaggle.sh DOWNLOAD OUTPUT [TRAINING OPTIONS]
#
# DOWNLOAD holds dicom-images-train/, dicom-images-test/ and train-rle.csv as Kaggle packs them. Add
# sample_submission.csv and, if you have it, patients.csv (columns ImageId,PatientGroup): without it, images of one
# patient may be in training and validation at once, and the scores are too high. Training options are those of
# `pneumoseg train`: --preset reference for the recipe of the reference model, --preset quick for a first look.
set -eu
download=$1 output=$2
shift 2
for needed in dicom-images-train dicom-images-test train-rle.csv sample_submission.csv; do
    [ -e "$download/$needed" ] || { echo "error: $download/$needed is missing" >&2; exit 2; }
done
mkdir -p "$output"
groups=
if [ -f "$download/patients.csv" ]; then groups="--groups=$download/patients.csv"; fi

pneumoseg prepare "$download/dicom-images-train" --labels "$download/train-rle.csv" ${groups:+"$groups"} \
    -o "$output/manifest.json" || [ $? -eq 3 ] # 3: files or label rows were refused, and are listed

pneumoseg train "$output/manifest.json" -o "$output/run" "$@"

pneumoseg submit "$output/run/model" "$download/dicom-images-test" --sample "$download/sample_submission.csv" \
    -o "$output/submission.csv"

command -v kaggle > /dev/null || { echo "no command kaggle: upload $output/submission.csv by hand"; exit 0; }
kaggle competitions submit siim-acr-pneumothorax-segmentation -f "$output/submission.csv" -m pneumoseg
