/* SQLite, in memory and without an operating system: tables, indices, joins and sorting over n rows. */

#include <stddef.h>
#include <string.h>

#include "sqlite3.h"

static long long heap[32 << 17]; /* 32 MiB */

static int refuse(sqlite3_vfs *vfs, sqlite3_filename name, sqlite3_file *file, int flags, int *out)
{
    return SQLITE_CANTOPEN;
}

static int randomness(sqlite3_vfs *vfs, int size_bytes, char *out)
{
    memset(out, 7, size_bytes);
    return size_bytes;
}

static int full_path(sqlite3_vfs *vfs, const char *name, int size_bytes, char *out)
{
    sqlite3_snprintf(size_bytes, out, "%s", name);
    return SQLITE_OK;
}

static int sleep_not(sqlite3_vfs *vfs, int microseconds)
{
    return microseconds;
}

static int no_time(sqlite3_vfs *vfs, double *out)
{
    *out = 0;
    return SQLITE_OK;
}

int sqlite3_os_init(void)
{
    static sqlite3_vfs vfs = {
        .iVersion = 1,
        .szOsFile = sizeof(sqlite3_file),
        .mxPathname = 64,
        .zName = "none",
        .xOpen = refuse,
        .xFullPathname = full_path,
        .xRandomness = randomness,
        .xSleep = sleep_not,
        .xCurrentTime = no_time,
    };
    return sqlite3_vfs_register(&vfs, 1);
}

int sqlite3_os_end(void)
{
    return SQLITE_OK;
}

static int add_up(void *sum, int columns, char **values, char **names)
{
    for (int i = 0; i < columns; i++)
        for (const char *at = values[i] ? values[i] : "-"; *at; at++)
            *(unsigned *)sum = *(unsigned *)sum * 31 + (unsigned char)*at;
    return 0;
}

/* What all queries give, as a hash of the text; negative: SQLite's error. */
long long run(int n)
{
    static int is_configured;
    sqlite3 *db;
    sqlite3_stmt *insert;
    unsigned sum = 0;
    if (!is_configured) {
        int code = sqlite3_config(SQLITE_CONFIG_HEAP, heap, (int)sizeof heap, 64);
        if (code != SQLITE_OK)
            return -code;
        is_configured = 1;
    }
    int code = sqlite3_open(":memory:", &db);
    if (code != SQLITE_OK)
        return -code;
    code = sqlite3_exec(db,
        "create table item (id integer primary key, kind integer, name text, price real);"
        "create table kind (id integer primary key, name text);"
        "with recursive n(i) as (select 0 union all select i + 1 from n where i < 9)"
        "  insert into kind select i, 'kind ' || i from n;"
        "begin",
        0, 0, 0);
    if (code == SQLITE_OK)
        code = sqlite3_prepare_v2(db, "insert into item values (?1, ?1 * 7 % 10, 'item ' || (?1 * 7919 % 100003), ?1 * 0.25)", -1, &insert, 0);
    for (int i = 0; i < n && code == SQLITE_OK; i++) {
        sqlite3_bind_int(insert, 1, i);
        sqlite3_step(insert);
        code = sqlite3_reset(insert);
    }
    if (code == SQLITE_OK) {
        sqlite3_finalize(insert);
        code = sqlite3_exec(db,
            "commit; create index item_name on item (name);"
            "select kind.name, count(*), sum(price), max(item.name) from item join kind on kind.id = item.kind group by kind.name;"
            "select name, price from item order by price * 17 % 1001, name limit 20;"
            "select count(*) from item where name like '%9_';"
            "select price from item where name = 'item 15838';"
            "update item set price = price + 1 where kind in (2, 3);"
            "delete from item where id % 3 = 0;"
            "select count(*), total(price), group_concat(substr(name, -1)) from item where name between 'item 2' and 'item 3';",
            add_up, &sum, 0);
    }
    sqlite3_close(db);
    return code == SQLITE_OK ? (long long)sum : -code;
}
