"""Which tests run in the same process."""

from xdist.scheduler import LoadFileScheduling


class _Scheduling(LoadFileScheduling):
    """Those of a file together, and all that export: they share one export, half a minute's.

    Marks for ``--dist=loadgroup`` would say the same, but pytest 9.2 does not pass them on.
    """

    def _split_scope(self, nodeid: str) -> str:
        folder = "tests/export/"
        return folder if nodeid.startswith(folder) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    """Called once, in the process that collects the results."""
    return _Scheduling(config, log)
