-- Macros and views over the lake, beside those that lake_day.sql and lake_days.sql make of a table.
-- {root} is the lake's path, {pattern} the same as the start of a glob pattern.

CREATE OR REPLACE MACRO lake_root() AS '{root}';

-- The view of all findings under the name of its table.
CREATE OR REPLACE VIEW account_findings AS SELECT * FROM findings;

-- What fails on a day and did not fail on the newest day before it:
-- FROM new_failures('2026-11-23');
CREATE OR REPLACE MACRO new_failures(day) AS TABLE
SELECT
    changes.report,
    accounts.workload,
    accounts.environment,
    changes.account_id,
    accounts.account_name,
    changes.control_id,
    expected.severity,
    expected.title,
    changes.region,
    changes.resource_id,
    changes.status_before,
    changes.cause,
    changes.first_observed_at,
    changes.compared_with
FROM finding_changes_on(day) AS changes
LEFT JOIN account_scores AS accounts USING (date, report, account_id)
LEFT JOIN expected_controls AS expected USING (date, report, control_id)
-- A failure whose finding aged out was failing all along.
WHERE changes.status_after = 'FAILED' AND changes.status_before NOT IN ('FAILED', 'CARRIED')
ORDER BY
    coalesce(list_position(['CRITICAL', 'HIGH', 'MEDIUM', 'LOW'], upper(expected.severity)), 9),
    changes.report, changes.control_id, changes.account_id, changes.region, changes.resource_id;

-- Every failure of a control on a resource once: as of the day on which it ended, or open as of the
-- newest day. One that ended without a remedy and went on is told as it is known last.
CREATE OR REPLACE VIEW remediation AS
SELECT * FROM remediation_days
WHERE closed_on IS NOT NULL OR date = (
    SELECT max(CAST(left(split_part(file, '/date=', -1), 10) AS DATE))
    FROM glob('{pattern}/remediation/date=*/_current.json')
)
QUALIFY 1 = row_number() OVER (
    PARTITION BY report, account_id, region, control_id, resource_id, opened_at ORDER BY date DESC
);

-- What to fix first in a workload, as `posture backlog` orders it, and the score after each:
-- FROM backlog('fsbp', 'payments', 'production', '2026-11-23');
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
        CAST(sum(unknown_resources) AS BIGINT) AS unknown_resources
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
        failed_resources + unknown_resources AS to_fix,
        row_number() OVER (
            ORDER BY
                failed_resources + unknown_resources,
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
    unknown_resources,
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
