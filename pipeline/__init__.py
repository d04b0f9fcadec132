"""Runs, files, devices and the command line.

Every job is one call: `prepare_manifest`, `train_model`, `cross_validate`, `evaluate_model`, `write_submission`,
`score_submission`, `predict_folder`, `listen_to_archive`, `pull_images`, `write_report`, `check_folder`,
`doctor_report`, `run_demo`. `load_predictor` returns a model that takes single radiographs, `challenge_dice` is the
metric, and `Readers` reads files in processes of their own. Names are imported when they are first used, since MONAI
takes seconds to import; ``__init__.pyi`` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
