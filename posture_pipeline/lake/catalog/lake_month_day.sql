-- lake_day.sql for a table whose past months are a file each: FROM {table}_on('2026-11-23');
-- The words in braces are as there; {dated_columns} are the columns with the date among them, which
-- says where in the file of a month the day is. Its commit says which run folder has its rows: one
-- of the day, or one of the month.
CREATE OR REPLACE MACRO {table}_on(day) AS TABLE
SELECT files.* EXCLUDE (filename)
FROM read_parquet(
    [
        '{pattern}/{table}/date=' || day || '/run=*/**/*.parquet',
        '{pattern}/{table}/month=' || left(CAST(day AS VARCHAR), 7) || '/run=*/*.parquet'
    ],
    filename = true, allow_empty = true, schema = {dated_columns}
) AS files
SEMI JOIN read_json(
    '{pattern}/{table}/date=' || day || '/_current.json',
    columns = {run: 'VARCHAR', month_run: 'VARCHAR'}, hive_partitioning = false
) AS commits
    ON coalesce(commits.month_run, commits.run)
        = split_part(split_part(files.filename, '/run=', -1), '/', 1)
WHERE files.date = CAST(day AS DATE);
