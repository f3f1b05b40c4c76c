-- The rows of a range of days of a table whose past months are a file each, looking for no other days:
-- FROM {table}_between('2026-10-23', '2026-11-23');
-- The words in braces are as in lake_day.sql, lake_month_day.sql and lake_months.sql.
CREATE OR REPLACE MACRO {table}_between(from_day, to_day) AS TABLE
WITH files AS (
    SELECT {no_rows}, CAST(NULL AS VARCHAR) AS filename WHERE false
    UNION ALL BY NAME
    FROM read_parquet(
        list_distinct(flatten(list_transform(
            generate_series(CAST(from_day AS DATE), CAST(to_day AS DATE), INTERVAL 1 DAY),
            lambda day: [
                '{pattern}/{table}/date=' || strftime(day, '%Y-%m-%d') || '/run=*/**/*.parquet',
                '{pattern}/{table}/month=' || strftime(day, '%Y-%m') || '/run=*/*.parquet'
            ]
        ))),
        filename = true, allow_empty = true, schema = {dated_columns}
    )
), commits AS (
    SELECT CAST(NULL AS VARCHAR) AS run, CAST(NULL AS VARCHAR) AS month_run,
        CAST(NULL AS VARCHAR) AS filename
    WHERE false
    UNION ALL BY NAME
    FROM read_json(
        list_transform(
            generate_series(CAST(from_day AS DATE), CAST(to_day AS DATE), INTERVAL 1 DAY),
            lambda day: '{pattern}/{table}/date=' || strftime(day, '%Y-%m-%d') || '/_current.json'
        ),
        columns = {run: 'VARCHAR', month_run: 'VARCHAR'}, filename = true,
        hive_partitioning = false, allow_empty = true
    )
)
SELECT files.* EXCLUDE (filename)
FROM files
JOIN commits
    ON files.date = CAST(left(split_part(commits.filename, '/date=', -1), 10) AS DATE)
    AND split_part(split_part(files.filename, '/run=', -1), '/', 1)
        = coalesce(commits.month_run, commits.run)
WHERE files.date BETWEEN CAST(from_day AS DATE) AND CAST(to_day AS DATE);
