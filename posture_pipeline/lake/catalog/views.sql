-- Views and macros over the catalog's tables: the questions people ask.

CREATE OR REPLACE VIEW control_status AS
SELECT observed_days.date, control_status_periods.* EXCLUDE (valid_from, valid_to)
FROM observed_days
JOIN control_status_periods
    ON observed_days.date >= valid_from
    AND observed_days.date <= coalesce(valid_to, DATE '9999-12-31');

CREATE OR REPLACE VIEW accounts AS
SELECT date, account_id, account_name, workload, environment, owner, workload_source
FROM account_scores
GROUP BY ALL;

-- The workload scores of a day: FROM scores_on('2026-11-23');
CREATE OR REPLACE MACRO scores_on(day) AS TABLE
SELECT * FROM workload_scores WHERE date = CAST(day AS DATE)
ORDER BY report, workload, environment;

-- A workload's scores over time: FROM trend('payments', 'production');
CREATE OR REPLACE MACRO trend(of_workload, of_environment) AS TABLE
SELECT date, report, score, failed, failed_findings
FROM workload_scores WHERE workload = of_workload AND environment = of_environment
ORDER BY report, date;

-- The controls that fail in most accounts on a day: FROM worst_controls('2026-11-23');
CREATE OR REPLACE MACRO worst_controls(day) AS TABLE
SELECT report, control_id, severity, count(*) FILTER (status = 'FAILED') AS failing_accounts,
    count(*) FILTER (status <> 'NO_DATA') AS accounts
FROM control_status WHERE date = CAST(day AS DATE)
GROUP BY ALL HAVING failing_accounts > 0
ORDER BY failing_accounts DESC, control_id;

-- Why a workload's score changed since the day before, biggest part first, one row a cause:
-- FROM explain('fsbp', 'payments', 'production', '2026-11-23');
CREATE OR REPLACE MACRO explain(of_report, of_workload, of_environment, day) AS TABLE
SELECT changes.compared_with, changes.score_before, changes.score_after, changes.comparable,
    changes.control_id, changes.severity, changes.part, changes.status_before,
    changes.status_after, causes.cause, causes.decisive, causes.account_id, causes.region,
    causes.resource_id, causes.status_before AS resource_before,
    causes.status_after AS resource_after, causes.first_observed_at, causes.detail
FROM score_changes AS changes
LEFT JOIN score_change_causes AS causes
    ON causes.date = changes.date AND causes.scope = changes.scope
    AND causes.report = changes.report AND causes.workload = changes.workload
    AND causes.environment = changes.environment AND causes.control_id = changes.control_id
WHERE changes.scope = 'workload' AND changes.report = of_report
    AND changes.workload = of_workload AND changes.environment = of_environment
    AND changes.date = CAST(day AS DATE)
ORDER BY abs(changes.part) DESC NULLS LAST, changes.control_id, causes.decisive DESC,
    causes.account_id, causes.resource_id;
