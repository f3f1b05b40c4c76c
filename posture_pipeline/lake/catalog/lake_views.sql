-- Macros and a view over the findings in the lake. They go by the commits, so that half a write
-- is never read, and open only the files of the asked day (and account).
-- {root} is the lake's path, {pattern} the same as the start of a glob pattern.

CREATE OR REPLACE MACRO lake_root() AS '{root}';

-- The findings of a day: FROM findings_on('2026-11-23') WHERE compliance_status = 'FAILED';
CREATE OR REPLACE MACRO findings_on(day) AS TABLE
SELECT findings.* EXCLUDE (run)
FROM read_parquet(
    '{pattern}/account_findings/date=' || day || '/run=*/**/*.parquet',
    hive_partitioning = true, hive_types_autocast = false, hive_types = {date: 'DATE'}
) AS findings
SEMI JOIN read_json(
    '{pattern}/account_findings/date=' || day || '/_current.json',
    columns = {run: 'VARCHAR', rows: 'BIGINT'}
) USING (run);

-- The findings of one account on a day: FROM account_findings_on('111122223333', '2026-11-23');
CREATE OR REPLACE MACRO account_findings_on(account, day) AS TABLE
SELECT findings.* EXCLUDE (run)
FROM read_parquet(
    '{pattern}/account_findings/date=' || day || '/run=*/account_id=' || account || '/*.parquet',
    hive_partitioning = true, hive_types_autocast = false, hive_types = {date: 'DATE'}
) AS findings
SEMI JOIN read_json(
    '{pattern}/account_findings/date=' || day || '/_current.json',
    columns = {run: 'VARCHAR', rows: 'BIGINT'}
) USING (run);

-- Control status of a day with its counts of findings: FROM control_status_on('2026-11-23');
CREATE OR REPLACE MACRO control_status_on(day) AS TABLE
SELECT status.* EXCLUDE (run)
FROM read_parquet(
    '{pattern}/control_status/date=' || day || '/run=*/*.parquet',
    hive_partitioning = true, hive_types_autocast = false, hive_types = {date: 'DATE'}
) AS status
SEMI JOIN read_json(
    '{pattern}/control_status/date=' || day || '/_current.json',
    columns = {run: 'VARCHAR', rows: 'BIGINT'}
) USING (run);

-- What to fix first in a workload, as `posture backlog` orders it, and the score after each:
-- FROM backlog('fsbp', 'payments', 'production', '2026-11-23');
-- The control status counts failed resources but not those that could not be evaluated: for these
-- their findings stand in, so `to_fix` is too high where one such resource has several findings.
CREATE OR REPLACE MACRO backlog(of_report, of_workload, of_environment, day) AS TABLE
WITH controls AS (
    SELECT
        control_id,
        min(severity) AS severity,
        CASE
            WHEN bool_or(status = 'FAILED') THEN 'FAILED'
            WHEN bool_or(status = 'UNKNOWN') THEN 'UNKNOWN'
            ELSE 'PASSED'
        END AS status,
        CAST(sum(failed_resources) AS BIGINT) AS failed_resources,
        CAST(sum(unknown_findings) AS BIGINT) AS unknown_findings
    FROM control_status_on(day)
    SEMI JOIN (
        SELECT account_id FROM account_scores
        WHERE date = CAST(day AS DATE) AND report = of_report
            AND workload = of_workload AND environment = of_environment
    ) USING (account_id)
    -- A score that is withheld promises no points.
    SEMI JOIN (
        SELECT report FROM workload_scores
        WHERE date = CAST(day AS DATE) AND report = of_report AND score IS NOT NULL
            AND workload = of_workload AND environment = of_environment
    ) USING (report)
    WHERE report = of_report AND status <> 'NO_DATA'
    GROUP BY control_id
), totals AS (
    SELECT count(*) AS counted, count(*) FILTER (status = 'PASSED') AS passed FROM controls
), placed AS (
    SELECT
        *,
        failed_resources + unknown_findings AS to_fix,
        row_number() OVER (
            ORDER BY
                failed_resources + unknown_findings,
                status = 'UNKNOWN',
                coalesce(
                    list_position(['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], upper(severity)), 9
                ),
                control_id
        ) AS position
    FROM controls WHERE status <> 'PASSED'
)
SELECT
    position,
    control_id,
    placed.severity,
    status,
    to_fix,
    failed_resources,
    unknown_findings,
    100.0::DOUBLE / counted AS points,
    100.0::DOUBLE * (passed + position) / counted AS score_after,
    CAST(sum(to_fix) OVER (ORDER BY position) AS BIGINT) AS fixed_so_far,
    expected.title,
    expected.remediation_url
FROM placed
CROSS JOIN totals
LEFT JOIN (
    FROM expected_controls WHERE report = of_report AND date = CAST(day AS DATE)
) AS expected USING (control_id)
ORDER BY position;

-- Every finding of every day, for ad hoc use: it lists the whole table, so give a date.
CREATE OR REPLACE VIEW findings AS
SELECT findings.* EXCLUDE (run)
FROM read_parquet(
    '{pattern}/account_findings/date=*/run=*/**/*.parquet',
    hive_partitioning = true, hive_types_autocast = false, hive_types = {date: 'DATE'}
) AS findings
SEMI JOIN read_json(
    '{pattern}/account_findings/date=*/_current.json',
    columns = {run: 'VARCHAR', rows: 'BIGINT'}, hive_partitioning = true,
    hive_types_autocast = false, hive_types = {date: 'DATE'}
) USING (date, run);
