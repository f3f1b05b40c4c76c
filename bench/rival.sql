-- What a capable user would write: from the pages straight to the account scores of every report.
CREATE TEMP TABLE expected AS
SELECT report, standard, unnest(controls) AS control
FROM read_json(getvariable('controls'), columns = {
    report: 'VARCHAR', standard: 'VARCHAR', controls: 'VARCHAR[]'
});

-- One row for each account and control: what its findings say.
CREATE TEMP TABLE statuses AS
WITH findings AS (
    SELECT unnest(Findings) AS finding
    -- Named columns with records = true: DuckDB need not guess, and skips every other member.
    FROM read_json(
        getvariable('pages'),
        format = 'newline_delimited',
        records = true,
        maximum_object_size = 67108864,
        columns = {
            Findings: 'STRUCT(
                AwsAccountId VARCHAR,
                RecordState VARCHAR,
                Workflow STRUCT(Status VARCHAR),
                Compliance STRUCT(
                    Status VARCHAR,
                    SecurityControlId VARCHAR,
                    AssociatedStandards STRUCT(StandardsId VARCHAR)[]
                ),
                ProductFields STRUCT("aws/config/ConfigRuleName" VARCHAR)
            )[]',
            NextToken: 'VARCHAR'
        }
    )
)
SELECT
    finding.AwsAccountId AS account_id,
    coalesce(
        finding.ProductFields['aws/config/ConfigRuleName'], finding.Compliance.SecurityControlId
    ) AS control,
    max(list_transform(finding.Compliance.AssociatedStandards, lambda each: each.StandardsId))
        AS standards,
    count(*) FILTER (finding.Workflow.Status IS DISTINCT FROM 'SUPPRESSED') AS counted,
    bool_or(finding.Compliance.Status = 'FAILED')
        FILTER (finding.Workflow.Status IS DISTINCT FROM 'SUPPRESSED') AS failed,
    bool_or(finding.Compliance.Status IS DISTINCT FROM 'PASSED')
        FILTER (finding.Workflow.Status IS DISTINCT FROM 'SUPPRESSED') AS not_passed
FROM findings
WHERE finding.RecordState = 'ACTIVE'
GROUP BY ALL;

CREATE TEMP TABLE scores AS
WITH controls AS (
    SELECT
        expected.report,
        accounts.account_id,
        CASE
            WHEN statuses.failed THEN 'failed'
            WHEN statuses.not_passed THEN 'unknown'
            WHEN statuses.counted > 0 THEN 'passed'
            -- A rule without findings complies; one whose findings are all suppressed has no data.
            WHEN expected.standard IS NULL AND statuses.control IS NULL THEN 'passed'
        END AS status
    FROM (SELECT DISTINCT account_id FROM statuses) AS accounts
    CROSS JOIN expected
    LEFT JOIN statuses
        ON statuses.account_id = accounts.account_id
        AND statuses.control = expected.control
        AND (expected.standard IS NULL OR list_contains(statuses.standards, expected.standard))
)
SELECT
    report,
    account_id,
    count(*) FILTER (status = 'passed') AS passed,
    count(*) FILTER (status = 'failed') AS failed,
    count(*) FILTER (status = 'unknown') AS unknown,
    CASE WHEN count(status) > 0
        THEN 100 * count(*) FILTER (status = 'passed') / count(status)
    END AS score
FROM controls
GROUP BY report, account_id;
