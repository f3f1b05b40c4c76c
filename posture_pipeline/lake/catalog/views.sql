-- Views and macros over the catalog's tables: the questions people ask.

CREATE OR REPLACE VIEW control_status AS
SELECT observed_days.date, control_status_periods.* EXCLUDE (valid_from, valid_to)
FROM observed_days
JOIN control_status_periods
    ON observed_days.date >= valid_from
    AND observed_days.date <= coalesce(valid_to, DATE '9999-12-31');

-- The control status of a report on one day, straight from the periods.
CREATE OR REPLACE MACRO periods_on(of_report, day) AS TABLE
SELECT CAST(day AS DATE) AS date, account_id, control_id, severity, status
FROM control_status_periods
WHERE report = of_report AND valid_from <= CAST(day AS DATE)
    AND coalesce(valid_to, DATE '9999-12-31') >= CAST(day AS DATE);

-- The controls whose status in an account is another one on the second of two observed days; without
-- causes, so that it reads no file of the lake:
-- FROM changed_controls('fsbp', '2026-10-23', '2026-11-23') WHERE account_id = '111122223333';
-- Periods of both days are no change and are left out at once, so that few have to be joined.
CREATE OR REPLACE MACRO changed_controls(of_report, from_day, to_day) AS TABLE
SELECT
    account_id,
    control_id,
    coalesce(after.severity, before.severity) AS severity,
    before.status AS status_before,
    after.status AS status_after
FROM (
    SELECT account_id, control_id, severity, status
    FROM control_status_periods
    WHERE report = of_report AND valid_from <= CAST(from_day AS DATE)
        AND valid_to >= CAST(from_day AS DATE) AND valid_to < CAST(to_day AS DATE)
) AS before
FULL JOIN (
    SELECT account_id, control_id, severity, status
    FROM control_status_periods
    WHERE report = of_report AND valid_from > CAST(from_day AS DATE)
        AND valid_from <= CAST(to_day AS DATE)
        AND coalesce(valid_to, DATE '9999-12-31') >= CAST(to_day AS DATE)
) AS after USING (account_id, control_id)
WHERE before.status IS DISTINCT FROM after.status;

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
-- or on most days in most accounts: FROM worst_controls('2026-11-01', '2026-11-30');
CREATE OR REPLACE MACRO worst_controls(day) AS TABLE (
    SELECT report, control_id, severity, failing_accounts, accounts
    FROM control_days WHERE date = CAST(day AS DATE) AND failing_accounts > 0
    ORDER BY failing_accounts DESC, report, control_id
), (from_day, to_day) AS TABLE (
    WITH counted AS (
        SELECT
            report,
            control_id,
            max_by(severity, date) AS severity,
            CAST(sum(failing_accounts) AS BIGINT) AS failing_account_days,
            CAST(sum(accounts) AS BIGINT) AS account_days
        FROM control_days WHERE date BETWEEN CAST(from_day AS DATE) AND CAST(to_day AS DATE)
        GROUP BY report, control_id
    ), failing AS (
        SELECT report, control_id, count(DISTINCT account_id) AS failing_accounts
        FROM control_status_periods
        WHERE status = 'FAILED' AND valid_from <= CAST(to_day AS DATE)
            AND coalesce(valid_to, DATE '9999-12-31') >= CAST(from_day AS DATE)
        GROUP BY report, control_id
    )
    SELECT report, control_id, severity, failing_account_days, account_days, failing_accounts
    FROM counted JOIN failing USING (report, control_id)
    ORDER BY failing_account_days DESC, report, control_id
);

-- The change of one score since the day before, as it is stored: explain(...) and its siblings ask
-- for their own scope. The words that a scope does not need are null.
CREATE OR REPLACE MACRO explain_day(
    of_scope, of_report, of_account, of_workload, of_environment, day
) AS TABLE
SELECT changes.compared_with, changes.score_before, changes.score_after, changes.comparable,
    changes.control_id, changes.severity, changes.part, changes.status_before,
    changes.status_after, causes.cause, causes.decisive, causes.account_id, causes.region,
    causes.resource_id, causes.status_before AS resource_before,
    causes.status_after AS resource_after, causes.first_observed_at, causes.detail
FROM score_changes_on(day) AS changes
LEFT JOIN score_change_causes_on(day) AS causes
    ON causes.scope = changes.scope
    AND causes.report = changes.report AND causes.control_id = changes.control_id
    AND causes.workload IS NOT DISTINCT FROM changes.workload
    AND causes.environment IS NOT DISTINCT FROM changes.environment
    AND (changes.account_id IS NULL OR causes.account_id = changes.account_id)
WHERE changes.scope = of_scope AND changes.report = of_report
    AND changes.account_id IS NOT DISTINCT FROM of_account
    AND changes.workload IS NOT DISTINCT FROM of_workload
    AND changes.environment IS NOT DISTINCT FROM of_environment
ORDER BY abs(changes.part) DESC NULLS LAST, changes.control_id, causes.decisive DESC,
    causes.account_id, causes.region, causes.resource_id, causes.cause;

-- The change of one score between any two stored days. The parts are exact: with P passed of N
-- counted controls on each day, a control that adds dP and dN to them has the part
-- 100 * (dP * (1/N1 + 1/N2) / 2 - dN * (P1 + P2) / 2 / (N1 * N2))
-- so that they add up to the change, as in model/changes.py. The causes are those of the last day
-- on which the control changed.
CREATE OR REPLACE MACRO explain_days(
    of_scope, of_report, of_account, of_workload, of_environment, from_day, to_day
) AS TABLE
WITH days AS (
    SELECT
        CAST(from_day AS DATE) AS first_day,
        CAST(to_day AS DATE) AS last_day,
        CASE of_scope
            WHEN 'account' THEN 'the account is not among the scored ones'
            WHEN 'workload' THEN 'the workload has no accounts'
            ELSE 'the organization has no accounts'
        END AS not_there
), members AS (
    SELECT DISTINCT date, account_id
    FROM account_scores JOIN days ON date IN (first_day, last_day)
    WHERE report = of_report AND CASE of_scope
        WHEN 'account' THEN account_id = of_account
        WHEN 'workload' THEN workload = of_workload AND environment = of_environment
        ELSE true
    END
), statuses AS (
    SELECT
        date,
        control_id,
        max(severity) AS severity,
        ['NO_DATA', 'PASSED', 'UNKNOWN', 'FAILED'][max(
            CASE status WHEN 'FAILED' THEN 4 WHEN 'UNKNOWN' THEN 3 WHEN 'PASSED' THEN 2 ELSE 1 END
        )] AS status
    FROM (
        FROM periods_on(of_report, from_day) UNION ALL FROM periods_on(of_report, to_day)
    ) JOIN members USING (date, account_id)
    GROUP BY date, control_id
), controls AS (
    SELECT
        control_id,
        coalesce(
            max(severity) FILTER (date = last_day), max(severity) FILTER (date = first_day)
        ) AS severity,
        max(status) FILTER (date = first_day) AS status_before,
        max(status) FILTER (date = last_day) AS status_after,
        CAST(coalesce(status_before = 'PASSED', false) AS INTEGER) AS p1,
        CAST(coalesce(status_after = 'PASSED', false) AS INTEGER) AS p2,
        CAST(coalesce(status_before <> 'NO_DATA', false) AS INTEGER) AS n1,
        CAST(coalesce(status_after <> 'NO_DATA', false) AS INTEGER) AS n2
    FROM statuses CROSS JOIN days
    GROUP BY control_id
), totals AS (
    SELECT CAST(sum(p1) AS DOUBLE) AS all_p1, CAST(sum(p2) AS DOUBLE) AS all_p2,
        CAST(sum(n1) AS DOUBLE) AS all_n1, CAST(sum(n2) AS DOUBLE) AS all_n2
    FROM controls
), scores AS (
    SELECT date, score, reason FROM account_scores
    WHERE of_scope = 'account' AND report = of_report AND account_id = of_account
    UNION ALL
    SELECT date, score, reason FROM workload_scores
    WHERE of_scope = 'workload' AND report = of_report
        AND workload = of_workload AND environment = of_environment
    UNION ALL
    SELECT date, score, reason FROM organization_scores
    WHERE of_scope = 'organization' AND report = of_report
), compared AS (
    SELECT
        max(score) FILTER (date = first_day) AS score_before,
        max(score) FILTER (date = last_day) AS score_after,
        max(coalesce(reason, 'unknown')) FILTER (date = first_day) AS reason_before,
        max(coalesce(reason, 'unknown')) FILTER (date = last_day) AS reason_after
    FROM scores CROSS JOIN days
), methods AS (
    SELECT
        before.method AS method_before,
        after.method AS method_after,
        before.settings_hash IS DISTINCT FROM after.settings_hash AS other_settings,
        before.incomplete AS incomplete_before,
        after.incomplete AS incomplete_after
    FROM days
    JOIN organization_scores AS before ON before.date = first_day AND before.report = of_report
    JOIN organization_scores AS after ON after.date = last_day AND after.report = of_report
), changed AS (
    SELECT control_id, max(date) AS changed_on
    FROM score_changes_between(from_day, to_day) JOIN days ON date > first_day
    WHERE scope = of_scope AND report = of_report
        AND account_id IS NOT DISTINCT FROM of_account
        AND workload IS NOT DISTINCT FROM of_workload
        AND environment IS NOT DISTINCT FROM of_environment
    GROUP BY control_id
), causes AS (
    SELECT * FROM score_change_causes_between(from_day, to_day)
    WHERE scope = of_scope AND report = of_report
        AND workload IS NOT DISTINCT FROM of_workload
        AND environment IS NOT DISTINCT FROM of_environment
        AND (of_account IS NULL OR account_id = of_account)
)
SELECT
    first_day AS compared_with,
    score_before,
    score_after,
    CASE
        WHEN score_before IS NULL
            THEN 'no score on ' || first_day || ': ' || coalesce(reason_before, not_there)
        WHEN score_after IS NULL
            THEN 'no score on ' || last_day || ': ' || coalesce(reason_after, not_there)
        WHEN method_before IS DISTINCT FROM method_after
            THEN 'the scoring method changed from ' || coalesce(method_before, '?')
                || ' to ' || coalesce(method_after, '?')
        WHEN other_settings THEN 'the settings of the report changed'
        WHEN incomplete_before IS DISTINCT FROM incomplete_after
            THEN concat_ws(
                '; ',
                incomplete_after || ' on ' || last_day,
                incomplete_before || ' on ' || first_day
            )
    END AS comparable,
    controls.control_id,
    severity,
    CASE WHEN score_before IS NOT NULL AND score_after IS NOT NULL
        THEN 100 * ((p2 - p1) * (1 / all_n1 + 1 / all_n2) / 2
            - (n2 - n1) * (all_p1 + all_p2) / 2 / (all_n1 * all_n2))
    END AS part,
    controls.status_before,
    controls.status_after,
    changed_on,
    causes.cause,
    causes.decisive,
    causes.account_id,
    causes.region,
    causes.resource_id,
    causes.status_before AS resource_before,
    causes.status_after AS resource_after,
    causes.first_observed_at,
    causes.detail
FROM controls
CROSS JOIN days
CROSS JOIN totals
CROSS JOIN compared
CROSS JOIN methods
LEFT JOIN changed ON changed.control_id = controls.control_id
LEFT JOIN causes ON causes.control_id = controls.control_id AND causes.date = changed_on
WHERE coalesce(controls.status_before, 'NO_DATA') <> coalesce(controls.status_after, 'NO_DATA')
ORDER BY abs(part) DESC NULLS LAST, controls.control_id, causes.decisive DESC,
    causes.account_id, causes.region, causes.resource_id, causes.cause;

-- Why a workload's score changed, biggest part first, one row a cause: since the day before
-- FROM explain('fsbp', 'payments', 'production', '2026-11-23');
-- or between two stored days
-- FROM explain('fsbp', 'payments', 'production', '2026-10-23', '2026-11-23');
CREATE OR REPLACE MACRO explain(of_report, of_workload, of_environment, day) AS TABLE (
    FROM explain_day('workload', of_report, NULL, of_workload, of_environment, day)
), (of_report, of_workload, of_environment, from_day, to_day) AS TABLE (
    FROM explain_days(
        'workload', of_report, NULL, of_workload, of_environment, from_day, to_day
    )
);

-- The same of an account: FROM explain_account('fsbp', '111122223333', '2026-11-23');
CREATE OR REPLACE MACRO explain_account(of_report, of_account, day) AS TABLE (
    FROM explain_day('account', of_report, of_account, NULL, NULL, day)
), (of_report, of_account, from_day, to_day) AS TABLE (
    FROM explain_days('account', of_report, of_account, NULL, NULL, from_day, to_day)
);

-- The same of the whole organization: FROM explain_organization('fsbp', '2026-11-23');
CREATE OR REPLACE MACRO explain_organization(of_report, day) AS TABLE (
    FROM explain_day('organization', of_report, NULL, NULL, NULL, day)
), (of_report, from_day, to_day) AS TABLE (
    FROM explain_days('organization', of_report, NULL, NULL, NULL, from_day, to_day)
);

-- What is suppressed on a day, worth most first; the points are those of all exceptions of the
-- control in the workload and environment: FROM exceptions_on('2026-11-23');
CREATE OR REPLACE MACRO exceptions_on(day) AS TABLE
SELECT
    open_ones.report,
    open_ones.workload,
    open_ones.environment,
    open_ones.account_id,
    accounts.account_name,
    open_ones.control_id,
    expected.title,
    open_ones.severity,
    open_ones.region,
    open_ones.resource_id,
    open_ones.hides,
    open_ones.since,
    open_ones.until,
    coalesce(open_ones.until < CAST(day AS DATE), false) AS expired,
    open_ones.owner,
    open_ones.reason,
    open_ones.suppressed_by,
    open_ones.note,
    open_ones.score,
    open_ones.score_without,
    open_ones.points
FROM (SELECT * FROM exceptions WHERE date = CAST(day AS DATE) AND open) AS open_ones
LEFT JOIN account_scores AS accounts USING (date, report, account_id)
LEFT JOIN expected_controls AS expected USING (date, report, control_id)
ORDER BY
    open_ones.points DESC NULLS LAST, open_ones.control_id, open_ones.report, open_ones.workload,
    open_ones.environment, open_ones.account_id, open_ones.region, open_ones.resource_id;

-- The scores of a day, and what they would be if no exception at all counted; the rows without a
-- workload are the organization's: FROM scores_without_exceptions('2026-11-23');
CREATE OR REPLACE MACRO scores_without_exceptions(day) AS TABLE
WITH scores AS (
    SELECT report, workload, environment, score, passed, failed, unknown
    FROM workload_scores WHERE date = CAST(day AS DATE)
    UNION ALL
    SELECT report, NULL, NULL, score, passed, failed, unknown
    FROM organization_scores WHERE date = CAST(day AS DATE)
), members AS (
    SELECT report, account_id, workload, environment
    FROM account_scores WHERE date = CAST(day AS DATE)
    UNION ALL
    SELECT report, account_id, NULL, NULL
    FROM account_scores WHERE date = CAST(day AS DATE)
), hidden AS (
    SELECT
        report,
        account_id,
        control_id,
        count(*) AS exceptions,
        max(list_position(['NO_DATA', 'PASSED', 'UNKNOWN', 'FAILED'], hides)) AS hidden
    FROM exceptions WHERE date = CAST(day AS DATE) AND open
    GROUP BY report, account_id, control_id
), controls AS (
    SELECT
        members.report,
        members.workload,
        members.environment,
        statuses.control_id,
        sum(hidden.exceptions) AS exceptions,
        -- 1: NO_DATA, 2: PASSED; what is hidden is 2 at least.
        max(list_position(['NO_DATA', 'PASSED', 'UNKNOWN', 'FAILED'], statuses.status)) AS counted,
        greatest(counted, max(hidden.hidden)) AS without
    FROM control_status AS statuses
    JOIN members USING (report, account_id)
    LEFT JOIN hidden USING (report, account_id, control_id)
    WHERE statuses.date = CAST(day AS DATE)
    GROUP BY members.report, members.workload, members.environment, statuses.control_id
    HAVING sum(hidden.exceptions) > 0
), changes AS (
    SELECT
        report,
        workload,
        environment,
        sum(exceptions) AS exceptions,
        count(*) FILTER (without = 2) - count(*) FILTER (counted = 2) AS passed,
        count(*) FILTER (counted = 1) AS denominator
    FROM controls
    GROUP BY report, workload, environment
)
SELECT
    scores.report,
    scores.workload,
    scores.environment,
    CAST(coalesce(changes.exceptions, 0) AS BIGINT) AS exceptions,
    scores.score,
    CASE WHEN scores.score IS NOT NULL THEN
        100.0::DOUBLE * (scores.passed + coalesce(changes.passed, 0))
        / (scores.passed + scores.failed + scores.unknown + coalesce(changes.denominator, 0))
    END AS score_without,
    scores.score - score_without AS points
FROM scores
LEFT JOIN changes
    ON changes.report = scores.report
    AND changes.workload IS NOT DISTINCT FROM scores.workload
    AND changes.environment IS NOT DISTINCT FROM scores.environment
ORDER BY scores.report, scores.workload NULLS FIRST, scores.environment;

-- The failures of a report that are open, the oldest first: FROM slowest_fixes('fsbp');
-- or in one workload: FROM slowest_fixes('fsbp') WHERE workload = 'payments';
CREATE OR REPLACE MACRO slowest_fixes(of_report) AS TABLE
SELECT
    failures.days,
    failures.opened_at,
    failures.severity,
    failures.control_id,
    expected.title,
    failures.workload,
    failures.environment,
    failures.account_id,
    accounts.account_name,
    failures.region,
    failures.resource_id,
    failures.openings,
    failures.flapping,
    failures.carried_forward,
    failures.last_seen,
    failures.date,
    expected.remediation_url
FROM (SELECT * FROM remediation WHERE report = of_report AND closed_on IS NULL) AS failures
LEFT JOIN account_scores AS accounts USING (date, report, account_id)
LEFT JOIN expected_controls AS expected USING (date, report, control_id)
ORDER BY
    failures.opened_at, failures.control_id, failures.account_id, failures.region,
    failures.resource_id;
