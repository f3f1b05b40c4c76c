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
