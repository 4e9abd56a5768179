"""The embedded server's life: real processes, real signals, a real PostgreSQL."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from ledger import binaries
from ledger.cluster import find_place
from ledger.embedded import Embedded, EmbeddedError, default_data_dir
from ledger.keeper import LOG_BYTES, bound_log

REPOSITORY = Path(__file__).resolve().parent.parent
NOBODY = 65534
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can start processes of other users")

OWNER = """
import sys
from pathlib import Path
import psycopg
from ledger.embedded import Embedded
with Embedded(Path(sys.argv[1])) as server:
    with psycopg.connect(server.conninfo()) as connection:
        started = connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0]
    print(f"ready {started}", flush=True)
    sys.stdin.read()
print("stopped", flush=True)
"""


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


def processes() -> dict[int, str]:
    """pid → command line of all that lives, zombies not counted."""
    table = subprocess.run(
        ["ps", "-axww", "-o", "pid=", "-o", "stat=", "-o", "args="],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rows = (line.split(None, 2) for line in table.splitlines())
    return {int(row[0]): row[2] for row in rows if len(row) == 3 and not row[1].startswith("Z")}


class Scene:
    """A data directory of its own, and what runs on it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.data_dir = top / "data"
        self.marks: set[str] = set()

    def running(self) -> dict[int, str]:
        """Keepers, postmasters and backends of this scene (not the test's own owners)."""
        alive = processes()
        ours = f"{self.top}/"
        mine = {
            pid: args
            for pid, args in alive.items()
            if ours in args and ("ledger.keeper" in args or "/postgres -D " in args)
        }
        self.marks |= set(re.findall(r"cluster_name=(\S+)", " ".join(mine.values())))
        children = {
            pid: args
            for pid, args in alive.items()
            if args.startswith("postgres: ") and any(mark in args for mark in self.marks)
        }
        return mine | children

    def pids(self, part: str) -> list[int]:
        return [pid for pid, args in self.running().items() if part in args]

    def keeper(self) -> int:
        (pid,) = self.pids("ledger.keeper")
        return pid

    def postmaster(self) -> int:
        (pid,) = self.pids("/postgres -D ")
        return pid

    def is_gone(self) -> bool:
        return not self.running()


def reachable_folder(*, executable: bool = False) -> Path:
    """Not pytest's tmp_path: that is private to root, where the server's user cannot go.

    In memory where there is room: what is tested are deaths of processes, not of the machine, and
    a disk that others use makes every fsync wait. Containers mount /dev/shm small and noexec.
    """
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > 1024**3
    parent = memory if roomy and not executable else Path("/tmp")
    top = Path(tempfile.mkdtemp(prefix="embedded-", dir=parent)).resolve()
    top.chmod(0o755)
    return top


@pytest.fixture(scope="module")
def made_cluster() -> Iterator[Path]:
    """A data directory after a first, complete life: initdb is most of a first start."""
    top = reachable_folder()
    with Embedded(top / "data"):
        pass
    yield top / "data"
    shutil.rmtree(top)


@pytest.fixture
def scene(made_cluster: Path) -> Iterator[Scene]:
    """A data directory that was used before."""
    with a_scene() as scene:
        subprocess.run(["cp", "-a", str(made_cluster), str(scene.data_dir)], check=True)
        yield scene


@pytest.fixture
def empty_scene() -> Iterator[Scene]:
    """No data directory yet."""
    with a_scene() as scene:
        yield scene


@contextmanager
def a_scene(*, executable: bool = False) -> Iterator[Scene]:
    top = reachable_folder(executable=executable)
    scene = Scene(top)
    yield scene
    left = scene.running()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    shutil.rmtree(top, ignore_errors=True)
    assert left == {}


def within(seconds: float, done: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


def answers(server: Embedded) -> bool:
    try:
        with psycopg.connect(server.conninfo(connect_timeout=2)) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)
    except psycopg.OperationalError:
        return False


def run(server: Embedded, statement: str) -> list[tuple[object, ...]]:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


def kill_and_see_it_die(pid: int, signum: signal.Signals = signal.SIGKILL) -> None:
    os.kill(pid, signum)
    within(10, lambda: pid not in processes(), f"death of {pid}")


def owner_process(scene: Scene, **how: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", OWNER, str(scene.data_dir)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{"env": environment, **pipes, **how})  # type: ignore[call-overload,no-any-return]


def line_of(owner: subprocess.Popen[str]) -> str:
    assert owner.stdout is not None
    return owner.stdout.readline().strip()


def end(*owners: subprocess.Popen[str]) -> None:
    for owner in owners:
        assert owner.stdin is not None
        owner.stdin.close()
    for owner in owners:
        assert owner.stdout is not None
        assert owner.stdout.read() == "stopped\n"
        owner.stdout.close()
        assert owner.wait(30) == 0


def bury(owner: subprocess.Popen[str]) -> None:
    owner.kill()
    owner.wait()
    for pipe in (owner.stdin, owner.stdout):
        assert pipe is not None
        pipe.close()


# --------------------------------------------------------------------------------- an ordinary life


def test_a_stop_leaves_no_process_and_a_second_start_finds_the_data(empty_scene: Scene) -> None:
    parents = list(empty_scene.data_dir.parents)
    before = [(folder, mode(folder), folder.stat().st_uid) for folder in parents]
    server = Embedded(empty_scene.data_dir)
    server.start()
    assert len(empty_scene.running()) > 2
    run(server, "CREATE TABLE kept AS SELECT 7 AS seven")
    server.stop()
    within(1, empty_scene.is_gone, "keeper's end after stop()")
    with Embedded(empty_scene.data_dir) as again:
        assert run(again, "SELECT seven FROM kept") == [(7,)]
        assert mode(empty_scene.data_dir / "run") == mode(empty_scene.data_dir / "pg") == 0o700
        assert mode(empty_scene.data_dir / "run" / ".s.PGSQL.5432") == 0o700
        assert (
            mode(empty_scene.data_dir / "server.log")
            == mode(empty_scene.data_dir / "owners.lock")
            == 0o600
        )
    within(1, empty_scene.is_gone, "keeper's end")
    assert [(folder, mode(folder), folder.stat().st_uid) for folder in parents] == before
    assert "was not properly shut down" not in (empty_scene.data_dir / "server.log").read_text()


def test_settings_are_ours(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PGHOSTADDR", "127.0.0.1"), ("PGDATA", "/nowhere"), ("PGPORT", "1")):
        monkeypatch.setenv(name, value)
    names = "listen_addresses fsync timezone shared_buffers server_encoding data_checksums"
    with Embedded(scene.data_dir) as server:
        values = [run(server, f"SHOW {name}")[0][0] for name in names.split()]
        assert values == ["", "on", "UTC", "128MB", "UTF8", "on"]
        ordered = "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['b','B','a','É']) x"
        assert run(server, ordered) == [("BabÉ",)]
        assert run(server, "SELECT upper('é'), current_user") == [("É", "chengxin")]
        others = run(server, "SELECT DISTINCT type, auth_method FROM pg_hba_file_rules ORDER BY 1")
        assert others == [("host", "reject"), ("local", "trust")]


def test_calls_out_of_turn_are_harmless(empty_scene: Scene) -> None:
    server = Embedded(empty_scene.data_dir)
    server.stop()
    server.ensure()
    assert not empty_scene.data_dir.exists()
    with pytest.raises(EmbeddedError, match="has not been started"):
        server.conninfo()
    server.start()
    pid = empty_scene.postmaster()
    server.start()
    server.ensure()
    assert empty_scene.postmaster() == pid
    server.stop()
    server.stop()
    server.ensure()
    within(1, empty_scene.is_gone, "keeper's end")


def test_default_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_data_dir() == Path("/var/lib/chengxin")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/invalid")
    assert default_data_dir() == Path("/home/somebody/.local/share/chengxin")
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_dir() == Path("/data/chengxin")


# ------------------------------------------------------------------------------------ sudden deaths


def test_a_killed_owner_takes_the_server_with_it(scene: Scene) -> None:
    owner = owner_process(scene)
    assert line_of(owner).startswith("ready")
    assert scene.running() != {}
    bury(owner)
    within(5, scene.is_gone, "the server's end after its owner was killed")
    with Embedded(scene.data_dir) as server:
        assert answers(server)


def test_a_killed_owner_leaves_the_server_to_the_other(scene: Scene) -> None:
    owner = owner_process(scene)
    assert line_of(owner).startswith("ready")
    with Embedded(scene.data_dir) as server:
        pid = scene.postmaster()
        bury(owner)
        time.sleep(1)
        assert scene.postmaster() == pid
        assert answers(server)


def test_a_killed_postmaster_is_restarted(scene: Scene) -> None:
    with Embedded(scene.data_dir) as server:
        run(server, "CREATE TABLE kept AS SELECT 7 AS seven")
        for _ in range(3):
            kill_and_see_it_die(scene.postmaster())
            within(5, lambda: answers(server), "answers after the postmaster was killed")
        assert run(server, "SELECT seven FROM kept") == [(7,)]


def test_a_busy_backend_does_not_hold_up_the_restart(scene: Scene) -> None:
    """It would not notice its postmaster's death for ever, and keeps the shared memory in use."""
    with Embedded(scene.data_dir) as server:
        died = threading.Event()

        def be_busy() -> None:
            with pytest.raises(psycopg.OperationalError):
                run(server, "DO $$ BEGIN LOOP END LOOP; END $$")
            died.set()

        thread = threading.Thread(target=be_busy)
        thread.start()
        within(5, lambda: scene.pids("[local] DO"), "the busy backend")
        kill_and_see_it_die(scene.postmaster())
        within(5, lambda: answers(server), "answers after the postmaster was killed")
        thread.join(5)
        assert died.is_set()


def test_a_killed_backend_is_recovered_from_by_the_same_postmaster(scene: Scene) -> None:
    with Embedded(scene.data_dir) as server:
        pid = scene.postmaster()
        with psycopg.connect(server.conninfo()) as connection:
            os.kill(connection.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")
        within(5, lambda: answers(server), "answers after a backend was killed")
        assert scene.postmaster() == pid


def test_a_killed_keeper_is_replaced_and_its_postmaster_adopted(scene: Scene) -> None:
    with Embedded(scene.data_dir) as server:
        keeper, postmaster = scene.keeper(), scene.postmaster()
        kill_and_see_it_die(keeper)
        assert scene.pids("ledger.keeper") == []
        assert answers(server)
        server.ensure()
        assert scene.keeper() != keeper
        log = scene.data_dir / "server.log"
        within(3, lambda: f"adopted postmaster {postmaster}" in log.read_text(), "adoption")
        assert scene.postmaster() == postmaster
        kill_and_see_it_die(postmaster)
        within(5, lambda: answers(server), "answers after the adopted postmaster was killed")
    within(1, scene.is_gone, "keeper's end")


def test_a_server_whose_keeper_was_killed_is_stopped_all_the_same(scene: Scene) -> None:
    with Embedded(scene.data_dir):
        kill_and_see_it_die(scene.keeper())
    within(1, scene.is_gone, "the server's end")
    owner = owner_process(scene)
    assert line_of(owner).startswith("ready")
    kill_and_see_it_die(scene.keeper())
    bury(owner)
    orphan = scene.postmaster()
    with Embedded(scene.data_dir):
        assert scene.postmaster() == orphan
    within(1, scene.is_gone, "the end of the server that had lost keeper and owner")


def test_a_keeper_without_owners_stops_what_it_finds_cleanly(scene: Scene) -> None:
    owner = owner_process(scene)
    assert line_of(owner).startswith("ready")
    kill_and_see_it_die(scene.keeper())
    bury(owner)
    scene.postmaster()
    by_hand = [sys.executable, "-m", "ledger.keeper", str(scene.data_dir)]
    done = subprocess.run(by_hand, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "with SIGINT" in done.stderr
    assert scene.is_gone()
    assert "database system is shut down" in (scene.data_dir / "server.log").read_text()


def test_ctrl_c_and_hang_up_pass_the_keeper_by_and_sigterm_stops_cleanly(scene: Scene) -> None:
    owner = owner_process(scene, start_new_session=True, stderr=subprocess.DEVNULL)
    assert line_of(owner).startswith("ready")
    with Embedded(scene.data_dir) as server:
        keeper, postmaster = scene.keeper(), scene.postmaster()
        os.killpg(owner.pid, signal.SIGINT)
        owner.wait()
        with pytest.raises(ProcessLookupError):  # nobody else was in the owner's group
            os.killpg(owner.pid, 0)
        bury(owner)
        for signum in (signal.SIGINT, signal.SIGHUP):
            os.kill(keeper, signum)
        time.sleep(0.5)
        assert (scene.keeper(), scene.postmaster()) == (keeper, postmaster)
        kill_and_see_it_die(keeper, signal.SIGTERM)
        assert scene.is_gone()
        log = (scene.data_dir / "server.log").read_text()
        assert "database system is shut down" in log
        server.ensure()
        within(5, lambda: answers(server), "answers after the keeper was replaced")


# ---------------------------------------------------------------------------------- several at once


def test_eight_starts_at_once_share_one_server_and_the_last_out_stops_it(
    empty_scene: Scene,
) -> None:
    owners = [owner_process(empty_scene) for _ in range(8)]
    started = {line_of(owner) for owner in owners}
    assert len(started) == 1
    assert started.pop().startswith("ready ")
    empty_scene.keeper()
    pid = empty_scene.postmaster()
    end(*owners[1:])
    assert empty_scene.postmaster() == pid
    end(owners[0])
    within(1, empty_scene.is_gone, "keeper's end after the last owner's")


def test_who_comes_while_the_server_goes_down_waits_and_has_a_new_one(scene: Scene) -> None:
    """The shutdown is made to last: a stopped postmaster does not react."""
    leaving, coming = Embedded(scene.data_dir), Embedded(scene.data_dir)
    leaving.start()
    old = scene.postmaster()
    os.kill(old, signal.SIGSTOP)
    stop = threading.Thread(target=leaving.stop)
    stop.start()
    log = scene.data_dir / "server.log"
    within(3, lambda: f"stopping postmaster {old}" in log.read_text(), "start of the shutdown")
    with pytest.raises(EmbeddedError, match="is stopping its server"):
        coming.start(timeout_seconds=0.3)
    start = threading.Thread(target=coming.start)
    start.start()
    time.sleep(0.5)
    assert start.is_alive()
    assert scene.pids("/postgres -D ") == [old]
    os.kill(old, signal.SIGCONT)
    start.join(10)
    stop.join(10)
    assert answers(coming)
    assert scene.postmaster() != old
    coming.stop()


def test_stops_and_starts_that_overlap_anyhow(scene: Scene) -> None:
    current = Embedded(scene.data_dir)
    current.start()
    for step in range(8):
        stop = threading.Thread(target=current.stop)
        stop.start()
        time.sleep(step * 0.02)
        following = Embedded(scene.data_dir)
        following.start()
        with psycopg.connect(following.conninfo()) as connection:
            time.sleep(0.25)
            assert connection.execute("SELECT 1").fetchone() == (1,)
        stop.join(10)
        current = following
    current.stop()
    within(1, scene.is_gone, "keeper's end")


# --------------------------------------------------------------------------------------- odd places


def test_a_long_path_has_its_socket_in_a_private_folder_elsewhere(empty_scene: Scene) -> None:
    empty_scene.data_dir = empty_scene.top / ("long" * 30) / "data"
    server = Embedded(empty_scene.data_dir)
    server.start()
    folder = Path(str(conninfo_to_dict(server.conninfo())["host"]))
    assert len(str(folder)) < 80
    assert mode(folder) == 0o700
    assert folder.stat().st_uid == (empty_scene.data_dir / "pg").stat().st_uid
    assert answers(server)
    kill_and_see_it_die(empty_scene.postmaster())
    within(5, lambda: answers(server), "answers after the postmaster was killed")
    server.stop()
    assert not folder.exists()
    with server:
        assert answers(server)


def test_a_path_with_characters_that_mean_something_to_libpq(empty_scene: Scene) -> None:
    empty_scene.data_dir = empty_scene.top / "a 'b', \"c\" 诚信"
    with Embedded(empty_scene.data_dir) as server:
        assert answers(server)


def test_a_pid_file_naming_another_process_does_not_confuse(scene: Scene) -> None:
    """PostgreSQL alone refuses to start while the pid in its file is a live process of its user."""
    server = Embedded(scene.data_dir)
    server.start()
    pid_file = scene.data_dir / "pg" / "postmaster.pid"
    written = pid_file.read_text().splitlines()
    user = (scene.data_dir / "pg").stat().st_uid
    server.stop()
    how = {"user": user} if IS_ROOT else {}
    stranger = subprocess.Popen(["sleep", "60"], **how)  # type: ignore[call-overload]
    try:
        for lines in ([str(stranger.pid), *written[1:]], [str(stranger.pid)], [], ["garbage"]):
            pid_file.write_text("".join(f"{line}\n" for line in lines))
            server.start(timeout_seconds=5)
            assert answers(server)
            server.stop()
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_removed_data_directory_ends_its_server(scene: Scene) -> None:
    server = Embedded(scene.data_dir)
    server.start()
    shutil.rmtree(scene.data_dir)
    within(10, scene.is_gone, "the end of the server without a folder")
    with pytest.raises(EmbeddedError, match=r"keeper\.lock cannot be opened"):
        server.stop()
    assert not scene.data_dir.exists()


def test_the_log_is_bounded_under_a_writer_that_keeps_it_open(empty_scene: Scene) -> None:
    empty_scene.data_dir.mkdir()
    place = find_place(empty_scene.data_dir)
    with place.log.open("ab", buffering=0) as writer:
        writer.write(b"x" * (LOG_BYTES - 1))
        bound_log(place)
        assert place.log.stat().st_size == LOG_BYTES - 1
        writer.write(b"y\n")
        bound_log(place)
        writer.write(b"after\n")
    assert place.log.read_bytes() == b"after\n"
    assert (empty_scene.data_dir / "server.log.1").read_bytes().endswith(b"xy\n")


def test_the_keeper_is_of_its_owners_code_wherever_that_lies(scene: Scene) -> None:
    """Found by a relative path here, and before any installed copy; the keeper runs in /."""
    shutil.copytree(REPOSITORY / "ledger", scene.top / "code" / "ledger")
    keeper = scene.top / "code" / "ledger" / "keeper.py"
    keeper.write_text(keeper.read_text().replace("KEEPER: ", "COPIED KEEPER: "))
    owner = owner_process(scene, cwd=scene.top, env={**os.environ, "PYTHONPATH": "code"})
    assert line_of(owner).startswith("ready")
    end(owner)
    assert "COPIED KEEPER: server stopped" in (scene.data_dir / "server.log").read_text()


# ----------------------------------------------------------------------------------------- refusals


def test_a_server_that_cannot_start_is_reported_with_its_log(scene: Scene) -> None:
    with Embedded(scene.data_dir) as server:
        pass
    with (scene.data_dir / "pg" / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    begun = time.monotonic()
    with pytest.raises(EmbeddedError, match='unrecognized configuration parameter "no_such_set'):
        server.start()
    assert time.monotonic() - begun < 15
    within(5, scene.is_gone, "the keeper's end")


def test_another_versions_cluster_is_refused(empty_scene: Scene) -> None:
    (empty_scene.data_dir / "pg").mkdir(parents=True)
    (empty_scene.data_dir / "pg" / "PG_VERSION").write_text("17\n")
    with pytest.raises(EmbeddedError, match="was made by PostgreSQL 17"):
        Embedded(empty_scene.data_dir).start()


def test_a_folder_that_is_no_cluster_is_left_alone(empty_scene: Scene) -> None:
    (empty_scene.data_dir / "pg").mkdir(parents=True)
    empty_scene.data_dir.chmod(0o755)
    (empty_scene.data_dir / "pg" / "diary").write_text("mine")
    with pytest.raises(EmbeddedError, match="holds something that is no PostgreSQL cluster"):
        Embedded(empty_scene.data_dir).start()
    assert (empty_scene.data_dir / "pg" / "diary").read_text() == "mine"
    within(5, empty_scene.is_gone, "the keeper's end")


def test_missing_binaries_are_named(empty_scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binaries, "WHEEL", "no_such_package")
    with pytest.raises(EmbeddedError, match="no_such_package is not installed"):
        Embedded(empty_scene.data_dir).start()


def test_a_link_in_place_of_a_file_is_refused(empty_scene: Scene) -> None:
    empty_scene.data_dir.mkdir()
    empty_scene.data_dir.chmod(0o755)
    precious = empty_scene.top / "precious"
    precious.write_text("unchanged")
    (empty_scene.data_dir / "server.log").symlink_to(precious)
    with pytest.raises(EmbeddedError, match=r"server\.log"):
        Embedded(empty_scene.data_dir).start()
    (empty_scene.data_dir / "server.log").unlink()
    (empty_scene.data_dir / "server.log").hardlink_to(precious)
    with pytest.raises(EmbeddedError, match="is a link"):
        Embedded(empty_scene.data_dir).start()
    assert precious.read_text() == "unchanged"


# ----------------------------------------------------------------------------- root and other users


@needs_root
def test_a_folder_that_blocks_the_servers_user_is_named(empty_scene: Scene) -> None:
    blocking = empty_scene.top / "private"
    blocking.mkdir(0o700)
    empty_scene.data_dir = blocking / "data"
    with pytest.raises(EmbeddedError, match=rf"may not enter {blocking}: .*--data-dir"):
        Embedded(empty_scene.data_dir).start()
    assert mode(blocking) == 0o700


@needs_root
def test_the_server_takes_the_data_directorys_user_and_no_root(empty_scene: Scene) -> None:
    empty_scene.data_dir.mkdir(0o700)
    os.chown(empty_scene.data_dir, NOBODY, NOBODY)
    with Embedded(empty_scene.data_dir) as server:
        assert answers(server)
        assert Path(f"/proc/{empty_scene.postmaster()}").stat().st_uid == NOBODY
        assert {path.lstat().st_uid for path in empty_scene.data_dir.rglob("*")} == {NOBODY}
        kept_out = subprocess.run(
            ["ls", str(empty_scene.data_dir / "run")], user=1, check=False, capture_output=True
        )
        assert kept_out.returncode != 0


@needs_root
def test_binaries_out_of_reach_are_copied_once() -> None:
    with a_scene(executable=True) as scene:
        hidden = scene.top / "hidden"
        hidden.mkdir(0o700)
        package = Path(sysconfig.get_path("purelib")) / binaries.WHEEL
        ignored = shutil.ignore_patterns("include", "pginstall", "*.a")
        shutil.copytree(package, hidden / package.name, ignore=ignored)
        shutil.copytree(f"{package}.libs", hidden / f"{package.name}.libs")
        environment = {**os.environ, "PYTHONPATH": f"{hidden}:{REPOSITORY}"}
        copies = []
        for _ in range(2):
            owner = owner_process(scene, env=environment)
            assert line_of(owner).startswith("ready")
            (copy,) = scene.data_dir.glob("installation-*")
            copies.append((copy, copy.stat().st_mtime_ns, copy.stat().st_ino))
            assert scene.running()[scene.postmaster()].startswith(str(copy))
            end(owner)
        assert copies[0] == copies[1]


def as_nobody(scene: Scene, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script as an ordinary user: nobody if we are root, else ourselves."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    python: str | None = sys.executable
    how: dict[str, object] = {}
    if IS_ROOT:
        how = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        reachable = ["/usr/bin", "/usr/local/bin"]
        python = shutil.which(f"python{here}", path=os.pathsep.join(reachable))
        if python is None:
            pytest.skip(f"no Python {here} that an ordinary user can run in {reachable}")
    packages = sysconfig.get_path("purelib")
    return subprocess.run(  # type: ignore[call-overload,no-any-return]
        [python, "-c", script, str(scene.data_dir)],
        env={"PYTHONPATH": f"{REPOSITORY}:{packages}", "HOME": "/", "PATH": "/usr/bin:/bin"},
        cwd="/",
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        **how,
    )


ORDINARY_LIFE = """
import os, signal, sys, time
from pathlib import Path
import psycopg
from ledger.embedded import Embedded
def answers():
    try:
        psycopg.connect(server.conninfo()).close()
        return True
    except psycopg.OperationalError:
        return False
with Embedded(Path(sys.argv[1])) as server:
    pid_file = Path(sys.argv[1], "pg", "postmaster.pid")
    first = int(pid_file.read_text().split()[0])
    os.kill(first, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while not answers():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert int(pid_file.read_text().split()[0]) != first
print("stopped", os.geteuid(), pid_file.exists())
"""


def test_an_ordinary_user_has_the_same_life(empty_scene: Scene) -> None:
    if IS_ROOT:
        os.chown(empty_scene.top, NOBODY, NOBODY)
    done = as_nobody(empty_scene, ORDINARY_LIFE)
    assert (done.stdout, done.stderr) == (
        f"stopped {NOBODY if IS_ROOT else os.geteuid()} False\n",
        "",
    )
    within(1, empty_scene.is_gone, "keeper's end")
    assert mode(empty_scene.data_dir) == 0o700


def test_a_folder_that_blocks_ourselves_is_named(empty_scene: Scene) -> None:
    blocking = empty_scene.top / "private"
    blocking.mkdir()
    blocking.chmod(0o700 if IS_ROOT else 0)
    empty_scene.data_dir = blocking / "data"
    done = as_nobody(empty_scene, OWNER)
    blocking.chmod(0o700)
    assert f"EmbeddedError: The folder {empty_scene.data_dir} cannot be" in done.stderr


def test_a_read_only_data_directory_is_named(empty_scene: Scene) -> None:
    empty_scene.data_dir.mkdir()
    lock = empty_scene.data_dir / "owners.lock"
    lock.touch()
    lock.chmod(0o444)
    empty_scene.data_dir.chmod(0o555)
    done = as_nobody(empty_scene, OWNER)
    empty_scene.data_dir.chmod(0o755)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ledger.cluster.EmbeddedError: ")
    assert f"{lock} cannot be opened for writing" in last
    assert "Permission denied" in last
    assert "--data-dir" in last
