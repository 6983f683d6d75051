"""SQLAlchemy and Alembic over psycopg 3 and asyncpg, used as their users do. Arguments: acme's URL, globex' URL, the
system key's URL."""
import asyncio
import pathlib
import sys
import tempfile
import uuid

import alembic.command
import alembic.config
import sqlalchemy as sa
from sqlalchemy import orm
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine

ACME, GLOBEX, SYSTEM = (url.removeprefix("postgres://") for url in sys.argv[1:4])


class Base(orm.DeclarativeBase):
    pass


class Segment(Base):
    __tablename__ = "Segment"
    id: orm.Mapped[uuid.UUID] = orm.mapped_column(primary_key=True, server_default=sa.text("gen_random_uuid()"))
    workspace_id: orm.Mapped[uuid.UUID] = orm.mapped_column("workspaceId", server_default=sa.FetchedValue())
    name: orm.Mapped[str]
    note: orm.Mapped[str | None]


ENVIRONMENT = """
import sqlalchemy as sa
from alembic import context
with sa.create_engine(context.config.get_main_option("sqlalchemy.url")).connect() as connection:
    context.configure(connection=connection)
    with context.begin_transaction():
        context.run_migrations()
"""
REVISIONS = {
    "one": """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "one", None
def upgrade():
    op.add_column("Segment", sa.Column("note", sa.Text))
    op.create_index("segment_note", "Segment", ["workspaceId", "note"])
def downgrade():
    op.drop_index("segment_note", "Segment")
    op.drop_column("Segment", "note")
""",
    "two": """
from alembic import op
import sqlalchemy as sa
revision, down_revision = "two", "one"
def upgrade():
    op.create_table("Tag", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(20), nullable=False))
    op.bulk_insert(sa.table("Tag", sa.column("name", sa.String)), [{"name": "a"}, {"name": "b"}])
    with op.get_context().autocommit_block():
        op.create_index("tag_name", "Tag", ["name"], unique=True, postgresql_concurrently=True)
def downgrade():
    op.drop_table("Tag")
""",
    "three": """
from alembic import op
revision, down_revision = "three", "two"
def upgrade():
    op.execute("create table half_done ()")
    op.execute("select 1/0")
""",
}


def migrator(directory):
    (directory / "versions").mkdir()
    (directory / "env.py").write_text(ENVIRONMENT)
    for name, text in REVISIONS.items():
        (directory / "versions" / f"{name}.py").write_text(text)
    config = alembic.config.Config()
    config.set_main_option("script_location", str(directory))
    config.set_main_option("sqlalchemy.url", f"postgresql+psycopg://{SYSTEM}")
    return config


def crud(engine):
    with orm.Session(engine) as session:
        had = session.scalar(sa.select(sa.func.count()).select_from(Segment))
        made = [Segment(name=f"sqlalchemy {number}", note="new") for number in range(30)]
        session.add_all(made)
        session.flush()
        assert len({segment.workspace_id for segment in made}) == 1
        session.commit()
        first = session.scalars(sa.select(Segment).where(Segment.name == "sqlalchemy 0")).one()
        first.note = "changed"
        session.commit()
        session.refresh(first)
        assert first.note == "changed"
        try:
            with session.begin_nested():
                session.add(Segment(name="sqlalchemy 1"))
                session.flush()
            raise SystemExit("a name went in twice")
        except sa.exc.IntegrityError as error:
            assert error.orig.sqlstate == "23505", error
        # The savepoint was rolled back, and the transaction goes on.
        assert session.scalar(sa.select(sa.func.count()).where(Segment.note == "new")) == 29
        streamed = session.execute(sa.select(Segment.name).execution_options(yield_per=7))
        assert sum(len(part) for part in streamed.partitions()) == had + 30
        session.execute(sa.delete(Segment).where(Segment.name.like("sqlalchemy %")))
        session.commit()
        return had


async def asynchronous(url):
    engine = create_async_engine(f"postgresql+asyncpg://{url}", pool_size=4)

    async def one(number):
        async with AsyncSession(engine) as session, session.begin():
            return await session.scalar(sa.select(sa.cast(number, sa.Integer) + 1))

    assert await asyncio.gather(*map(one, range(40))) == list(range(1, 41))
    async with AsyncSession(engine) as session:
        found = (await session.scalars(sa.select(Segment).limit(3))).all()
        assert len(found) == 3
    await engine.dispose()


def main(directory):
    engines = [sa.create_engine(f"postgresql+psycopg://{url}", isolation_level=level) for url, level in
               [(ACME, "READ COMMITTED"), (GLOBEX, "REPEATABLE READ")]]
    assert "note" not in {column["name"] for column in sa.inspect(engines[0]).get_columns("Segment")}
    config = migrator(directory)
    alembic.command.upgrade(config, "two")
    assert {"Tag", "alembic_version"} <= set(sa.inspect(sa.create_engine(f"postgresql+psycopg://{SYSTEM}")).get_table_names())
    assert crud(engines[0]) != crud(engines[1])
    asyncio.run(asynchronous(ACME))
    try:
        alembic.command.upgrade(config, "three")
        raise SystemExit("a division by zero went through")
    except sa.exc.DBAPIError as error:
        assert error.orig.sqlstate == "22012", error
    with sa.create_engine(f"postgresql+psycopg://{SYSTEM}").connect() as connection:
        assert connection.scalar(sa.text("select to_regclass('half_done')")) is None
        assert connection.scalar(sa.text("select version_num from alembic_version")) == "two"
    alembic.command.downgrade(config, "base")
    assert "note" not in {column["name"] for column in sa.inspect(engines[1]).get_columns("Segment")}


with tempfile.TemporaryDirectory() as place:
    main(pathlib.Path(place))
print("all good")
