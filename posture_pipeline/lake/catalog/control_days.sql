-- In how many accounts each control failed on a day, counted once so that nobody who looks at months
-- has to.
-- Wants: variable `day`; a table or view `new_rows` with the day's control status.

DELETE FROM control_days WHERE date = getvariable('day');

INSERT INTO control_days
SELECT
    getvariable('day') AS date,
    report,
    control_id,
    severity,
    count(*) FILTER (status = 'FAILED') AS failing_accounts,
    count(*) FILTER (status <> 'NO_DATA') AS accounts
FROM new_rows
GROUP BY report, control_id, severity
ORDER BY report, control_id, severity;
