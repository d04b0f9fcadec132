"""Send the DICOM results of a folder to an archive with STOW-RS, study by study.

python examples/store_results.py predictions https://archive.example/dicom-web

User and password come from the variables ARCHIVE_USER and ARCHIVE_PASSWORD. Needs the extra `[pacs]`.
"""

import os
import sys
from collections import defaultdict
from pathlib import Path

from dicomweb_client import DICOMwebClient
from dicomweb_client.session_utils import create_session_from_user_pass
from pydicom import Dataset, dcmread

folder, url = sys.argv[1:]
user = os.environ.get("ARCHIVE_USER")
session = create_session_from_user_pass(user, os.environ["ARCHIVE_PASSWORD"]) if user else None
client = DICOMwebClient(url, session=session)

studies: dict[str, list[Dataset]] = defaultdict(list)
for kind in ("seg", "sr", "sc", "gsps"):  # what `pneumoseg predict -t seg,sr,sc,gsps` has written
    for path in sorted(Path(folder, kind).glob("*.dcm")):
        studies[dcmread(path, specific_tags=["StudyInstanceUID"]).StudyInstanceUID].append(dcmread(path))

refused = 0
for uid, objects in studies.items():
    answer = client.store_instances(objects, study_instance_uid=uid)
    failed = answer.get("FailedSOPSequence", [])
    refused += len(failed)
    print(f"study {uid}: {len(objects) - len(failed)} of {len(objects)} objects stored")
sys.exit(f"{refused} objects were refused" if refused else 0)
