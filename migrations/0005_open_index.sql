-- Rows in progress have an index of their own, in the same order as that of the others: a row that ends moves from the
-- one to the other, where it had to be taken out of the one place and put into another of the same index as well.

DROP INDEX requests_by_series;
DROP INDEX requests_open;
CREATE INDEX requests_by_series ON requests (series, timestamp) WHERE owner IS NULL;
CREATE INDEX requests_open ON requests (series, timestamp) WHERE owner IS NOT NULL;
