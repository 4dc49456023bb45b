-- What the user certificate of a private key says, as JSON.
ALTER TABLE birun_credentials ADD COLUMN certificate TEXT;
