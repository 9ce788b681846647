-- How long a row's texts are, in characters.

-- shared: value_length
length(value)

-- shared: log_length
length(subject) + coalesce(length(details), 0)

-- shared: details_length
coalesce(length(details), 0)

-- shared: configuration_length
length(configuration)

-- shared: subject_length
length(subject)
