-- The view of lake_days.sql for a table whose past months are a file each, or that the lake has no file
-- of yet: no rows until it has. DuckDB knows no columns where it finds no file, so they are named:
-- {names}, and {no_rows} without any row.
CREATE OR REPLACE VIEW {view} AS
SELECT {names}
FROM (
    SELECT
        CAST(left(split_part(filename, '/date=', -1), 10) AS DATE) AS date,
        split_part(split_part(filename, '/run=', -1), '/', 1) AS run,
        * EXCLUDE (date, filename)
    FROM (
        SELECT {no_rows}, CAST(NULL AS VARCHAR) AS filename WHERE false
        UNION ALL BY NAME
        FROM read_parquet(
            '{pattern}/{table}/date=*/run=*/**/*.parquet',
            filename = true, allow_empty = true, schema = {columns}
        )
    )
    UNION ALL BY NAME
    SELECT * EXCLUDE (filename), split_part(split_part(filename, '/run=', -1), '/', 1) AS run
    FROM (
        SELECT {no_rows}, CAST(NULL AS VARCHAR) AS filename WHERE false
        UNION ALL BY NAME
        FROM read_parquet(
            '{pattern}/{table}/month=*/run=*/*.parquet',
            filename = true, allow_empty = true, schema = {dated_columns}
        )
    )
) AS files
JOIN (
    SELECT
        CAST(left(split_part(filename, '/date=', -1), 10) AS DATE) AS date,
        coalesce(month_run, run) AS run
    FROM (
        SELECT CAST(NULL AS VARCHAR) AS run, CAST(NULL AS VARCHAR) AS month_run,
            CAST(NULL AS VARCHAR) AS filename
        WHERE false
        UNION ALL BY NAME
        FROM read_json(
            '{pattern}/{table}/date=*/_current.json',
            columns = {run: 'VARCHAR', month_run: 'VARCHAR'}, filename = true,
            hive_partitioning = false, allow_empty = true
        )
    )
) AS commits USING (date, run);
