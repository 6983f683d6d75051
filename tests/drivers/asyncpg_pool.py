"""asyncpg with its pool, used as its users do. Arguments: acme's URL, globex' URL."""
import asyncio
import sys

import asyncpg


async def same_process():
    one, two = [await asyncpg.connect(dsn) for dsn in sys.argv[1:3]]
    for connection in (one, two, one):
        assert await connection.fetchval("select pg_backend_pid()") == connection.get_server_pid()
    assert one.get_server_pid() != two.get_server_pid()
    await one.close()
    await two.close()


async def main():
    await same_process()
    pools = [await asyncpg.create_pool(dsn, min_size=2, max_size=6) for dsn in sys.argv[1:3]]
    names = [await pool.fetchval('select name from "Workspace"') for pool in pools]
    assert names[0] != names[1], names

    async def work(number):
        pool, name = pools[number % 2], names[number % 2]
        async with pool.acquire() as connection:
            for _ in range(15):
                assert await connection.fetchval('select name from "Workspace" where name = $1', name) == name
            async with connection.transaction():
                await connection.execute('insert into "Segment" (name) values ($1)', f"asyncpg {number}")
                async with connection.transaction():
                    rows = await connection.fetch('select * from "Segment" where name = $1', f"asyncpg {number}")
                    assert len(rows) == 1
            await connection.execute('delete from "Segment" where name = $1', f"asyncpg {number}")
            try:
                await connection.fetchval("select 1/0")
                raise SystemExit("a division by zero went through")
            except asyncpg.DivisionByZeroError:
                pass
            async with connection.transaction():
                assert len([row async for row in connection.cursor("select generate_series(1, 120)")]) == 120

    await asyncio.gather(*[work(number) for number in range(16)])
    try:
        await asyncio.wait_for(pools[0].fetchval("select pg_sleep(30)"), 0.3)
        raise SystemExit("a statement outlived its timeout")
    except asyncio.TimeoutError:
        pass
    assert await pools[0].fetchval("select 1") == 1
    for pool in pools:
        await pool.close()
    print("all good")


asyncio.run(asyncio.wait_for(main(), 60))
