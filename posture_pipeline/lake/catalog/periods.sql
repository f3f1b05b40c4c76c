-- Control status as periods: a status of a control in an account, from a day to a day.
-- Takes the day out of the periods, then puts the new rows of the day in, joined to equal
-- neighbours. A period covers every observed day between its ends; an open one (valid_to null)
-- lasts until the newest observed day.
-- Wants: variable `day`; a table or view `new_rows` with the day's control status.

SET VARIABLE last_day = (SELECT max(date) FROM observed_days);
SET VARIABLE previous_day = (SELECT max(date) FROM observed_days WHERE date < getvariable('day'));
SET VARIABLE next_day = (SELECT min(date) FROM observed_days WHERE date > getvariable('day'));

UPDATE control_status_periods SET valid_to = getvariable('last_day') WHERE valid_to IS NULL;

CREATE TEMP TABLE cut AS
SELECT * FROM control_status_periods WHERE getvariable('day') BETWEEN valid_from AND valid_to;

DELETE FROM control_status_periods WHERE getvariable('day') BETWEEN valid_from AND valid_to;

INSERT INTO control_status_periods
SELECT * REPLACE (getvariable('previous_day') AS valid_to) FROM cut
WHERE valid_from < getvariable('day')
UNION ALL
SELECT * REPLACE (getvariable('next_day') AS valid_from) FROM cut
WHERE valid_to > getvariable('day');

CREATE TEMP TABLE joined AS
SELECT
    new_rows.*,
    before.valid_from AS before_from,
    after.valid_to AS after_to
FROM new_rows
LEFT JOIN control_status_periods AS before
    ON before.valid_to = getvariable('previous_day')
    AND before.report = new_rows.report
    AND before.account_id = new_rows.account_id
    AND before.control_id = new_rows.control_id
    AND before.report_kind = new_rows.report_kind
    AND before.status = new_rows.status
    AND before.basis = new_rows.basis
    AND before.severity IS NOT DISTINCT FROM new_rows.severity
LEFT JOIN control_status_periods AS after
    ON after.valid_from = getvariable('next_day')
    AND after.report = new_rows.report
    AND after.account_id = new_rows.account_id
    AND after.control_id = new_rows.control_id
    AND after.report_kind = new_rows.report_kind
    AND after.status = new_rows.status
    AND after.basis = new_rows.basis
    AND after.severity IS NOT DISTINCT FROM new_rows.severity;

DELETE FROM control_status_periods USING joined
WHERE control_status_periods.report = joined.report
    AND control_status_periods.account_id = joined.account_id
    AND control_status_periods.control_id = joined.control_id
    AND (
        (joined.before_from IS NOT NULL AND control_status_periods.valid_from = joined.before_from)
        OR (
            joined.after_to IS NOT NULL
            AND control_status_periods.valid_from = getvariable('next_day')
        )
    );

INSERT INTO control_status_periods
SELECT
    report,
    report_kind,
    account_id,
    control_id,
    severity,
    status,
    basis,
    coalesce(before_from, getvariable('day')) AS valid_from,
    coalesce(after_to, getvariable('day')) AS valid_to
FROM joined;

INSERT INTO observed_days
SELECT getvariable('day') WHERE getvariable('day') NOT IN (SELECT date FROM observed_days);

UPDATE control_status_periods SET valid_to = NULL
WHERE valid_to = (SELECT max(date) FROM observed_days);

DROP TABLE cut;
DROP TABLE joined;
