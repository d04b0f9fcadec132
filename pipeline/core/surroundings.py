"""What libraries expect of the system, for systems that lack it, such as a container with any user id."""

import getpass
import os
import tempfile
from pathlib import Path


def provide_user() -> None:
    """Give this process and its children a user name and a home folder where the system knows none.

    A container may run as a user id without an entry in the system's list of users. MONAI then fails to be imported,
    since it asks for the name of the user, and so does whatever asks for the home folder.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):  # the latter since Python 3.13
        os.environ["LOGNAME"] = "pneumoseg"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = tempfile.gettempdir()
