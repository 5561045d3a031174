"""The source as a history finds it: its sessions, stepped by hand in one thread, and its server."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg2
from psycopg2.extensions import (
    TRANSACTION_STATUS_IDLE,
    TRANSACTION_STATUS_INERROR,
    TRANSACTION_STATUS_INTRANS,
)
from psycopg2.extensions import connection as Connection

from xmin_assets.demo.cluster import Cluster
from xmin_assets.replication.changed_blocks.prerequisites import MIN_VERSION
from xmin_assets_tests.adversary.history import History, Step
from xmin_assets_tests.adversary.oracle import Oracle
from xmin_assets_tests.adversary.servers import SOURCES, TARGET, Servers
from xmin_assets_tests.adversary.statements import STATEMENTS, Scene
from xmin_assets_tests.adversary.tables import TYPES, create
from xmin_assets_tests.adversary.type_statements import TYPE_STATEMENTS

MAINTENANCE = 99
"""The session that is never in a transaction, for what none may contain."""
OUTSIDE = ("vacuum", "detach_concurrently")

# In one thread nobody gives a lock back while another waits for it.
CAUTION = "-c lock_timeout=5ms -c statement_timeout=20s -c client_min_messages=error"
LOOKING = "-c lock_timeout=20ms -c statement_timeout=20s"


@dataclass
class Session:
    """One session at the source."""

    connection: Connection
    savepoints: list[str] = field(default_factory=list)
    alters_types: bool = False
    """Whether the transaction that is open has altered a type."""

    @property
    def status(self) -> int:
        return int(self.connection.info.transaction_status)

    def run(self, statement: str) -> list[tuple[Any, ...]]:
        """Run statements; the rows of the last one."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def recover(self) -> None:
        """Leave a transaction that has failed, up to its last savepoint."""
        if self.status == TRANSACTION_STATUS_INERROR:
            self.run(f"ROLLBACK TO {self.savepoints[-1]}" if self.savepoints else "ROLLBACK")
        self.ended()

    def ended(self) -> None:
        """Forget what was noted of a transaction, if it is over."""
        if self.status == TRANSACTION_STATUS_IDLE:
            self.savepoints, self.alters_types = [], False


class World:
    """Both servers during one history."""

    def __init__(self, servers: Servers, history: History) -> None:
        self.servers = servers
        self.history = history
        self.databases = 1 + max(table["database"] for table in history.tables)
        self.log: list[str] = []
        self.done: Counter[str] = Counter()
        self.literal: dict[int, Step] = {}
        """What the steps chose, by their ids: so they are played again whatever a later code would choose."""
        self.hurt = 0
        """How often the server was crashed, killed, restarted or restored."""
        self.reading = False
        """Whether a sync reads rows right now."""
        self.prepared_types: set[str] = set()
        self._sessions: dict[tuple[int, int], Session] = {}
        self._oracles: dict[int, Oracle] = {}
        self._open: list[Connection] = []
        self._gids = 0
        self._backup: Cluster | None = None

    def name(self, table: int) -> str:
        """The name of a table of the history."""
        return f"t{table}"

    def oracle(self, database: int) -> Oracle:
        """The oracle of one of the source's databases."""
        if database not in self._oracles:
            source = self._connect(self.servers.source, SOURCES[database], LOOKING)
            self._oracles[database] = Oracle(source, self._connect(self.servers.target, TARGET, LOOKING))
        return self._oracles[database]

    def say(self, line: str) -> None:
        """A line of what was done."""
        self.log.append(line)

    def make(self) -> None:
        """Make the tables anew, from whatever the history before has left."""
        self.servers.calm()
        with closing(self.servers.source.connect()) as connected, connected.cursor() as cursor:
            cursor.execute("ALTER SYSTEM RESET ALL")
            cursor.execute("SELECT pg_reload_conf()")
        for name in SOURCES:
            with closing(self.servers.source.connect(name)) as connected, connected.cursor() as cursor:
                _end_others(cursor)
                cursor.execute("SELECT gid FROM pg_prepared_xacts WHERE database = current_database()")
                for (gid,) in cursor.fetchall():
                    cursor.execute("ROLLBACK PREPARED %s", (gid,))
                cursor.execute("SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        with closing(self.servers.target.connect(TARGET)) as connected, connected.cursor() as cursor:
            _end_others(cursor)
            cursor.execute("SET client_min_messages = error; DROP SCHEMA IF EXISTS xmin_assets CASCADE")
            cursor.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            if any(table["citext"] for table in self.history.tables):
                cursor.execute("CREATE EXTENSION citext")
        for database in range(self.databases):
            with closing(self.servers.source.connect(SOURCES[database])) as connected, connected.cursor() as cursor:
                cursor.execute(TYPES + "; CREATE SEQUENCE fresh START 1000")
                mine = [(place, t) for place, t in enumerate(self.history.tables) if t["database"] == database]
                if any(table["citext"] for _, table in mine):
                    cursor.execute("CREATE EXTENSION citext")
                for place, table in mine:
                    version = self.servers.version
                    cursor.execute(
                        "; ".join(create(table["kind"], self.name(place), table["rows"], table["citext"], version))
                    )

    def close(self) -> None:
        """End all sessions, and what they have left open."""
        self.disconnect()
        self.servers.forget_backup(self._backup)
        self._backup = None

    def disconnect(self) -> None:
        """End all sessions."""
        for connection in self._open:
            with suppress(psycopg2.Error):
                connection.close()
        self._open, self._sessions, self._oracles = [], {}, {}

    def quiet(self) -> None:
        """Heal the server, and end all transactions, prepared ones too."""
        self.servers.calm()
        for database in range(self.databases):
            for number in [number for of, number in self._sessions if of == database]:
                session = self.session(database, number)
                if session.status != TRANSACTION_STATUS_IDLE:
                    session.run("ROLLBACK")
                session.ended()
            for (gid,) in self.session(database, 0).run(_PREPARED):
                self.session(database, 0).run(f"ROLLBACK PREPARED '{gid}'")

    def unblock(self) -> None:
        """Commit the transactions that let nobody read a table: a history of syncs that cannot begin tells nothing."""
        for (database, number), session in self._sessions.items():
            if session.connection.closed or session.status == TRANSACTION_STATUS_IDLE:
                continue
            self.say(f"{SOURCES[database]}.{number}: COMMIT, as it blocks a sync")
            session.run("COMMIT")
            session.ended()
        for database in range(self.databases):
            for (gid,) in self.session(database, MAINTENANCE).run(_PREPARED):
                self.say(f"{SOURCES[database]}: COMMIT PREPARED '{gid}', as it blocks a sync")
                self.session(database, MAINTENANCE).run(f"COMMIT PREPARED '{gid}'")

    def part_twins(self) -> None:
        """Leave one row of each key, where nothing at the source forbids two."""
        for place, table in enumerate(self.history.tables):
            session, name = self.session(table["database"], MAINTENANCE), self.name(place)
            twins = f"SELECT FROM {name} GROUP BY id, part HAVING count(*) > 1"
            with suppress(psycopg2.Error):
                if session.run(f"SELECT EXISTS ({twins})") == [(True,)]:
                    self.play({"do": "statement", "what": "part_twins", "session": 0, "table": place, "n": 0})

    def session(self, database: int, number: int) -> Session:
        """A session; a new one where the server has ended it."""
        session = self._sessions.get((database, number))
        if session is None or session.connection.closed:
            session = Session(self._connect(self.servers.source, SOURCES[database], CAUTION))
            self._sessions[database, number] = session
        return session

    def play(self, step: Step, among: Sequence[str] = ()) -> None:
        """Take a step that is no sync's. Statements that fail are part of life.

        Args:
            step: the step.
            among: the columns that it is about, if not all.
        """
        if step["do"] in ("statement", "type"):
            self._statement(step, among)
            return
        {"transaction": self._transaction, "server": self._server, "wait": self._wait}[step["do"]](step)

    def _statement(self, step: Step, among: Sequence[str]) -> None:
        table = self.history.tables[step["table"]]
        number = MAINTENANCE if step["what"] in OUTSIDE else step["session"]
        is_type = step["do"] == "type"
        if is_type and self.reading:
            return
        made = (TYPE_STATEMENTS if is_type else STATEMENTS)[step["what"]]
        session = self.session(table["database"], number)

        def act() -> None:
            session.recover()
            # A step that is several statements is one transaction of the session's, or part of one.
            statement = step["sql"] if "sql" in step else "; ".join(made(self._scene(step, session, among)))
            self.literal[id(step)] = {"sql": statement}
            self.say(f"{SOURCES[table['database']]}.{number}: {statement}")
            if statement:
                session.alters_types |= is_type and session.status == TRANSACTION_STATUS_INTRANS
                session.run(statement)
                self.done[step["what"]] += 1

        self._tolerantly(session, act)

    def _scene(self, step: Step, session: Session, among: Sequence[str]) -> Scene:
        table = self.history.tables[step["table"]]
        rnd, version = Random(step["n"]), self.servers.version
        return Scene(
            session.run, self.name(step["table"]), table["kind"], table["rows"], table["citext"], version, rnd,
            step.get("to"), tuple(among),
        )  # fmt: skip

    def _transaction(self, step: Step) -> None:
        for database in range(self.databases):
            session = self.session(database, step["session"])
            self._tolerantly(session, lambda database=database, session=session: self._end(database, session, step))

    def _end(self, database: int, session: Session, step: Step) -> None:
        what = step["what"]
        idle = session.status == TRANSACTION_STATUS_IDLE
        if what == "end_all":
            self.say("all transactions end")
            self.quiet()
            return
        if self.reading and session.alters_types and what in ("commit", "prepare"):
            return
        statements: list[str] = []
        if what in ("asynchronous", "synchronous"):
            statements = [f"SET synchronous_commit = {'off' if what == 'asynchronous' else 'on'}"]
        elif what in ("begin", "begin_asynchronous"):
            statements = ["BEGIN"] if idle else []
            if what == "begin_asynchronous":
                statements.append("SET LOCAL synchronous_commit = off")
            if step["n"] % 3 == 0:
                statements.append("SELECT pg_current_xact_id()")
        elif what in ("commit_prepared", "rollback_prepared"):
            gids = [gid for (gid,) in session.run(_PREPARED) if not (self.reading and gid in self.prepared_types)]
            if idle and gids:
                statements = [f"{what.replace('_', ' ').upper()} '{gids[step['n'] % len(gids)]}'"]
        elif idle:
            return
        elif what in ("commit", "rollback"):
            statements = [what.upper()]
        elif what == "prepare":
            self._gids += 1
            if session.alters_types:
                self.prepared_types.add(f"g{self._gids}")
            statements = [f"PREPARE TRANSACTION 'g{self._gids}'"]
        elif what == "savepoint":
            session.recover()
            session.savepoints.append(f"s{len(session.savepoints)}")
            statements = [f"SAVEPOINT {session.savepoints[-1]}"]
        elif what in ("rollback_to", "release") and session.savepoints:
            del session.savepoints[(place := step["n"] % len(session.savepoints)) + 1 :]
            statements = [f"{what.replace('_', ' ').upper()} {session.savepoints[place]}"]
            if what == "release":
                del session.savepoints[place]
        for statement in statements:
            self.say(f"{SOURCES[database]}.{step['session']}: {statement}")
            session.run(statement)
        self.done[what] += bool(statements)

    def _tolerantly(self, session: Session, act: Callable[[], None]) -> None:
        try:
            act()
        except psycopg2.Error as error:
            self.say(f"    {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            if session.connection.closed:
                if self.servers.recovered():
                    self.hurt += 1
                return
        with suppress(psycopg2.Error):
            session.recover() if not session.savepoints else session.ended()

    def _wait(self, step: Step) -> None:
        self.say(f"wait {step['seconds']}")
        time.sleep(step["seconds"])

    def _server(self, step: Step) -> None:
        what, number, servers = step["what"], step["n"], self.servers
        shared = "" if servers.version >= 17 else "'bgwriter'"
        simple = {
            "checkpoint": "CHECKPOINT",
            "reset_statistics": f"SELECT pg_stat_reset(), pg_stat_reset_shared({shared})",
            "switch_wal": "SELECT pg_switch_wal()",
            "burn": "DO 'BEGIN FOR i IN 1..40 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END'",
        }
        self.done[what] += 1
        self.say(f"server: {what} {number if what in ('slow', 'writer_delay', 'summarize') else ''}")
        if what in simple:
            session = self.session(0, MAINTENANCE)
            self._tolerantly(session, lambda: session.run(simple[what]) and None)
        elif what == "writer_delay":
            session = self.session(0, MAINTENANCE)
            delay = (10, 10, 40, 200)[number % 4]
            self._tolerantly(session, lambda: session.run(f"ALTER SYSTEM SET wal_writer_delay = '{delay}ms'") and None)
            self._tolerantly(session, lambda: session.run("SELECT pg_reload_conf()") and None)
        elif what == "summarize":
            if servers.version >= MIN_VERSION:
                session = self.session(0, MAINTENANCE)
                turn = f"ALTER SYSTEM SET summarize_wal = {('on', 'off')[number % 2]}"
                self._tolerantly(session, lambda: session.run(turn) and None)
                self._tolerantly(session, lambda: session.run("SELECT pg_reload_conf()") and None)
        elif what == "forget_summaries":
            servers.remove_summaries()
        elif what == "slow":
            servers.slow((30, 60, 120)[number % 3])
        elif what == "quick":
            servers.slow(0)
        elif what == "stop_walwriter":
            servers.stop_walwriter()
        elif what == "continue_walwriter":
            servers.continue_walwriter()
        else:
            self.hurt += 1
            if what == "kill":
                some = [session for session in self._sessions.values() if not session.connection.closed]
                victim = some[number % len(some)] if some else self.session(0, 0)
                servers.kill(victim.connection.info.backend_pid)
            elif what == "crash":
                servers.crash()
            elif what == "restart":
                self.disconnect()
                servers.restart()
            elif what == "restore" and not self.reading:
                self.disconnect()
                self._backup = servers.back_up_or_restore(self._backup)
            self.disconnect()

    def _connect(self, server: Cluster, database: str, options: str) -> Connection:
        connected = psycopg2.connect(server.url(database), connect_timeout=10, options=options)
        connected.autocommit = True
        self._open.append(connected)
        return connected


_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = current_database() ORDER BY gid"


def _end_others(cursor: Any) -> None:
    cursor.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
