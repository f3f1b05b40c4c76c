-- Every day of a table of the lake. It lists the table's files, and opens those of the asked days.
-- {view} is its name, {replaced} what the path tells of a row beside its day, so that files are
-- left out by it; the other words in braces are as in lake_day.sql.
CREATE OR REPLACE VIEW {view} AS
SELECT files.* EXCLUDE (run)
FROM (
    SELECT
        CAST(left(split_part(filename, '/date=', -1), 10) AS DATE) AS date,
        split_part(split_part(filename, '/run=', -1), '/', 1) AS run,
        * EXCLUDE (filename) {replaced}
    FROM read_parquet(
        '{pattern}/{table}/date=*/run=*/**/*.parquet', filename = true, schema = {columns}
    )
) AS files
-- Not a semi join: through a join the asked days reach the commits too.
JOIN (
    SELECT CAST(left(split_part(filename, '/date=', -1), 10) AS DATE) AS date, run
    FROM read_json(
        '{pattern}/{table}/date=*/_current.json',
        columns = {run: 'VARCHAR'}, filename = true, hive_partitioning = false
    )
) AS commits USING (date, run);
