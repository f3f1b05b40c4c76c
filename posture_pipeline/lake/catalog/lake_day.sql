-- The rows of one day of a table of the lake: FROM {macro}('2026-11-23');
-- {arguments} are the day, and what {below}, the folders of a run that are read, is made of;
-- {replaced} is what the path tells of a row beside its day, so that files are left out by it.
-- {table} is the table, {pattern} the lake's path as the start of a glob pattern, {columns} the
-- table's columns: a file that is older than one of them gives null for it.
-- It goes by the commit, so that half a write is never read, and opens only the files of the day.
-- A day that was never written is an error, not a day without rows.
-- The lake may lie below a folder such as run=old, hence no hive partitions: only the last count.
CREATE OR REPLACE MACRO {macro}({arguments}) AS TABLE
SELECT CAST(day AS DATE) AS date, files.* EXCLUDE (filename) {replaced}
FROM read_parquet(
    '{pattern}/{table}/date=' || day || '/run=*/{below}/*.parquet',
    filename = true, schema = {columns}
) AS files
SEMI JOIN read_json(
    '{pattern}/{table}/date=' || day || '/_current.json',
    columns = {run: 'VARCHAR'}, hive_partitioning = false
) AS commits
    ON commits.run = split_part(split_part(files.filename, '/run=', -1), '/', 1);
