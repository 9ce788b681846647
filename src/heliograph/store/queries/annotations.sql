-- shared: annotation_columns
    identifier, sensor, text, starts_at, ends_at, attribute, author, created_at, changed_at

-- shared: annotations_wanted
FROM annotation
WHERE sensor = :sensor
AND (CAST(:end AS bigint) IS NULL OR starts_at < CAST(:end AS bigint))
AND (
    CAST(:start AS bigint) IS NULL
    OR starts_at >= CAST(:start AS bigint)
    OR ends_at > CAST(:start AS bigint)
)

-- name: annotations_list(sensor, start, end, offset, limit)
SELECT {annotation_columns}
{annotations_wanted}
ORDER BY starts_at, identifier
LIMIT :limit OFFSET :offset;

-- name: annotations_count(sensor, start, end)$
SELECT count(*) {annotations_wanted};

-- name: annotation_find(identifier, sensor)^
SELECT {annotation_columns} FROM annotation
WHERE identifier = :identifier AND sensor = :sensor;

-- name: annotation_create(identifier, sensor, text, starts_at, ends_at, attribute, author, created_at, changed_at)!
INSERT INTO annotation (
    identifier, sensor, text, starts_at, ends_at, attribute, author, created_at, changed_at
)
VALUES (
    :identifier, :sensor, :text, :starts_at, :ends_at, :attribute, :author, :created_at, :changed_at
);

-- name: annotation_change(identifier, text, starts_at, ends_at, attribute, changed_at)!
UPDATE annotation
SET
    text = :text,
    starts_at = :starts_at,
    ends_at = :ends_at,
    attribute = :attribute,
    changed_at = :changed_at
WHERE identifier = :identifier;

-- name: annotation_delete(identifier)!
DELETE FROM annotation WHERE identifier = :identifier;
