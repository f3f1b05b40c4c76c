-- The same as periods.sql for a day later than every observed one, the daily case: only what
-- changed since the newest day is touched.
-- Wants: variable `day`; a table or view `new_rows` with the day's control status.

SET VARIABLE last_day = (SELECT max(date) FROM observed_days);

CREATE TEMP TABLE changed AS
SELECT
    new_rows.*,
    coalesce(new_rows.report, open.report) AS key_report,
    coalesce(new_rows.account_id, open.account_id) AS key_account,
    coalesce(new_rows.control_id, open.control_id) AS key_control,
    open.report IS NOT NULL AS was_open
FROM new_rows
FULL JOIN (SELECT * FROM control_status_periods WHERE valid_to IS NULL) AS open
    ON open.report = new_rows.report
    AND open.account_id = new_rows.account_id
    AND open.control_id = new_rows.control_id
WHERE new_rows.status IS DISTINCT FROM open.status
    OR new_rows.report_kind IS DISTINCT FROM open.report_kind
    OR new_rows.basis IS DISTINCT FROM open.basis
    OR new_rows.severity IS DISTINCT FROM open.severity;

UPDATE control_status_periods SET valid_to = getvariable('last_day')
FROM changed
WHERE valid_to IS NULL
    AND changed.was_open
    AND control_status_periods.report = changed.key_report
    AND control_status_periods.account_id = changed.key_account
    AND control_status_periods.control_id = changed.key_control;

INSERT INTO control_status_periods
SELECT report, report_kind, account_id, control_id, severity, status, basis,
    getvariable('day') AS valid_from, NULL AS valid_to
FROM changed WHERE report IS NOT NULL;

INSERT INTO observed_days SELECT getvariable('day');

DROP TABLE changed;
