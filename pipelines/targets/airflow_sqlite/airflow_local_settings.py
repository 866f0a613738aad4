"""Airflow reads this on its start, by this name: what its SQLite database needs in `sextant up`.

A savepoint outside of a transaction begins one that only reads. When another process has written
before that one does, SQLite refuses it at once as "database is locked", however patient it is
(SQLITE_BUSY_SNAPSHOT, https://www.sqlite.org/rescode.html#busy_snapshot). Airflow creates the runs
of a backfill in savepoints, while its scheduler writes.
"""

from sqlalchemy import Connection, Engine, event

__all__: list[str] = []  # Airflow takes over every public name


@event.listens_for(Engine, "savepoint")
def write_from_the_beginning(connection: Connection, _name: str) -> None:
    """Take the lock to write, for which SQLite does wait, before the savepoint."""
    database = connection.connection.dbapi_connection
    if database is not None and not database.in_transaction:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
