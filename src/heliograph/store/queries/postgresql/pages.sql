-- How long a row's texts are, in bytes: to count characters they would all have to be read.

-- shared: value_length
octet_length(value)

-- shared: log_length
octet_length(subject) + coalesce(octet_length(details), 0)

-- shared: details_length
coalesce(octet_length(details), 0)

-- shared: configuration_length
octet_length(configuration)

-- shared: subject_length
octet_length(subject)
